"""What a run gets to start with."""

from __future__ import annotations

import contextlib
import errno
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from research_loop import bytecode, edits, files, jobs, kernels, sandbox
from research_loop.errors import SandboxError
from research_loop.gpus import Gpu
from research_loop.lab import open_lab
from research_loop.ledger import Ledger
from research_loop.loop import ensure_baseline
from research_loop.records import Experiment, Proposal, Verdict
from research_loop.runners.local import LocalRunner
from research_loop.sandbox import choose
from research_loop.session import Session
from research_loop.testing.labs import INSTANT, make_quick_lab


def contained(place: Path, train: str, noise: str = "none", sandbox: str = "bubblewrap") -> Session:
    """Of a new lab whose runs are contained."""
    try:
        choose(sandbox)
    except SandboxError as error:
        pytest.skip(str(error))
    root = make_quick_lab(place / "lab", train=train).root
    text = (root / "lab.toml").read_text().replace('noise = "none"', f'noise = "{noise}"')
    (root / "lab.toml").write_text(text.replace('sandbox = "none"', f'sandbox = "{sandbox}"', 1))
    return Session(open_lab(root), LocalRunner())


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A lab with a baseline, contained by bubblewrap."""
    with contained(tmp_path, INSTANT) as opened:
        ensure_baseline(opened)
        yield opened


COMPILES = """
import os, pathlib
SHAPE = 8
SCORE = 1.0
place = pathlib.Path(os.environ["TRITON_CACHE_DIR"]).parent
place.mkdir(parents=True, exist_ok=True)
print("found", *sorted(path.name for path in place.iterdir()))
(place / f"of-{SHAPE}").write_text("a kernel")
print(f"---\\nval_bpb: {SCORE:.6f}")
"""


@pytest.fixture
def compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A lab whose runs compile for a GPU, with a baseline; a keep takes two runs."""
    monkeypatch.setattr(jobs, "first_gpu", lambda: 0)
    with contained(tmp_path, COMPILES, "measured") as opened:
        ensure_baseline(opened)
        yield opened


def tried(session: Session, shape: int, score: float, proposer: str = "search") -> tuple[str, list[str]]:
    """What came of a code with another shape and score; and what each of its runs found compiled."""
    checkout = session.open()
    source = edits.replace(checkout.files["train.py"].decode(), {"SHAPE": shape, "SCORE": score}).encode()
    experiment = session.close(
        Proposal({"train.py": source}, "another shape", proposer=proposer, parent=checkout.parent)
    )
    assert experiment.verdict is not None
    texts = [session.lab.log_path(experiment.n, run.k).read_text() for run in experiment.runs]
    return experiment.verdict.kind, [line for text in texts for line in text.splitlines() if line.startswith("found")]


def test_what_an_experiment_compiles_serves_its_next_runs_and_when_it_is_kept_all_later_ones(
    compiling: Session,
) -> None:
    assert tried(compiling, 9, 0.9) == ("keep", ["found of-8", "found of-8 of-9"])
    assert tried(compiling, 10, 1.1) == ("discard", ["found of-8 of-9"])
    assert [path.name for path in (compiling.lab.state / "runs").iterdir()] == ["replaced.caches"], "for who copies it"


def test_what_a_discarded_experiment_compiled_serves_later_ones_that_no_model_wrote(compiling: Session) -> None:
    assert tried(compiling, 10, 1.1) == ("discard", ["found of-8"])
    assert tried(compiling, 10, 1.2) == ("discard", ["found of-10 of-8"])
    assert tried(compiling, 10, 1.3, "claude") == ("discard", ["found of-8"])
    tried_before, champions = compiling.lab.state / "caches.tried", compiling.lab.state / "caches"
    assert not {path.name for path in tried_before.rglob("of-*")} & {path.name for path in champions.rglob("of-*")}
    assert tried(compiling, 10, 0.9) == ("keep", ["found of-10 of-8", "found of-10 of-8"])
    assert not list(tried_before.rglob("of-*")), "they are the champion's now"
    assert tried(compiling, 11, 1.1) == ("discard", ["found of-10 of-8"])


def experiment_of(session: Session, n: int, kind: str) -> Experiment:
    verdict = Verdict(kind, "", "", 0.0)  # type: ignore[arg-type]
    return replace(session.history.experiments[0], n=n, parent=0, verdict=verdict)


def compile_to(folder: Path | None, **made: str) -> None:
    assert folder is not None
    for name, text in made.items():
        (folder / name.replace("__in__", "/")).parent.mkdir(exist_ok=True, parents=True)
        (folder / name.replace("__in__", "/")).write_text(text)


