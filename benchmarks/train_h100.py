"""Training scripts side by side: same data, same budget, same machine, in turn, seed by seed.

    ./uv run python benchmarks/train_h100.py LAB [--train NAME=FILE ...] [--budgets 100] [--seeds 1 2 3]

LAB is prepared; its prepare.py and data serve all, with the budget written into a copy. Without `--train` it is
upstream's recipe (stock_train.py) against the lab's train.py. Every run is a process of its own, uncontained, as
`uv run train.py` by hand would be, with the compiled kernels that torch and Triton keep on the machine: a script's
first run is cold only where they have none of it, and `outside` is to be read so. Prints a line a run, then means over
seeds, paired differences to the first script with the p of a t-test, and the least budget at which a script's mean is
as good as the first one's at its largest. Runs of the same code on the same kind of GPU that the file of results has
(--out) are not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy import stats

from research_loop import edits
from research_loop.proposers.search import couplings
from research_loop.scoring import read_summary

ROOT = Path(__file__).parents[1]
REACHED = 798e12
"""FLOP/s of a large bf16 product on an H100, measured; a script's own count is of 989e12."""
UNTIMED_STEPS = 10
"""Of a script that has no constant of this name, or one that depends on the machine; the lab's on a GPU."""
OUTSIDE_LIMIT_SECONDS = 900
"""What a run may take beside its budget: several times what a cold start and an evaluation do."""
GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')"


@dataclass(frozen=True)
class Done:
    """One run. `outside` is its wall clock less the budget, in seconds; tokens in millions; `code` is its digest;
    `true_mfu` is in per cent of REACHED, of timed steps; `gpu` is a name or "cpu"; `epochs` is the last that the log
    counts. Older files have neither of these two. None is what the script does not print."""

    name: str
    code: str
    budget: int
    seed: int
    bpb: float
    steps: float | None
    tokens: float | None
    mfu: float | None
    vram_mb: float | None
    outside: float
    true_mfu: float | None = None
    gpu: str | None = None
    epochs: int | None = None

    def line(self) -> str:
        counts, shares = f"{cell(self.steps, 0)} | {cell(self.tokens)}", f"{cell(self.mfu)} | {cell(self.true_mfu)}"
        return (
            f"| {self.name} | {self.budget} | {self.seed} | {self.bpb:.6f} | {counts} "
            f"| {shares} | {cell(self.vram_mb, 0)} | {self.outside:.1f} |"
        )


