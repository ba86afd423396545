"""A loop over many experiments that is killed about every minute: what is lost, what grows, how long a restart takes.

    ./uv run python benchmarks/soak.py [--experiments 10000] [--kill-every 60] [--seconds 0] [--report FILE]

Prints a table. Kills come at random moments, the mean apart as given; the same command is started again each time.
Memory and descriptors are the harness's, sampled twice a second, and compared between the first and last tenth of the
experiments. Runs take `--seconds` each beside 30 ms for their processes.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from research_loop.testing.labs import make_quick_lab
from research_loop.testing.promises import acknowledged, broken, lost, users

SAMPLE_SECONDS = 0.5


@dataclass
class Soak:
    """What was seen so far."""

    told: dict[int, str] = field(default_factory=dict)
    kills: int = 0
    lost: list[str] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    samples: list[tuple[int, float, int]] = field(default_factory=list)
    """Experiments told of by then, MB resident, descriptors."""
    errors: list[str] = field(default_factory=list)


def go(soak: Soak, root: Path, experiments: int, kill_after: float) -> bool:
    """One harness, until it ends by itself (True) or is killed."""
    command = [sys.executable, "-m", "research_loop", "run", str(root), "--experiments", str(experiments)]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as harness:
        watch(soak, harness, started, kill_after)
        if harness.poll() is None:
            harness.kill()
            soak.kills += 1
            return False
        if harness.returncode:
            assert harness.stderr is not None
            soak.errors.append(harness.stderr.read().decode(errors="replace").strip()[-500:])
        return harness.returncode == 0


def watch(soak: Soak, harness: subprocess.Popen[bytes], started: float, kill_after: float) -> None:
    """Reads what it says, samples what it holds, and comes back when it has ended or is to be killed."""
    process, output = psutil.Process(harness.pid), b""
    assert harness.stdout is not None
    pipe, sampled, first = harness.stdout.fileno(), 0.0, None
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (now := time.monotonic() - started) < kill_after:
            if selector.select(SAMPLE_SECONDS):
                data = os.read(pipe, 1 << 20)
                if not data:
                    harness.wait()
                    break
                output += data
            if first is None and b"\nexperiment " in b"\n" + output:
                first = time.monotonic() - started
            if now - sampled > SAMPLE_SECONDS:
                sampled = now
                sample(soak, process, len(soak.told) + output.count(b"\nexperiment "))
    # a line that was cut by the kill told nobody anything
    soak.told.update(acknowledged(output[: output.rfind(b"\n") + 1].decode(errors="replace")))
    if first is not None:
        soak.restarts.append(first)


def sample(soak: Soak, process: psutil.Process, told: int) -> None:
    try:
        soak.samples.append((told, process.memory_info().rss / 2**20, process.num_fds()))
    except psutil.Error:
        return


def table(soak: Soak, root: Path, seconds: float, facts: list[str]) -> str:
    lab_rows = len(soak.told)
    ledger = root / ".research-loop" / "ledger.sqlite"
    first = [s for s in soak.samples if s[0] < 0.1 * lab_rows]
    last = [s for s in soak.samples if s[0] >= 0.9 * lab_rows]
    median, most = statistics.median(soak.restarts), max(soak.restarts)
    rows = {
        "experiments": f"{lab_rows} in {seconds:.0f} s",
        "kills": f"{soak.kills}",
        "rows told of and lost": f"{len(soak.lost)} {soak.lost[:5] or ''}".strip(),
        "promises broken at the end": "; ".join(facts) or "none",
        "errors of a start": "; ".join(soak.errors) or "none",
        "start to its first experiment": f"median {median:.2f} s, most {most:.2f} s",
        "harness memory, first tenth": held(first),
        "harness memory, last tenth": held(last),
        "ledger": f"{ledger.stat().st_size / lab_rows:.0f} bytes an experiment",
    }
    width = max(map(len, rows))
    return "\n".join(f"| {name:<{width}} | {value} |" for name, value in rows.items())


def held(samples: list[tuple[int, float, int]]) -> str:
    if not samples:
        return "no sample"
    memory, descriptors = [s[1] for s in samples], [s[2] for s in samples]
    median, most = statistics.median(memory), max(memory)
    return f"median {median:.1f} MB, most {most:.1f} MB; descriptors {min(descriptors)} to {max(descriptors)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--kill-every", type=float, default=60.0, help="mean seconds; 0: never")
    parser.add_argument("--seconds", type=float, default=0.0, help="what a run waits")
    parser.add_argument("--report", type=Path, help="the table goes there, too, after every kill")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dice, soak, started = random.Random(arguments.seed), Soak(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lab = make_quick_lab(Path(folder) / "lab", seconds=arguments.seconds)
        text = (lab.root / "lab.toml").read_text()
        (lab.root / "lab.toml").write_text(text.replace('"python", "train.py"', '"python", "-S", "train.py"'))
        before = users(lab)
        done = False
        while not done and len(soak.errors) < 3:
            left = arguments.experiments - len(soak.told)
            patience = dice.expovariate(1 / arguments.kill_every) if arguments.kill_every else float("inf")
            done = go(soak, lab.root, left, patience) if left > 0 else True
            soak.lost += lost(lab, soak.told)
            report(soak, lab.root, time.monotonic() - started, arguments.report, ["not looked at yet"])
        go(soak, lab.root, 1, float("inf"))
        facts = broken(lab, soak.told, before)
        report(soak, lab.root, time.monotonic() - started, arguments.report, facts)
        print(table(soak, lab.root, time.monotonic() - started, facts))


def report(soak: Soak, root: Path, seconds: float, path: Path | None, facts: list[str]) -> None:
    if path is not None and soak.restarts:
        path.write_text(table(soak, root, seconds, facts) + "\n")


if __name__ == "__main__":
    main()
