"""What goes wrong with drafts, each in a real loop: nothing is lost, nobody waits for ever, and the night goes on."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

from pens import CENTS, Mute, Pen, tried
from research_loop import desk as desk_module
from research_loop import edits
from research_loop.desk import Desk
from research_loop.drafts import Asked
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.proposers.drafting import Request
from research_loop.proposers.search import SearchProposer
from research_loop.records import Draft, Experiment, Proposal, Run, Usage
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing import disks
from research_loop.testing.labs import make_quick_lab

UNKNOWN = Usage()


def loop(lab: Lab, pens: list[Pen], experiments: int, proposer: object = None, **more: object) -> tuple[str, list[str]]:
    """Why it ended, and what it said."""
    notes: list[str] = []
    with Session(lab, LocalRunner()) as session:
        session.note = notes.append  # type: ignore[method-assign]
        with Desk(session, pens, **more) as desk:  # type: ignore[arg-type]
            return run_loop(session, proposer or SearchProposer(), Limits(experiments), desk), notes  # type: ignore[arg-type]


def pens(*turns: list[dict[str, object] | None]) -> list[Pen]:
    made = [Pen(one) for one in turns]
    for number, pen in enumerate(made):
        pen.name = f"pen {number}"
    return made


def depths(first: int) -> list[dict[str, object] | None]:
    return [{"DEPTH": first + k} for k in range(9)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("shared", ["mute", ""])
def test_a_stand_in_with_nothing_to_say_leaves_its_turn_to_the_drafters(lab: Lab, shared: str) -> None:
    writers = pens(depths(20)) if shared else pens([None, *depths(20)], [None, *depths(40)])
    ended, _ = loop(lab, writers, 5, Mute(), shared=shared)
    assert ended == "done" and len(tried(lab)) == 5


def waiting_draft(session: Session, name: str, value: float) -> int:
    """One for the baseline's code, of which the ledger knows; its number."""
    source = edits.replace(session.open().files["train.py"].decode(), {name: value}).encode()
    draft = Draft(Proposal({"train.py": source}, f"set {name}", "a guess", "none", "pen", 0), usage=CENTS)
    return session.record_draft(Asked("pen", 0, 5.0, 1.0, draft, session.begin_draft("pen", 0, 5.0))).id


def overtaken(session: Session, *rates: float) -> list[int]:
    """Drafts for the baseline, which is champion no more."""
    ensure_baseline(session)
    numbers = [waiting_draft(session, "MATRIX_LR", rate) for rate in rates]
    better = edits.replace(session.open().files["train.py"].decode(), {"DEPTH": 10}).encode()
    assert session.close(Proposal({"train.py": better}, "DEPTH 10", parent=0)).kept
    return numbers


@pytest.mark.skipif(bool(disks.missing()), reason=f"no small disk: {disks.missing()}")
def test_a_draft_that_a_full_disk_kept_from_being_carried_over_waits(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(lab, LocalRunner()) as session:
        (number,) = overtaken(session, 0.06)
    with disks.small_disk(tmp_path / "small") as disk, monkeypatch.context() as full:
        disks.fill(disk / "ballast")
        full.setattr(tempfile, "tempdir", str(disk))
        ended, notes = loop(lab, [], 2)
    assert ended == "done" and any("a draft waits for the next start: it could not be checked" in n for n in notes)
    loop(lab, [], 1)
    assert [e.draft for e in tried(lab) if e.draft] == [number]


def test_two_drafts_for_an_older_champion_are_both_carried_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "MOMENT", 0.0)  # so that the first is still being checked when one is taken again
    with Session(lab, LocalRunner()) as session:
        numbers = overtaken(session, 0.001, 0.002)
    assert loop(lab, [], 9, Mute())[0] == "nothing left to propose"
    assert [e.draft for e in tried(lab) if e.draft] == numbers


def test_a_draft_made_under_unsafe_does_not_run_without(tmp_path: Path) -> None:
    root = make_quick_lab(tmp_path / "lab", seconds=0.2).root
    (root / "lab.toml").write_text((root / "lab.toml").read_text().replace('sandbox = "none"\n', ""))
    lab = open_lab(root)
    with Session(lab, LocalRunner(), unsafe=True) as session:
        ensure_baseline(session)
        number = waiting_draft(session, "MATRIX_LR", 0.06)
    ended, notes = loop(lab, [], 1)
    assert ended == "done" and [e.draft for e in tried(lab)] == [None]
    assert "1 drafts of models or agents wait: nothing contains their code here" in notes
    assert [asked.id for asked in Ledger(lab.ledger_path, read_only=True).waiting_drafts()] == [number]


class Careless(Pen):
    """Its proposals are of nobody and of nothing, its numbers are odd."""

    def draft(self, request: Request) -> Draft:
        draft = super().draft(request)
        assert draft.proposal is not None
        return Draft(Proposal(draft.proposal.files, "odd"), usage=Usage(-(2**70), 2**70, float("nan"), "reported"))


def test_of_a_proposal_only_its_files_and_words_are_the_drafters(lab: Lab) -> None:
    assert loop(lab, [Careless([{"DEPTH": 10}])], 1)[0] == "done"
    (experiment,) = tried(lab)
    assert (experiment.parent, experiment.proposer) == (0, "pen")
    usage = Ledger(lab.ledger_path, read_only=True).drafts()[0].draft.usage
    assert (usage.tokens_in, usage.tokens_out, usage.usd, usage.cost) == (0, 2**53, None, "unknown")