def test_of_what_was_discarded_only_so_much_is_handed_on(compiling: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    held, place = compiling.jobs.kernels, compiling.lab.state / "caches.tried"
    monkeypatch.setattr(kernels, "MOST_TRIED_MB", 20 / 2**20)
    for n, text, left in (
        (1, "a kernel", {"1"}),
        (2, "a kernel", {"1", "2"}),
        (3, "a kernel", {"3"}),
        (4, "a" * 21, {"3"}),
    ):
        compile_to(held.own(experiment_of(compiling, n, "discard")), **{f"{n}__in__of": text})
        held.decided(experiment_of(compiling, n, "discard"), False)
        assert {path.name for path in place.iterdir()} == left


def test_what_was_tried_does_not_push_out_the_champions_kernels(
    compiling: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, champions = compiling.jobs.kernels, compiling.lab.state / "caches"
    monkeypatch.setattr(kernels, "MOST_MB", 2.5 * files.size_mb(champions))
    for n in (1, 2, 3):
        compile_to(held.own(experiment_of(compiling, n, "discard")), **{f"of-{n}": "a kernel"})
        held.decided(experiment_of(compiling, n, "discard"), False)
    compile_to(held.own(experiment_of(compiling, 4, "keep")), **{"of-4": "a kernel"})
    held.decided(experiment_of(compiling, 4, "keep"), True)
    assert held.offered() and sorted(path.name for path in champions.iterdir()) == ["of-4", "of-8"]
    assert sorted(path.name for path in (compiling.lab.state / "caches.tried").iterdir()) == ["of-1", "of-2", "of-3"]


def test_what_was_tried_beside_a_keep_is_not_lost(compiling: Session) -> None:
    held = compiling.jobs.kernels
    beside = held.own(experiment_of(compiling, 1, "keep"))
    compile_to(held.own(experiment_of(compiling, 2, "discard")), **{"of-2": "a kernel"})
    held.decided(experiment_of(compiling, 2, "discard"), False)
    compile_to(beside, **{"of-1": "a kernel"})
    held.decided(experiment_of(compiling, 1, "keep"), True)
    later = held.own(experiment_of(compiling, 3, "discard"))
    assert later and sorted(path.name for path in later.iterdir()) == ["of-1", "of-2", "of-8"]


def test_kernels_that_need_each_other_are_handed_on_together_and_their_list_last(
    compiling: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, place = compiling.jobs.kernels, compiling.lab.state / "caches.tried"
    compile_to(held.own(experiment_of(compiling, 1, "discard")), hash__in__cubin="a kernel")
    held.decided(experiment_of(compiling, 1, "discard"), False)
    compile_to(held.own(experiment_of(compiling, 2, "discard")), hash__in____grp__k="its list", hash__in__ptx="text")
    monkeypatch.setattr(kernels, "MOST_TRIED_MB", 1.5 * files.size_mb(place) + 12 / 2**20)
    held.decided(experiment_of(compiling, 2, "discard"), False)
    assert sorted(path.name for path in (place / "hash").iterdir()) == ["__grp__k", "cubin", "ptx"]
    moved: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: (moved.append(self.name), rename(self, to))[1])
    own = held.own(experiment_of(compiling, 3, "discard"))
    compile_to(own, other__in____grp__a="its list", other__in__b="a kernel", other__in__c="a kernel")
    held.decided(experiment_of(compiling, 3, "discard"), False)
    assert sorted(moved[1:3]) == ["b", "c"] and moved[3] == "__grp__a"


def test_an_experiment_that_compiled_nothing_replaces_no_kernels(compiling: Session) -> None:
    shutil.rmtree(compiling.lab.state / "caches")
    assert compiling.jobs.kernels.own(experiment_of(compiling, 1, "keep"))
    compiling.jobs.kernels.decided(experiment_of(compiling, 1, "keep"), True)
    assert not (compiling.lab.state / "caches").exists()


def test_what_a_models_code_compiles_serves_no_other_run(compiling: Session) -> None:
    assert tried(compiling, 9, 0.9, "claude") == ("keep", ["found of-8", "found of-8"])
    assert tried(compiling, 10, 1.1, "search") == ("discard", ["found of-8"])


@pytest.mark.parametrize("audit", [False, True])
def test_a_later_run_of_a_decided_code_hands_nothing_on(compiling: Session, audit: bool) -> None:
    baseline = compiling.history.experiments[0]
    command = compiling.jobs.make(baseline, 7, 42, ours=True, audit=audit).command
    assert "--bind" not in command and str(compiling.lab.state / "caches") in command


def test_kernels_of_more_than_can_be_copied_for_ever_are_not_offered(
    compiling: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "MOST_MB", 0.0)
    assert tried(compiling, 9, 0.9) == ("keep", ["found", "found of-9"])
    monkeypatch.undo()
    assert compiling.jobs.kernels.offered() is not None, "what was kept last replaced them"


def test_where_no_kernels_are_left_the_next_experiment_hands_on_its_own(compiling: Session) -> None:
    shutil.rmtree(compiling.lab.state / "caches")
    assert tried(compiling, 10, 1.1) == ("discard", ["found"])
    assert tried(compiling, 11, 1.1) == ("discard", ["found of-10"])


def found_again(session: Session, n: int) -> str:
    """What another run of experiment `n` finds compiled."""
    k = len(session.ledger.experiment(n).runs)
    session._queue.append(n)
    while len(session.ledger.experiment(n).runs) == k or session.runner.running:
        session.pump(timeout=1.0)
    lines = session.lab.log_path(n, k).read_text().splitlines()
    return next(line for line in lines if line.startswith("found"))


def test_a_champion_whose_kernels_are_lost_compiles_them_once(compiling: Session) -> None:
    """A lab that comes to another machine brings none."""
    shutil.rmtree(compiling.lab.state / "caches")
    assert [found_again(compiling, 0) for _ in range(2)] == ["found", "found of-8"]


def test_a_champion_takes_the_place_that_a_discarded_experiment_had_taken(compiling: Session) -> None:
    shutil.rmtree(compiling.lab.state / "caches")
    assert tried(compiling, 10, 1.1) == ("discard", ["found"])
    assert [found_again(compiling, 0) for _ in range(2)] == ["found", "found of-8"], (
        "a baseline compiles all of its own"
    )
    assert tried(compiling, 8, 1.3, "claude") == ("discard", ["found of-8"])


@pytest.mark.parametrize("step", ["decide", "decided"])
def test_a_champion_whose_kernels_went_with_its_harness_compiles_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        """Nobody handles it."""

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(jobs, "first_gpu", lambda: 0)
    with contextlib.suppress(Killed), contained(tmp_path, COMPILES, "measured") as opened:
        ensure_baseline(opened)
        with monkeypatch.context() as patch:
            patch.setattr(Ledger if step == "decide" else kernels.Kernels, step, killed)
            tried(opened, 9, 0.9)
    with Session(open_lab(tmp_path / "lab"), LocalRunner()) as again:
        while again.history.open:
            again.pump(timeout=1.0)
        assert again.history.champion and again.history.champion.n == 1
        assert [found_again(again, 1) for _ in range(2)] == ["found of-8", "found of-8 of-9"]
        assert tried(again, 9, 1.3, "claude") == ("discard", ["found of-8 of-9"])


def test_who_is_the_champion_no_more_hands_on_as_others_do(compiling: Session) -> None:
    """On two GPUs one may be kept while the champion before it is run again."""
    held, champions = compiling.jobs.kernels, compiling.lab.state / "caches"
    compile_to(held.own(experiment_of(compiling, 1, "keep")), **{"of-1": "a kernel"})
    compile_to(held.own(experiment_of(compiling, 2, "keep")), **{"of-2": "a kernel"})
    held.decided(experiment_of(compiling, 2, "keep"), True)
    held.decided(experiment_of(compiling, 1, "keep"), False)
    assert sorted(path.name for path in champions.iterdir()) == ["of-2", "of-8"]


def test_a_champion_whose_kernels_are_too_many_with_others_keeps_its_own(
    compiling: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shape 10 was tried before it was kept: which kernels are its own is known after one more run."""
    assert tried(compiling, 10, 1.1) == ("discard", ["found of-8"])
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "MOST_MB", 1.5 * files.size_mb(compiling.lab.state / "caches"))
        assert tried(compiling, 10, 0.9)[0] == "keep"
    assert tried(compiling, 10, 1.3, "claude") == ("discard", ["found of-8"])
    assert [found_again(compiling, 2) for _ in range(2)] == ["found of-10 of-8", "found of-10 of-8"]
    assert tried(compiling, 10, 1.4, "claude") == ("discard", ["found of-10 of-8"])


def test_under_landlock_nothing_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "first_gpu", lambda: 0)
    with contained(tmp_path, COMPILES, "measured", "landlock") as session:
        ensure_baseline(session)
        assert not (session.lab.state / "caches").exists()
        assert not list((session.lab.state / "runs").glob("*.caches"))


def test_without_room_for_a_copy_a_run_starts_with_the_champions_kernels(
    compiling: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(kernels.shutil, "copytree", full)
    assert tried(compiling, 9, 0.9) == ("keep", ["found of-8", "found of-8"])


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


def test_a_contained_run_gets_the_nodes_of_the_gpu_that_was_chosen_for_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []
    shown = sandbox._gpu
    monkeypatch.setattr(sandbox, "_gpu", lambda number: (seen.append(number), shown(number))[1])
    job = session.jobs.make(session.history.experiments[0], 7, 42, gpu=Gpu(5, "H100", "GPU-abc"))
    assert job.gpu is not None and (job.gpu.number, seen) == (5, [5])
    session.jobs.clear(job)
