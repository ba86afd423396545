"""What the harness costs: seconds between runs, memory over many experiments, start-up with a long ledger.

    ./uv run python benchmarks/loop_overhead.py [--experiments 1000] [--rows 10000] [--cpu-lab FOLDER]

Prints a table. The runs are of the quick lab (a second each by default, shorter with --seconds); with --cpu-lab the
gaps of a real lab's ledger are printed as well.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from research_loop.ledger import Ledger
from research_loop.testing.labs import make_quick_lab

CLI = [sys.executable, "-m", "research_loop"]


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def soak(folder: Path, experiments: int, seconds: float) -> None:
    """Runs the loop over a quick lab and samples the harness's memory, descriptors and threads."""
    lab = make_quick_lab(folder / "soak", seconds=seconds)
    harness = subprocess.Popen([*CLI, "run", lab.root, "--experiments", str(experiments)], stdout=subprocess.DEVNULL)
    samples: list[tuple[float, int]] = []
    while harness.poll() is None:
        time.sleep(0.5)
        try:
            samples.append((memory_mb(harness.pid), len(list(Path(f"/proc/{harness.pid}/fd").iterdir()))))
        except OSError:
            break
    history = Ledger(lab.ledger_path, read_only=True).history
    first, peak = samples[min(4, len(samples) - 1)], max(sample[0] for sample in samples)
    print(f"{len(history.experiments)} experiments of {seconds} s each:")
    print(f"  harness {first[0]:.0f} MB at first, {peak:.0f} MB at most")
    print(f"  descriptors {min(s[1] for s in samples)} to {max(s[1] for s in samples)}")
    gaps(lab.root)


def gaps(root: Path) -> None:
    """Between the end of a run and the start and first step of the next, from the ledger's own times."""
    history = Ledger(root / ".research-loop" / "ledger.sqlite", read_only=True).history
    runs = [run for e in history.experiments for run in e.runs if run.result is not None]
    pairs = [(b.started_at - a.started_at - a.result.seconds, b) for a, b in itertools.pairwise(runs) if a.result]
    starts = [gap for gap, _ in pairs if gap < 60]
    steps = [gap + b.result.startup_seconds for gap, b in pairs if gap < 60 and b.result and b.result.startup_seconds]
    for name, values in (("next run started", starts), ("next run's first step", steps)):
        if values:
            print(f"  end of a run to {name}: median {statistics.median(values):.3f} s, most {max(values):.3f} s")


def long_ledger(folder: Path, rows: int) -> None:
    """Times `status` and the start of `run` with `rows` experiments in the ledger, beside `--help` alone."""
    lab = make_quick_lab(folder / "long", seconds=0.1)
    subprocess.run([*CLI, "run", lab.root, "--experiments", "1"], stdout=subprocess.DEVNULL, check=True)
    db = sqlite3.connect(lab.ledger_path)
    for table, key in (
        ("experiments", "n"),
        ("runs", "n, k"),
        ("results", "n, k"),
        ("traces", "n, k"),
        ("verdicts", "n"),
    ):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        rest = ", ".join(c for c in columns if c not in key.split(", "))
        numbered = f"WITH RECURSIVE c(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < {rows - 1}) "
        select = f"SELECT i, {'0, ' if 'k' in key else ''}{rest} FROM c, {table} WHERE {table}.n = 1"
        db.execute(f"INSERT INTO {table} ({key}, {rest}) {numbered} {select}")
    db.execute("DROP TRIGGER no_update_experiments")
    db.execute("UPDATE experiments SET code_key = code_key || n WHERE n > 1")
    db.commit()
    db.close()
    commands = {
        "--help": ["--help"],
        "status": ["status", lab.root],
        "run, no experiment": ["run", lab.root, "--hours", "0"],
    }
    for name, command in commands.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([*CLI, *map(str, command)], stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - start)
        print(f"{rows} experiments, {name}: median {statistics.median(times):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--cpu-lab", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        long_ledger(Path(folder), arguments.rows)
        soak(Path(folder), arguments.experiments, arguments.seconds)
    if arguments.cpu_lab:
        print(f"{arguments.cpu_lab}:")
        gaps(arguments.cpu_lab)


if __name__ == "__main__":
    main()