@pytest.mark.parametrize("given", [None, Draft(Proposal({"train.py": "text"}, "")), Draft(None, None)])  # type: ignore[dict-item, arg-type]
def test_what_is_no_draft_at_all_ends_no_loop(lab: Lab, given: Draft) -> None:
    class Odd(Pen):
        def draft(self, request: Request) -> Draft:
            return given

    ended, notes = loop(lab, [Odd([])], 2)
    assert ended == "done" and any("a fault of this proposer" in note for note in notes)


def test_who_was_stopped_is_not_taken_for_one_that_never_says_a_cost(lab: Lab) -> None:
    class Stopped(Pen):
        def draft(self, request: Request) -> Draft:
            if not self.requests and self.requests.append(request) is None and request.stopped.wait(60):
                return Draft(None, "stopped", UNKNOWN, session="s1")
            return super().draft(request)

    pen, notes = Stopped(depths(20)), list[str]()
    with Session(lab, LocalRunner()) as session:
        session.note = notes.append  # type: ignore[method-assign]
        ensure_baseline(session)
        with Desk(session, [pen], usd=5.0) as desk:
            desk.tend(True)
            assert session.make_room(), "as for a full disk"
            assert run_loop(session, SearchProposer(), Limits(2), desk) == "done"
    assert len(pen.requests) > 1 and not any("asked no more" in note for note in notes)


@pytest.mark.timeout(60)
def test_who_cannot_be_asked_any_more_leaves_its_turn_to_the_others(lab: Lab) -> None:
    class Blind(Pen):
        """Proposes what is there, and says no cost."""

        def draft(self, request: Request) -> Draft:
            return Draft(Proposal(request.checkout.files, "nothing new"), usage=UNKNOWN)

    writers: list[Pen] = [Blind([]), Blind([]), Pen(depths(20))]
    for number, pen in enumerate(writers):
        pen.name = f"pen {number}"
    assert loop(lab, writers, 6, Mute(), usd=50.0)[0] == "done"
    assert {e.proposer for e in tried(lab)} == {"pen 2"}


def test_nothing_is_begun_after_a_stop_in_the_middle_of_a_proposal(lab: Lab) -> None:
    class Interrupted(SearchProposer):
        def propose(self, checkout, history):  # type: ignore[no-untyped-def]
            session.stopping, desk._records["pen"].until = True, 0.0
            return super().propose(checkout, history)

    late = Pen(depths(20), seconds=5.0)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        with Desk(session, [late]) as desk:
            desk._records["pen"].until = math.inf  # so that the search is asked first
            assert run_loop(session, Interrupted(), Limits(5), desk) == "stopped"
    assert late.requests == []


@pytest.mark.timeout(60)
def test_who_does_not_come_back_is_waited_for_no_longer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(Pen):
        def draft(self, request: Request) -> Draft:
            over.wait(60)
            return Draft(None, "late")

    over = threading.Event()
    for name, seconds in (("DRAFT_SECONDS", 0.5), ("OVERDUE_SECONDS", 0.5), ("CLOSING_SECONDS", 0.2)):
        monkeypatch.setattr(desk_module, name, seconds)
    ended, notes = loop(lab, [Deaf([])], 1)
    over.set()
    assert ended == "done" and len(tried(lab)) == 1 and any("had not ended" in note for note in notes)


def test_who_cost_too_much_before_is_named_with_the_sum(lab: Lab) -> None:
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        dear = Draft(None, "nothing", Usage(1, 1, 0.8, "reported"))
        session.record_draft(Asked("pen", 0, 5.0, 1.0, dear, session.begin_draft("pen", 0, 5.0)))
    assert (
        loop(lab, [Pen([])], 2, usd=1.0)[0] == "--cost has $1.00 left, where a draft that took up to $0.80 needs $1.20"
    )


@pytest.mark.timeout(120)
@pytest.mark.skipif(bool(disks.missing()), reason=f"no small disk: {disks.missing()}")
@pytest.mark.parametrize(("moment", "experiments"), [("start", 2), ("run", 1)])
def test_an_agent_that_fills_the_disk_is_ended_and_not_the_loop(tmp_path: Path, moment: str, experiments: int) -> None:
    class Filler(Pen):
        """Fills the disk from a certain moment on, until it is stopped."""

        def draft(self, request: Request) -> Draft:
            self.requests.append(request)
            goes_on = 1.0  # for so long after the stop
            while len(self.requests) == 1 and goes_on > 0:
                if session.runner.running if moment == "run" else session._queue:
                    disks.fill(disk / "ballast")
                time.sleep(0.001)
                goes_on -= 0.001 * request.stopped.is_set()
            if moment == "start":  # else the run's row has only what was kept back for it
                (disk / "ballast").unlink(missing_ok=True)
            return Draft(None, "stopped", Usage(0, 0, 0.0, "estimated"))

    with disks.small_disk(tmp_path / "disk") as disk:
        lab, filler, other = make_quick_lab(disk / "lab", seconds=1.0), Filler([]), Pen([None] * 9)
        other.name = "other"  # for one alone the last experiment would wait
        with Session(lab, LocalRunner()) as session:
            session.note = [].append  # type: ignore[method-assign]
            ensure_baseline(session)
            true = session.ledger.start_run

            def late(run: Run) -> Experiment:
                """Once the disk is full, where an agent is at it."""
                at_work = [request for request in filler.requests if moment == "run"]
                while at_work and not at_work[0].stopped.is_set() and shutil.disk_usage(disk).free:
                    time.sleep(0.01)
                return true(run)

            session.ledger.start_run = late  # type: ignore[method-assign]
            with Desk(session, [filler, other]) as desk:
                assert run_loop(session, SearchProposer(), Limits(experiments), desk) == "done"
        assert len(tried(lab)) == experiments and filler.requests[0].stopped.is_set()
