"""What others took of a run's time: real runs beside real programs that want the same cores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from research_loop import verdict
from research_loop.lab import open_lab
from research_loop.loop import ensure_baseline
from research_loop.records import Experiment, Proposal, Run
from research_loop.runners.local import LocalRunner
from research_loop.runners.strain import Strain
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.views import Quiet
from runs import linux, make_job, run

pytestmark = pytest.mark.alone

BUSY = """
import time
LEVEL = 1.0
for step in range(6):
    print(f"step {step:05d} ({100 * (step + 1) / 6:.1f}%) | loss: 2.0", flush=True)
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        pass
print(f"---\\nval_bpb: {LEVEL:.6f}")
"""
LONGER = BUSY.replace("/ 6", "/ 12").replace("range(6)", "range(12)")
"""Several samples long even where the harness waits for a core too."""
CROWD = f"""
import os
for _ in range(8 * len(os.sched_getaffinity(0)) - 1):
    if os.fork() == 0:
        break
{LONGER}
"""


@contextmanager
def others() -> Iterator[None]:
    """Programs that want every core, four times over; in sessions of their own: Linux may share time by session."""
    spin = [sys.executable, "-S", "-c", "while True: pass"]
    busy = [subprocess.Popen(spin, start_new_session=True) for _ in range(4 * len(os.sched_getaffinity(0)))]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@linux
def test_what_others_take_of_its_cores_shows_and_what_it_takes_from_itself_does_not(tmp_path: Path) -> None:
    for _ in range(3):  # what else runs on this machine may be as busy beside the first and the last of them
        alone, beside, crowd = shares(tmp_path)
        if holds := beside > alone + verdict.SLOWED and crowd < beside - verdict.SLOWED:
            break
    assert holds, (alone, beside, crowd)


def shares(tmp_path: Path) -> tuple[float, float, float]:
    """Of a run by itself, one beside others, and one that is its own crowd."""
    runner = LocalRunner()
    alone = run(runner, make_job(tmp_path, LONGER)).waited_share
    with others():
        beside = run(runner, make_job(tmp_path, LONGER)).waited_share
    crowd = run(runner, make_job(tmp_path, CROWD)).waited_share
    runner.close()
    assert alone is not None and beside is not None and crowd is not None
    return alone, beside, crowd


@linux
def test_one_sample_says_nothing_about_what_others_took() -> None:
    strain = Strain(None)
    strain.sample([os.getpid()])
    assert strain.waited_share is None
    strain.sample([os.getpid()])
    assert strain.waited_share is not None


@dataclass
class Crowded(Quiet):
    """Has other programs run beside the first `times` runs of experiment 1."""

    times: int
    seen: list[str] = field(default_factory=list)
    _stack: list[object] = field(default_factory=list)

    def started(self, experiment: Experiment, run: Run) -> None:
        self.end()
        if (experiment.n, run.k) in [(1, k) for k in range(self.times)]:
            manager = others()
            manager.__enter__()
            self._stack.append(manager)

    def note(self, text: str) -> None:
        self.seen.append(text)

    def end(self) -> None:
        while self._stack:
            manager = self._stack.pop()
            manager.__exit__(None, None, None)  # type: ignore[attr-defined]


Begin = Callable[[int], Path]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """A lab with a baseline that had the machine to itself, for each attempt another; tests copy it."""

    @cache
    def begin(attempt: int) -> Path:
        lab = make_quick_lab(tmp_path_factory.mktemp("begun") / "lab", train=BUSY)
        text = (lab.root / "lab.toml").read_text().replace('noise = "none"', 'noise = "measured"')
        (lab.root / "lab.toml").write_text(text.replace("limit_seconds = 10.0", "limit_seconds = 60.0"))
        with Session(open_lab(lab.root), LocalRunner()) as session:
            assert ensure_baseline(session) is not None
        return lab.root

    return begin


@linux
@pytest.mark.parametrize(("times", "proposer", "slowed"), [(1, "search", 1), (3, "search", 2), (1, "user", 0)])
def test_a_run_that_others_slowed_is_repeated_and_not_judged_until_the_machine_stays_busy(
    tmp_path: Path, begun: Begin, times: int, proposer: str, slowed: int
) -> None:
    for attempt in range(3):  # what else runs on this machine may be as busy beside the baseline
        root = Path(shutil.copytree(begun(attempt), tmp_path / f"lab{attempt}", symlinks=True))
        found, seen = beside_others(root, times, proposer)
        outcomes = [run.result.outcome for run in found.runs if run.result]
        if outcomes == ["slowed"] * slowed + ["scored"]:
            break
    assert outcomes == ["slowed"] * slowed + ["scored"], outcomes
    assert found.scores == (9.0,) and found.verdict is not None and found.verdict.kind == "discard"
    for result in [one.result for one in found.runs][:slowed]:
        assert result is not None and result.score is None and "val_bpb 9.000000 does not count" in result.detail
    assert any("its threads waited for other programs" in text for text in seen) is bool(slowed), seen


def beside_others(root: Path, times: int, proposer: str) -> tuple[Experiment, list[str]]:
    """A worse experiment whose first runs have others beside them, and what was said."""
    watcher = Crowded(times)
    with Session(open_lab(root), LocalRunner(), [watcher]) as session:
        worse = BUSY.replace("LEVEL = 1.0", "LEVEL = 9.0")
        found = session.close(Proposal({"train.py": worse.encode()}, "worse", proposer=proposer, parent=0))
        watcher.end()
    return found, watcher.seen
