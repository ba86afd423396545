"""What a run gets to start with."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from research_loop import bytecode, jobs
from research_loop.errors import SandboxError
from research_loop.lab import open_lab
from research_loop.loop import ensure_baseline
from research_loop.records import Experiment, Result, Run, Score
from research_loop.runners.local import LocalRunner
from research_loop.sandbox import choose
from research_loop.session import Session
from research_loop.testing.labs import INSTANT, make_quick_lab


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A lab with a baseline, contained by bubblewrap."""
    try:
        choose("bubblewrap")
    except SandboxError as error:
        pytest.skip(str(error))
    root = make_quick_lab(tmp_path / "lab", train=INSTANT).root
    text = (root / "lab.toml").read_text()
    (root / "lab.toml").write_text(text.replace("[task]", '[task]\nsandbox = "bubblewrap"', 1))
    with Session(open_lab(root), LocalRunner()) as opened:
        ensure_baseline(opened)
        yield opened


def with_runs(experiment: Experiment, count: int, **changes: object) -> Experiment:
    runs = tuple(Run(1, k, 42, 0.0, result=Result("scored", score=Score(1.0))) for k in range(count))
    return replace(experiment, runs=runs, **changes)  # type: ignore[arg-type]


def fills(session: Session, experiment: Experiment, **options: bool) -> bool:
    """Whether what this run compiles is kept."""
    job = session.jobs.make(experiment, 7, 42, **options)
    session.jobs.clear(job)
    found = [before for before, word in zip(job.command, job.command[1:], strict=False) if word.endswith("/caches")]
    return found == ["--bind"]


def test_what_our_own_code_compiles_in_its_second_run_is_kept_for_later_runs(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = session.history.experiments[0]
    assert not fills(session, with_runs(baseline, 0), ours=True), "there is no GPU"
    monkeypatch.setattr(jobs, "first_gpu", lambda: 0)
    assert fills(session, with_runs(baseline, 0), ours=True)
    kernel = session.lab.state / "caches" / "kernel"
    kernel.write_bytes(bytes(1000))
    first, second, third = (with_runs(baseline, count, parent=0) for count in range(3))
    assert [fills(session, one, ours=True) for one in (first, second, third)] == [False, True, False]
    assert not fills(session, second, ours=False), "a model may have written it"
    assert not fills(session, second, ours=True, audit=True)
    assert kernel.exists()
    monkeypatch.setattr(jobs, "CACHES_MB", 0.0001)
    assert fills(session, second, ours=True) and not kernel.exists(), "they were too large to be copied for ever"


def test_code_is_ours_until_somebody_else_had_a_hand_in_it(session: Session) -> None:
    history = session.history
    assert history.ours("search/wide", 0) and not history.ours("claude", 0)
    theirs = replace(history.experiments[0], n=1, parent=0, proposer="claude")
    longer = replace(history, experiments=(*history.experiments, theirs))
    assert longer.ours("search", 0) and not longer.ours("search", 1)


def test_a_contained_run_reads_modules_that_were_compiled_for_the_lab(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "IMPORTS", "import colorsys")
    monkeypatch.setattr(bytecode, "lies_compiled", lambda module: False)
    session.jobs.compile_packages()
    place = bytecode.folder(session.lab.state, gpu=False)
    assert place is not None
    ask = "import colorsys, os, sys; print(sys.pycache_prefix, os.stat(colorsys.__cached__).st_size)"
    job = session.jobs.dry({}, session.history.experiments[0].commit, ("python", "-c", ask), 10.0)
    done = subprocess.run(job.command, env=job.environment, cwd=job.folder, capture_output=True, text=True)
    session.jobs.clear_dry()
    compiled = next(place.rglob("colorsys*.pyc"))
    assert done.stdout.split() == [str(place), str(compiled.stat().st_size)], done.stderr
    refused = f"open({str(compiled)!r}, 'ab')"
    job = session.jobs.dry({}, session.history.experiments[0].commit, ("python", "-c", refused), 10.0)
    done = subprocess.run(job.command, env=job.environment, cwd=job.folder, capture_output=True, text=True)
    session.jobs.clear_dry()
    assert "Read-only file system" in done.stderr
    job = session.jobs.dry({}, session.history.experiments[0].commit, ("/usr/bin/env", "python3"), 10.0)
    session.jobs.clear_dry()
    assert "PYTHONPYCACHEPREFIX" not in job.environment, "another Python has other modules"
