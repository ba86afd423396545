"""A lab's train.py without one of its parts at a time, or with other constants, beside the whole, seed by seed.

    ./uv run python benchmarks/ablations.py LAB [--budget 40] [--seeds 1 2 3] [--only windows tables]
        [--try "shallow: DEPTH=4 ASPECT_RATIO=192"] [--out ablations.jsonl]

All runs are one process, each with a model of its own, so that what is compiled is compiled once: on a GPU a run costs
two seconds beside its budget, and the first of a part 20 to 40 where its kernels are not there, which no budget counts.
Seeds are the order of the rows and the first weights. Prints a line a run, then the mean of each and the paired
difference to the whole, with the p of a t-test. What is in the file of results is not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib.util
import io
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch
from train_h100 import Done, digest, gpu_name, measure, told, true_mfu

from research_loop import edits
from research_loop.errors import ProposalError, ResearchLoopError
from research_loop.proposers.search.code_moves import RECIPES, code_moves

Change = Callable[[str], str]
WHOLE = "whole"


def constants(**values: object) -> Change:
    return lambda source: edits.replace(source, values)


def text(*pairs: tuple[str, str]) -> Change:
    """Raises SystemExit where a piece is not there once."""

    def change(source: str) -> str:
        for old, new in pairs:
            if source.count(old) != 1:
                raise SystemExit(f"train.py: {source.count(old)} times {old!r}, not once: mend this script's PARTS")
            source = source.replace(old, new)
        return source

    return change


def recipe(name: str) -> Change:
    """The search's move of that name; raises SystemExit where it does not apply."""

    def change(source: str) -> str:
        for move in code_moves(source, [one for one in RECIPES if one.name == name]):
            return move.source
        raise SystemExit(f"train.py: no place for {name!r}: mend the search's recipe, or leave this part out")

    return change


PARTS: Mapping[str, Change] = {
    "windows": constants(WINDOW_PATTERN="L"),
    "tables": constants(BIGRAM_ROWS=0, TRIGRAM_ROWS=0),
    "small batch": constants(TOTAL_BATCH_SIZE=2**19),
    "long warm-down": constants(WARMDOWN_RATIO=0.5, FINAL_LR_FRAC=0.0),
    "momentum's fall": text((", 2 * share - 1)", ")")),
    "gates": recipe("Value embeddings: no gate"),
    "value embeddings and tables": text(
        ("if i % 2 == (DEPTH - 1) % 2]", "if i < 0]"), ("(3, TRIGRAM_ROWS)}", "(3, 0)}")
    ),
    "NorMuon": recipe("Muon: no second moment of rows"),
    "cautious decay": recipe("Muon: plain weight decay instead of cautious"),
    "kernels": text(
        ("if HOPPER and x.dtype", "if False and x.dtype"),
        ("if CUDA:\n        return CappedNats", "if False:\n        return CappedNats"),
    ),
}
"""What train.py is without each. `kernels` are those of the MLP and the loss; torch.compile's take their place."""


