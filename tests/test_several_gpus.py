"""Several runs at once, a GPU each: what the loop, the ledger and the views make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from research_loop import edits
from research_loop.gpus import Gpu
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger, now
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.proposers.search import SearchProposer
from research_loop.records import Experiment, Proposal, Result, Run, Score, Verdict
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.tasks import Progress
from research_loop.testing.labs import make_quick_lab
from research_loop.views import Quiet
from research_loop.views.live import Live, LiveFile, read_live
from research_loop.views.terminal import PlainLines

TWO = (Gpu(3, "H100", "GPU-a"), Gpu(5, "H100", "GPU-b"))
TRAIN = r"""
import os, time
DEPTH = 8
RATE = 0.1
print("gpu", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
for step in range(5):
    time.sleep(0.1)
    print(f"step {step} ({20 * step:.1f}%) | loss: {2.0 / DEPTH:.4f} |", flush=True)
print(f"---\nval_bpb: {1.0 + RATE / DEPTH:.6f}\nnum_steps: 5\ntraining_seconds: 0.5")
"""


class Looking(Quiet):
    """Reads live.json whenever a run prints something."""

    def __init__(self, state: Path) -> None:
        self.state, self.seen = state, list[list[Live]]()

    def progressed(self, progress: Progress) -> None:
        self.seen.append(read_live(self.state))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_quick_lab(tmp_path / "lab", train=TRAIN)


def ran(lab: Lab, experiments: int, *watchers: Quiet, gpus: tuple[Gpu, ...] = TWO) -> tuple[Experiment, ...]:
    with Session(lab, LocalRunner(len(gpus)), watchers, gpus=gpus) as session:
        assert run_loop(session, SearchProposer(0), Limits(experiments)) == "done"
        return session.history.experiments


def test_two_experiments_run_at_once_on_a_gpu_each(lab: Lab) -> None:
    looking = Looking(lab.state)
    found = ran(lab, 6, LiveFile(lab.state, 5.0), looking)
    assert len(found) == 7 and all(e.verdict for e in found)
    assert {len(runs) for runs in looking.seen} == {1, 2}, "the baseline alone, then two"
    both = next(runs for runs in looking.seen if len(runs) == 2)
    assert both[0].n != both[1].n and both[0].what != both[1].what
    assert read_live(lab.state) == []
    assert {e.machine for e in found} == {"2 x H100 GPU-a GPU-b"}
    used = {e.n: lab.log_path(e.n, 0).read_text().split()[1] for e in found}
    assert set(used.values()) == {"GPU-a", "GPU-b"}
    first = sorted((e.runs[0].started_at, e) for e in found[1:])
    (began, one), (_, other) = first[0], first[1]
    assert used[one.n] != used[other.n]
    assert one.last is not None and first[1][0] < began + one.last.seconds, "they ran side by side"


def test_a_lab_that_ran_on_two_goes_on_with_one_and_runs_its_champion_again(tmp_path: Path) -> None:
    root = make_quick_lab(tmp_path / "lab", train=TRAIN).root
    (root / "lab.toml").write_text((root / "lab.toml").read_text().replace('noise = "none"', 'noise = "measured"'))
    lab = open_lab(root)
    ran(lab, 2)
    turns = [run.result.gpu for run in Ledger(lab.ledger_path, read_only=True).experiment(0).runs if run.result]
    assert turns[:3] == ["GPU-a", "GPU-b", "GPU-a"], "the baseline is alone and takes turns"
    again = ran(lab, 1, gpus=TWO[:1])
    assert len({run.result.machine for e in again for run in e.runs if run.result}) == 2
    assert all(e.verdict for e in again)


def test_a_second_run_waits_for_the_other_gpu_and_the_free_one_does_not_wait(tmp_path: Path) -> None:
    """The longer of two ends later: meanwhile a third begins where the shorter was, whose second run comes after."""
    root = make_quick_lab(tmp_path / "lab", train=TRAIN.replace("sleep(0.1)", "sleep(DEPTH / 40)")).root
    (root / "lab.toml").write_text((root / "lab.toml").read_text().replace('noise = "none"', 'noise = "measured"'))
    lab = open_lab(root)
    with Session(lab, LocalRunner(2), gpus=TWO) as session:
        ensure_baseline(session)
        source = session.open().files["train.py"].decode()

        def submit(depth: int) -> int:
            edited = edits.replace(source, {"DEPTH": depth, "RATE": depth * 0.001})  # far better, so run twice
            return session.submit(Proposal({"train.py": edited.encode()}, f"{depth}", parent=0)).n

        long, short = submit(40), submit(4)
        while not session.ledger.experiment(short).last:
            session.pump(1.0)
        assert session.room, "the second run of the short one is queued for the GPU of the long one"
        third = submit(39)
        session.pump(0.0)
        begun = {n: session.ledger.experiment(n).runs for n in (long, short, third)}
        assert [len(runs) for runs in begun.values()] == [1, 1, 1]
        for n in begun:
            session.finish(n)
        gpus = {n: [run.result.gpu for run in session.ledger.experiment(n).runs if run.result] for n in begun}
    assert gpus[long][0] == gpus[short][1] != gpus[short][0] == gpus[third][0]


def test_what_was_made_of_a_champion_that_is_caught_later_goes_with_it(lab: Lab) -> None:
    """It may be kept while its parent, a model's, is run again; the ledger is as such a night leaves it."""
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        checkout = session.open()
        commits = []
        for depth, parent in ((4, 0), (2, 1)):
            source = edits.replace(checkout.files["train.py"].decode(), {"DEPTH": depth}).encode()
            proposal = Proposal({"train.py": source}, f"DEPTH {depth}", proposer="a-model", parent=parent)
            commits.append(session._commit(proposal, {"train.py": source}))
            ledger, score = session.ledger, Score(1.0 - 1.0 / depth)
            row = Experiment(-1, proposal.what, "", "", "a-model", parent, commits[-1], f"key {depth}", now())
            n = ledger.propose(row).n
            ledger.start_run(Run(n, 0, 42, now()))
            ledger.finish_run(n, 0, Result("scored", score=score))
            ledger.decide(n, Verdict("keep", "lower", "", now()))
        ledger.start_run(Run(1, 1, 43, now()))
        ledger.finish_run(1, 1, Result("rejected", "rejected:look-ahead", "it looked ahead"))
    with Session(lab, LocalRunner()) as session:
        assert session.history.champion == session.history.baseline
        verdicts = {e.n: e.verdict for e in session.history.experiments}
        assert verdicts[1] and verdicts[1].detail == "when it was run again: it looked ahead"
        assert verdicts[2] and verdicts[2].detail == "made of experiment 1, which was caught"
        assert {v.reason for v in verdicts.values() if v and v.kind == "discard"} == {"rejected:look-ahead"}
        assert session.repository.tip(session.branch.ref) == session.history.experiments[0].commit


def test_nothing_left_is_said_when_nothing_is_open_that_could_be_kept(tmp_path: Path) -> None:
    """The keep takes longest: when it ends there is a step to make from it."""
    train = """
import time
DEPTH = 8
time.sleep(3 if DEPTH == 9 else 0.2)
score = 1.0 + 0.01 * (DEPTH - 14) ** 2 + (1 if DEPTH in (10, 11) else 0)
print(f"step 1 (50.0%) | loss: 2.0\\n---\\nval_bpb: {score:.6f}")
"""
    lab = make_quick_lab(tmp_path / "lab", train=train)
    with Session(lab, LocalRunner(2), gpus=TWO) as session:
        assert run_loop(session, SearchProposer(0), Limits(40)) == "nothing left to propose"
        assert not session.history.open and session.history.champion is not None
        assert SearchProposer(0).propose(session.open(), session.history) is None


def test_plain_lines_name_the_experiment_where_it_could_be_another(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(lab, 4, PlainLines("val_bpb", 5.0))
    out = capsys.readouterr().out.splitlines()
    verdicts = [line for line in out if "keep:" in line or "discard:" in line]
    assert verdicts[0].startswith("  keep:"), "the baseline is alone"
    assert any(line.split(": ")[0].strip().isdecimal() for line in verdicts[1:])


def test_a_lab_that_is_read_while_nothing_runs_has_no_live_run(tmp_path: Path) -> None:
    file = LiveFile(tmp_path, 5.0)
    experiment = Experiment(4, "what", "", "", "search", 0, "c", "k", 0.0)
    file.started(experiment, Run(4, 0, 42, 0.0))
    file.started(experiment, Run(4, 1, 42, 0.0))
    assert [run.n for run in read_live(tmp_path)] == [4]
    file.ended(experiment)
    assert read_live(tmp_path) == [] and not (tmp_path / "live.json").exists()
    (tmp_path / "live.json").write_text(json.dumps([1, 2, 3]))
    assert read_live(tmp_path) == []