def cell(value: float | None, places: int = 1) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def gpu_name() -> str:
    """Asked in a process of its own, which leaves nothing on the GPU that is measured."""
    return subprocess.run([sys.executable, "-c", GPU], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def run(lab: Path, name: str, train: Path, budget: int, seed: int, gpu: str) -> Done:
    """Raises SystemExit for a script that prints no score, with the end of its log, and for one that does not end."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        source = edits.replace((lab / "prepare.py").read_text(), {"TIME_BUDGET": budget}, "prepare.py")
        (work / "prepare.py").write_text(source)
        shutil.copyfile(train, work / "train.py")
        (work / "data").symlink_to((lab / "data").resolve())
        began = time.monotonic()
        environment = {**os.environ, "RESEARCH_LOOP_SEED": str(seed), "PYTHONUNBUFFERED": "1"}
        # into a file: a pipe would be waited for while any process that the script left behind holds it
        with (work / "run.log").open("wb") as log:
            call = {"cwd": work, "env": environment, "stdout": log, "stderr": subprocess.STDOUT}
            try:
                ended = subprocess.run([sys.executable, "train.py"], timeout=budget + OUTSIDE_LIMIT_SECONDS, **call)
            except subprocess.TimeoutExpired as late:
                raise SystemExit(f"{name}: still running {late.timeout:.0f} s after its start, stopped") from None
        seconds = time.monotonic() - began
        said = (work / "run.log").read_text(errors="replace")
    lines = said.replace("\r", "\n").splitlines()
    found = read_summary(lines, "val_bpb", "peak_vram_mb")
    if ended.returncode or "val_bpb" not in found:
        raise SystemExit("\n".join([f"{name}: exit code {ended.returncode}, no score:", *lines[-15:]]))
    keys = ("num_steps", "total_tokens_M", "mfu_percent", "peak_vram_mb")
    numbers = [found["val_bpb"], *map(found.get, keys)]
    used = true_mfu(found, train.read_text(), source, budget)
    epochs = re.findall(r"\bepoch: (\d+)", said)
    more = {"gpu": gpu, "epochs": int(epochs[-1]) if epochs else None}
    return Done(name, digest(lab, train), budget, seed, *numbers, seconds - budget, used, **more)


def true_mfu(found: dict[str, float], train: str, prepare: str, budget: int) -> float | None:
    """In per cent of REACHED, over the seconds that the script says it trained for, else the budget; None where its
    summary has no steps or no tokens, or its constants are not upstream's."""
    steps, tokens = found.get("num_steps"), found.get("total_tokens_M")
    if steps is None or tokens is None or (flops := true_flops(train, prepare)) is None:
        return None
    timed = tokens * 1e6 * max(0.0, 1 - untimed_steps(train) / max(steps, 1.0))
    return 100 * timed * flops / (found.get("training_seconds") or budget) / REACHED


def untimed_steps(train: str) -> int:
    found = edits.constants(train).get("UNTIMED_STEPS")
    return int(found.value) if found else UNTIMED_STEPS


def true_flops(train: str, prepare: str) -> float | None:
    """A token's, forward and backward: six a weight of blocks and head, and attention to what a query does see; None
    where the constants that say so are not there."""
    values = {name: found.value for text in (train, prepare) for name, found in edits.constants(text).items()}
    if not values.keys() >= {*couplings.SHAPE, "MAX_SEQ_LEN", "WINDOW_PATTERN", "VOCAB_SIZE"}:
        return None
    depth, tokens, pattern = int(values["DEPTH"]), int(values["MAX_SEQ_LEN"]), str(values["WINDOW_PATTERN"])
    width = couplings.width(depth, int(values["ASPECT_RATIO"]), int(values["HEAD_DIM"]))
    letters = [pattern[i % len(pattern)] for i in range(depth - 1)] + ["L"]
    short, blocks = min(int(values.get("SHORT_WINDOW", tokens // 2)), tokens), "blocks_of(" in train
    seen = sum(tokens_seen(tokens if letter == "L" else short, tokens, blocks) for letter in letters)
    return 6.0 * width * (12 * depth * width + int(values["VOCAB_SIZE"])) + 12.0 * width * seen


def tokens_seen(window: int, tokens: int, blocks: bool) -> float:
    """By a query on average, of a row cut into blocks of `window`, or of a window that slides."""
    if blocks:
        return (window + 1) / 2
    return (window * (window + 1) / 2 + (tokens - window) * window) / tokens


def digest(lab: Path, train: Path) -> str:
    """Of all that a run is made of but data, budget, seed, machine and packages."""
    return hashlib.sha256(train.read_bytes() + (lab / "prepare.py").read_bytes()).hexdigest()[:12]


def read(out: Path, codes: Mapping[str, str], gpu: str) -> list[Done]:
    """The file's runs of this code on such a GPU; says how many are of others, whose scores are not to be pooled."""
    known = []
    for number, line in enumerate(out.read_text().splitlines(), 1):
        try:
            known.append(Done(**json.loads(line)))
        except (ValueError, TypeError):
            raise SystemExit(f"{out}: line {number} is no run: take it out, or name another --out") from None
    same = [one for one in known if one.code == codes.get(one.name)]
    for other in sorted({one.gpu or "" for one in same} - {gpu}):
        count = sum((one.gpu or "") == other for one in same)
        print(f"{out}: runs of this code on {other or 'a GPU not named'} stand aside ({count}), since this is {gpu}\n")
    return [one for one in same if one.gpu == gpu]


def measure(
    lab: Path,
    trains: Mapping[str, Path],
    budgets: Sequence[int],
    seeds: Sequence[int],
    out: Path,
    gpu: str,
    make: Callable[[Path, str, Path, int, int, str], Done] = run,
) -> list[Done]:
    """Runs in turn, as `make` makes them, but for those that the file has; each is written there as it ends.

    A script that fails is said and left out from there on; where it is the first, nothing is left to compare with.
    Raises SystemExit where the file or a script cannot be.
    """
    if missing := [str(train) for train in trains.values() if not train.is_file()]:
        raise SystemExit(f"{missing[0]}: no such script")
    try:
        out.open("a").close()
    except OSError as error:
        raise SystemExit(f"--out {out}: {error.strerror}") from None
    codes = {name: digest(lab, train) for name, train in trains.items()}
    done = {(one.name, one.budget, one.seed): one for one in read(out, codes, gpu)}
    print("| script | budget, s | seed | val_bpb | steps | M tokens | MFU %, own count | true | VRAM, MB | s outside |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    sound = dict(trains)
    for seed, budget, name in itertools.product(seeds, budgets, trains):
        if name in sound and (name, budget, seed) not in done:
            try:
                done[name, budget, seed] = one = make(lab, name, sound[name], budget, seed, gpu)
            except SystemExit as ended:
                print(ended, file=sys.stderr, flush=True)
                del sound[name]
                if name == next(iter(trains)):
                    break
                continue
            with out.open("a") as file:
                file.write(json.dumps(asdict(one)) + "\n")
        if name in sound:
            print(done[name, budget, seed].line(), flush=True)
    wanted = itertools.product(seeds, budgets, trains)
    return [done[name, budget, seed] for seed, budget, name in wanted if (name, budget, seed) in done]


def told(done: list[Done], trains: Collection[str], runs: int) -> None:
    """Prints the summary; raises SystemExit where a script has fewer runs than that."""
    if any(one.name == next(iter(trains)) for one in done):
        print(f"\n{summary(done)}")
    counts = Counter(one.name for one in done)
    if short := [f"{name} ({counts[name]} of {runs} runs)" for name in trains if counts[name] < runs]:
        raise SystemExit(f"not all was run: {', '.join(short)}")


def summary(done: list[Done]) -> str:
    """Means over the seeds that the first script has, too, and what they are beside its own, seed by seed."""
    first = done[0].name
    budgets = sorted({one.budget for one in done})
    found = {(one.name, one.budget, one.seed): one.bpb for one in sorted(done, key=lambda one: one.seed)}
    theirs = {(budget, seed): bpb for (name, budget, seed), bpb in found.items() if name == first}
    scores: dict[tuple[str, int], list[float]] = {}
    lines = []
    for name, budget in itertools.product(dict.fromkeys(one.name for one in done), budgets):
        shared = [seed for one, at, seed in found if (one, at) == (name, budget) and (at, seed) in theirs]
        if not shared:
            continue
        values = scores[name, budget] = [found[name, budget, seed] for seed in shared]
        differences = [found[name, budget, seed] - theirs[budget, seed] for seed in shared]
        p = stats.ttest_1samp(differences, 0.0).pvalue if name != first and len(values) > 1 else float("nan")
        mean, beside = statistics.fmean(values), statistics.fmean(differences)
        lines.append(f"{name}, {budget} s: {mean:.6f}, {beside:+.6f} beside {first} (p {p:.2g}, {len(values)} seeds)")
    last = max(budget for name, budget in scores if name == first)
    goal = statistics.fmean(scores[first, last])
    for name in dict.fromkeys(name for name, _ in scores) if len(budgets) > 1 else ():
        enough = [at for at in budgets if (name, at) in scores and statistics.fmean(scores[name, at]) <= goal]
        lines.append(f"{name}: {first}'s {goal:.6f} within {enough[0]} s" if enough else f"{name}: not as good in any")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path)
    parser.add_argument("--train", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("train_h100.jsonl"))
    arguments = parser.parse_args()
    pairs = arguments.train or [f"stock={ROOT / 'benchmarks' / 'stock_train.py'}", f"ours={arguments.lab / 'train.py'}"]
    trains = {name: Path(file) for name, _, file in (pair.partition("=") for pair in pairs)}
    done = measure(arguments.lab, trains, sorted(arguments.budgets), arguments.seeds, arguments.out, gpu_name())
    told(done, trains, len(arguments.seeds) * len(arguments.budgets))


if __name__ == "__main__":
    main()