class Bench:
    """A prepared lab's rows, for runs of any train.py of that lab within `budget` seconds each."""

    def __init__(self, lab: Path, budget: int) -> None:
        self.modules: dict[str, ModuleType] = {}
        self.prepare = load("prepare", lab / "prepare.py")
        self.prepare.TIME_BUDGET = budget
        self.rows = self.prepare.row_numbers

    def run(self, lab: Path, name: str, path: Path, budget: int, seed: int, gpu: str) -> Done:
        """Raises SystemExit with what the script said last where its loss is no number, and for what it raised."""
        gc.unfreeze()  # what a run that failed left behind
        gc.enable()
        gc.collect()
        torch.cuda.empty_cache()
        began, said = time.monotonic(), io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                if name not in self.modules:
                    self.modules[name] = load(path.stem, path)
                found = self.trained(self.modules[name], seed)
        except SystemExit as ended:
            last = [f"exit code {ended.code}", *said.getvalue().strip().splitlines()][-1]
            raise SystemExit(f"{name}: {ended.code if isinstance(ended.code, str) else last}") from None
        except Exception as error:  # whatever that script's own fault may be
            first = str(error).strip().partition("\n")[0]
            raise SystemExit(f"{name}: {type(error).__name__}: {first}") from None
        epochs = re.findall(r"\bepoch: (\d+)", said.getvalue())
        used = true_mfu(found, path.read_text(), (lab / "prepare.py").read_text(), budget)
        outside = time.monotonic() - began - found["training_seconds"]
        numbers = (found["val_bpb"], found["num_steps"], found["total_tokens_M"], None)
        memory, used = (found["peak_vram_mb"], used) if self.modules[name].CUDA else (None, None)
        more = {"true_mfu": used, "gpu": gpu, "epochs": int(epochs[-1]) if epochs else None}
        return Done(name, digest(lab, path), budget, seed, *numbers, memory, outside, **more)

    def trained(self, train: ModuleType, seed: int) -> dict[str, float]:
        """What the summary of one run says, as far as it is asked for here."""
        self.prepare.row_numbers = functools.partial(self.rows, seed=seed)
        torch.manual_seed(seed)
        if train.CUDA:
            torch.cuda.reset_peak_memory_stats()
        tokenizer, B, T = self.prepare.Tokenizer.from_directory(), train.DEVICE_BATCH_SIZE, train.MAX_SEQ_LEN
        if train.TOTAL_BATCH_SIZE % (B * T):
            sys.exit(f"TOTAL_BATCH_SIZE {train.TOTAL_BATCH_SIZE}: not a multiple of {B * T}, the tokens of one pass")
        model = train.GPT(tokenizer.get_vocab_size())
        batches = self.prepare.make_dataloader(tokenizer, B, T, "train")
        seconds, steps = train.train(model, batches, train.TOTAL_BATCH_SIZE // (B * T))
        found = {
            "training_seconds": seconds,
            "num_steps": steps,
            "total_tokens_M": steps * train.TOTAL_BATCH_SIZE / 1e6,
        }
        bpb = self.prepare.evaluate_bpb(model.eval(), tokenizer, B)
        if not math.isfinite(bpb):
            sys.exit(f"val_bpb is {bpb}")
        return {**found, "val_bpb": bpb, "peak_vram_mb": train.peak_memory_mb()}


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(lab: Path, parts: Sequence[str], tries: Sequence[str], folder: Path) -> dict[str, Path]:
    """Files of the scripts to be compared, by name; raises SystemExit for what cannot be made of the lab's train.py."""
    changes = {WHOLE: constants(), **{f"without {name}": PARTS[name] for name in parts}}
    scripts, whole = {}, lab / "train.py"
    source = whole.read_text() if whole.exists() else ""
    if not all(piece in source for piece in ("class GPT(", "\ndef train(", '\nif __name__ == "__main__":')):
        raise SystemExit(f"{whole}: no GPT and train() that can be imported: train_h100.py runs any script")
    try:
        for name, _, pairs in (one.partition(":") for one in tries):
            if not name or name in changes:
                raise ProposalError(f"--try: {name!r} is no name, or taken: give another before the colon")
            changes[name] = tried(pairs)
        for number, (name, change) in enumerate(changes.items()):
            scripts[name] = folder / f"train_{number}.py"
            scripts[name].write_text(change(source))
    except ResearchLoopError as error:
        raise SystemExit(str(error)) from None
    return scripts


def tried(pairs: str) -> Change:
    """Of `CONSTANT=VALUE ...`; raises ProposalError for what is none."""
    values = {name: edits.literal(value) for name, _, value in (pair.partition("=") for pair in pairs.split())}
    if not values:
        raise ProposalError("--try: no constant is given: write 'NAME: CONSTANT=VALUE ...'")
    return constants(**values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument(
        "--try", nargs="+", action="extend", dest="tries", default=[], metavar="'NAME: CONSTANT=VALUE ...'"
    )
    parser.add_argument("--out", type=Path, default=Path("ablations.jsonl"))
    given = parser.parse_args()
    if given.budget < 1 or min(given.seeds) < 0:
        parser.error("--budget is at least a second, and seeds are not below 0")
    if not (given.lab / "data" / "prepared.json").exists():
        raise SystemExit(f"{given.lab}: no prepared lab: `research-loop prepare {given.lab}` makes one ready")
    torch.set_float32_matmul_precision("high")  # as train.py's main does
    with tempfile.TemporaryDirectory() as place:
        scripts, bench = written(given.lab, given.only, given.tries, Path(place)), Bench(given.lab, given.budget)
        seeds = list(dict.fromkeys(given.seeds))
        done = measure(given.lab, scripts, [given.budget], seeds, given.out, gpu_name(), bench.run)
        told(done, scripts, len(seeds))


if __name__ == "__main__":
    main()
