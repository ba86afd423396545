"""Scores that differ from run to run: the loop runs again what could be luck, over real processes and a real ledger."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from research_loop import judging
from research_loop.judging import Judge
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.pairs import BASE_SEED
from research_loop.proposers.search import SearchProposer
from research_loop.records import Experiment, History, Proposal, Result, Run, Score
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.testing.promises import broken, users
from research_loop.views import Quiet
from research_loop.views.tsv import ResultsFile

NOISY = """# A run's score is its seed's and its own: `luck` says what each of its runs gets on top of LEVEL.
import os

LEVEL = 1.0
LUCK = "0"
run = int(os.environ["RESEARCH_LOOP_SEED"]) - 42
luck = {"0": [0.0, 0.0001, -0.0001], "once": [-0.004, 0.004], "true": [-0.01], "near": [-0.0006, -0.0005, -0.0004]}
mine = luck[LUCK]
print(f"val_bpb: {LEVEL + mine[run % len(mine)]:.6f}")
"""


@dataclass
class Notes(Quiet):
    """What the loop did, in order."""

    said: list[str] = field(default_factory=list)

    def started(self, experiment: Experiment, run: Run) -> None:
        self.said.append(f"{experiment.n}.{run.k} seed {run.seed}")

    def changed(self, experiment: Experiment, history: History) -> None:
        assert experiment.verdict is not None
        self.said.append(f"{experiment.n} {experiment.verdict.kind}")


@pytest.fixture
def noisy(tmp_path: Path) -> Lab:
    lab = make_quick_lab(tmp_path / "lab", train=NOISY)
    text = (lab.root / "lab.toml").read_text()
    text = text.replace('noise = "none"', 'noise = "measured"').replace("seconds = 5.0", "seconds = 600.0")
    (lab.root / "lab.toml").write_text(text.replace("limit_seconds = 10.0", "limit_seconds = 1200.0"))
    return open_lab(lab.root)


def session_of(lab: Lab, notes: Notes) -> Session:
    return Session(lab, LocalRunner(), [ResultsFile(lab.root / "results.tsv", lab.config.metric), notes])


def lucky(session: Session, luck: str) -> Experiment:
    checkout = session.open()
    source = checkout.files["train.py"].decode().replace('LUCK = "0"', f'LUCK = "{luck}"')
    return session.close(Proposal({"train.py": source.encode()}, luck, parent=checkout.parent))


def test_the_baseline_is_run_three_times_over_the_seeds_that_all_others_get(noisy: Lab) -> None:
    notes = Notes()
    with session_of(noisy, notes) as session:
        baseline = ensure_baseline(session)
        found = lucky(session, "true")
    assert baseline is not None and baseline.scores == (1.0, 1.0001, 0.9999)
    assert notes.said[:4] == [*(f"0.{k} seed {BASE_SEED + k}" for k in range(3)), f"1.0 seed {BASE_SEED}"]
    assert found.verdict is not None and (found.verdict.kind, found.verdict.reason) == ("keep", "lower")


def test_a_lucky_run_is_run_again_and_found_out(noisy: Lab) -> None:
    notes = Notes()
    text = (noisy.root / "lab.toml").read_text()  # a shorter budget, so a larger sigma to begin with
    (noisy.root / "lab.toml").write_text(text.replace("seconds = 600.0", "seconds = 60.0", 1))
    with session_of(open_lab(noisy.root), notes) as session:
        ensure_baseline(session)
        found = lucky(session, "once")
    assert found.verdict is not None and (found.verdict.kind, found.verdict.reason) == ("discard", "not-lower")
    assert len(found.scores) == 2


def test_a_second_look_is_for_every_score_that_speaks_for_a_models_code_and_for_the_deciding_one_of_ours(
    noisy: Lab,
) -> None:
    with session_of(noisy, Notes()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None and baseline.score is not None
        looks = Judge(noisy, session.ledger, session.repository).look_below
        assert looks(baseline) == math.inf, "never confirmed"
        scores = (Score(1.0, "confirmed"), Score(1.0, "challenged"))
        runs = tuple(Run(0, k, 42, 0.0, result=Result("scored", score=score)) for k, score in enumerate(scores))
        assert looks(replace(baseline, runs=runs)) == -math.inf, "its first run had one"
        assert looks(replace(baseline, runs=runs[1:])) == math.inf
        user = Experiment(-1, "", "", "", "user", 0, baseline.commit, "key", 0.0)
        assert looks(user) == looks(replace(user, runs=baseline.runs)) == baseline.score.value
        ours = replace(user, proposer="search")
        assert looks(ours) == -math.inf
        assert looks(replace(ours, runs=baseline.runs[:1])) < baseline.score.value
    first = Experiment(-1, "", "", "", "baseline", None, baseline.commit, "key", 0.0)
    with closing(Ledger(noisy.root / "another")) as empty:
        assert Judge(noisy, empty, session.repository).look_below(first) == math.inf


def test_a_near_miss_is_run_again_and_so_is_the_champion(noisy: Lab) -> None:
    notes, before = Notes(), users(noisy)
    with session_of(noisy, notes) as session:
        ensure_baseline(session)
        found = lucky(session, "near")
        champion = session.history.champion
    assert found.verdict is not None and len(found.scores) > 1, found
    assert any(line.startswith("0.3") for line in notes.said), notes.said
    assert champion is not None and broken(noisy, {}, before) == []


def test_a_champion_that_is_no_better_when_run_again_gives_way(noisy: Lab) -> None:
    notes, before = Notes(), users(noisy)
    with session_of(noisy, notes) as session:
        baseline = ensure_baseline(session)
        lucky(session, "true")
        champion = session.history.champion
        assert champion is not None and champion.n == 1
        source = (noisy.root / "train.py").read_text()
        assert '"true"' in source
    with closing(Ledger(noisy.ledger_path)) as ledger:  # as if its next runs had been as bad as this one was good
        for k, value in ((2, 1.02), (3, 1.03)):
            last = ledger.experiment(1).last
            assert last is not None and last.score is not None
            ledger.start_run(Run(1, k, BASE_SEED + k, 0.0))
            ledger.finish_run(1, k, Result("scored", score=type(last.score)(value), machine=last.machine))
    with session_of(noisy, notes) as session:
        assert session.history.champion is not None and baseline is not None
        assert session.history.champion.n == baseline.n
        taken = session.ledger.experiment(1)
        assert taken.verdict is not None and (taken.verdict.kind, taken.verdict.reason) == ("discard", "revised")
    assert "1 discard" in notes.said
    assert broken(noisy, {1: "discard"}, before) == []
    with session_of(noisy, Notes()) as session:
        assert session.history.champion is not None and session.history.champion.n == baseline.n


def test_a_restart_goes_on_with_the_run_that_a_verdict_waits_for(noisy: Lab) -> None:
    class Stopper(Notes):
        session: Session

        def started(self, experiment: Experiment, run: Run) -> None:
            super().started(experiment, run)
            if (experiment.n, run.k) == (1, 1):
                self.session.stopping = self.session.halted = True

    notes = Stopper()
    with session_of(noisy, notes) as session:
        notes.session = session
        ensure_baseline(session)
        assert lucky(session, "near").verdict is None
    again = Notes()
    with session_of(noisy, again) as session:
        run_loop(session, SearchProposer(), Limits(experiments=1))
        assert session.ledger.experiment(1).verdict is not None
    assert again.said[0].startswith("1."), again.said


def test_the_search_goes_on_over_repeats_and_the_table_holds_the_means(noisy: Lab) -> None:
    with session_of(noisy, Notes()) as session:
        ensure_baseline(session)
        lucky(session, "near")
    rows = (noisy.root / "results.tsv").read_text().splitlines()
    with closing(Ledger(noisy.ledger_path, read_only=True)) as ledger:
        scores = [e.score.value for e in ledger.history.experiments if e.score]
    assert [row.split("\t")[1] for row in rows[1:]] == [f"{value:.6f}" for value in scores]


def test_what_was_made_of_a_champion_that_was_caught_is_not_kept(noisy: Lab) -> None:
    with session_of(noisy, Notes()) as session:
        ensure_baseline(session)
        lucky(session, "true")
        checkout = session.open()
        better = checkout.files["train.py"].replace(b"LEVEL = 1.0", b"LEVEL = 0.5")
        child = session.submit(Proposal({"train.py": better}, "its child", parent=checkout.parent))
        last = session.ledger.experiment(1).last
        assert last is not None
        session.ledger.start_run(Run(1, 2, BASE_SEED + 2, 0.0))
        session.ledger.finish_run(1, 2, type(last)("rejected", "rejected:look-ahead", "it looked"))
        session._reconsider()
        found = session.finish(child.n)
        assert session.history.champion is not None and session.history.champion.n == 0
    assert found.verdict is not None
    assert (found.verdict.kind, found.verdict.reason) == ("discard", "rejected:look-ahead")


def test_a_champion_of_another_session_is_run_again_before_something_is_kept_over_it(noisy: Lab) -> None:
    with session_of(noisy, Notes()) as session:
        ensure_baseline(session)
    notes = Notes()
    with session_of(noisy, notes) as session:
        assert lucky(session, "true").kept
    assert notes.said[:3] == [f"1.0 seed {BASE_SEED}", f"1.1 seed {BASE_SEED + 1}", f"0.3 seed {BASE_SEED + 3}"]


def test_the_champion_is_run_again_every_so_many_runs(noisy: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "CHAMPION_EVERY", 2)
    notes = Notes()
    with session_of(noisy, notes) as session:
        ensure_baseline(session)
        for worse in range(3):
            source = session.open().files["train.py"].replace(b"LEVEL = 1.0", f"LEVEL = 1.{worse + 1}".encode())
            session.close(Proposal({"train.py": source}, "worse", parent=0))
    again = f"0.3 seed {BASE_SEED + 3}"
    assert notes.said[3:] == [f"{n}.0 seed {BASE_SEED}" for n in (1, 2)] + [again, "0 keep", f"3.0 seed {BASE_SEED}"]


def test_after_an_hour_without_a_run_the_champion_goes_first(noisy: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run on a cold machine would speak against whoever has it."""
    notes = Notes()
    with session_of(noisy, notes) as session:
        ensure_baseline(session)
        for passed in (judging.PAUSE_SECONDS - 60, judging.PAUSE_SECONDS + 1):
            with monkeypatch.context() as patch:
                patch.setattr(judging, "now", lambda passed=passed: time.time() + passed)
                source = session.open().files["train.py"].replace(b"LEVEL = 1.0", f"LEVEL = {passed}".encode())
                session.close(Proposal({"train.py": source}, "worse", parent=0))
    assert [said.split(" ")[0] for said in notes.said[3:] if "seed" in said] == ["1.0", "0.3", "2.0"]


@pytest.mark.parametrize("lost", [False, True])
def test_after_a_night_the_champion_goes_before_what_was_left_open(
    noisy: Lab, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Where the machine went down in a run, that is found hours later, and nobody knows when it ended."""
    notes = Notes()
    with session_of(noisy, notes) as session:
        ensure_baseline(session)
        source = session.open().files["train.py"].replace(b"LEVEL = 1.0", b"LEVEL = 1.1")
        n = session.submit(Proposal({"train.py": source}, "worse", parent=0)).n
        if lost:
            session.ledger.start_run(Run(n, 0, BASE_SEED, time.time()))
    night = time.time() + 8 * 3600
    for module in ("judging", "session"):
        monkeypatch.setattr(f"research_loop.{module}.now", lambda: night)
    with session_of(noisy, notes) as session:
        session.finish(n)
    firsts = [said.split(" ")[0] for said in notes.said[3:] if "seed" in said]
    assert firsts == ["0.3", f"{n}.{int(lost)}"]
