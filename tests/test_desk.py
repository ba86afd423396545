"""Drafts in the loop: real labs, runs and ledgers; the drafters here edit constants, at once or after a while."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pens import CENTS, Mute, Pen, tried
from research_loop import desk as desk_module
from research_loop import edits, proposers
from research_loop.desk import Desk
from research_loop.drafts import Asked
from research_loop.errors import ConfigError, ProposalError
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.proposers.drafting import Request
from research_loop.proposers.search import SearchProposer
from research_loop.records import Draft, Proposal, Usage
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab

KEY = "sk-dummy-0123456789abcdef"


def run(*arguments: object) -> str:
    """What the command line prints."""
    command = [sys.executable, "-m", "research_loop", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sum_makes_no_sense_where_nobody_costs_anything(lab: Lab) -> None:
    command = [sys.executable, "-m", "research_loop", "run", "--cost", "1", str(lab.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "--cost 1: search costs nothing" in done.stderr


Loop = Callable[..., str]


@pytest.fixture
def loop(lab: Lab, notes: list[str]) -> Iterator[Loop]:
    def run(pen: object, experiments: int, proposer: object = None, **money: object) -> str:
        with Session(lab, LocalRunner()) as session:
            session.note = notes.append
            with Desk(session, [pen], **money) as desk:
                return run_loop(session, proposer or SearchProposer(), Limits(experiments), desk)

    yield run


@pytest.fixture
def notes() -> list[str]:
    return []


def test_drafts_are_run_judged_and_recorded_with_what_they_cost(lab: Lab, loop: Loop) -> None:
    pen = Pen([{"DEPTH": 9}, {"MATRIX_LR": 0.001}, {"EMBEDDING_LR": 0.9}])
    assert loop(pen, 3) == "done"
    done, drafts = tried(lab), Ledger(lab.ledger_path, read_only=True).drafts()
    assert [(e.what, e.proposer, e.verdict and e.verdict.kind) for e in done] == [
        ("set {'DEPTH': 9}", "pen", "keep"),
        ("set {'MATRIX_LR': 0.001}", "pen", "discard"),
        ("set {'EMBEDDING_LR': 0.9}", "pen", "keep"),
    ]
    assert [e.draft for e in done] == [d.id for d in drafts][:3] and {d.draft.usage for d in drafts} == {CENTS}
    assert "set {'DEPTH': 9}" in pen.requests[-1].brief, "it is told what was tried"


def test_the_search_stands_in_while_a_draft_takes_its_time(lab: Lab, loop: Loop) -> None:
    loop(Pen([{"DEPTH": 100 + k} for k in range(9)], seconds=1.6), 8)
    authors = [e.proposer.split("/")[0] for e in tried(lab)]
    assert authors[0] == "search" and authors.count("search") > 1 and "pen" in authors, authors


def test_a_machine_waits_a_moment_for_a_draft_that_is_due(lab: Lab, loop: Loop) -> None:
    loop(Pen([{"DEPTH": 10}], seconds=0.3), 1)
    assert [e.proposer for e in tried(lab)] == ["pen"]


def test_a_loop_whose_search_is_at_its_end_waits_for_drafts(lab: Lab, loop: Loop) -> None:
    assert loop(Pen([{"DEPTH": 10}, {"MATRIX_LR": 0.05}], seconds=1.5), 2, Mute()) == "done"
    assert len(tried(lab)) == 2


def test_a_drafter_that_fails_again_and_again_rests_and_the_search_goes_on(
    lab: Lab, loop: Loop, notes: list[str]
) -> None:
    pen = Pen([None] * 50)
    loop(pen, 4)
    assert len(pen.requests) == 3 and len(tried(lab)) == 4
    assert "no proposal: pen: the server is down" in notes
    assert any(note.startswith("pen: rests for 10 min after 3 drafts in a row") for note in notes)
    assert [d.draft.detail for d in Ledger(lab.ledger_path, read_only=True).drafts()] == ["the server is down"] * 3


def test_a_drafter_with_a_fault_of_its_own_ends_no_loop(lab: Lab, loop: Loop, notes: list[str]) -> None:
    class Broken(Pen):
        def draft(self, request: Request) -> Draft:
            raise KeyError("usage")

    assert loop(Broken([]), 2) == "done"
    assert any("KeyError: 'usage': a fault of this proposer" in note for note in notes)


def drafted(desk: Desk, session: Session) -> None:
    """Until one more draft is there."""
    before = len(session.ledger.drafts())
    desk.tend(True)
    while len(session.ledger.drafts()) == before:
        desk.wait()
        desk.tend(False)


def test_a_draft_that_was_paid_for_survives_a_kill_before_its_run(lab: Lab, loop: Loop) -> None:
    loop(Pen([]), 0)
    with Session(lab, LocalRunner()) as session:
        drafted(Desk(session, [Pen([{"DEPTH": 10}])]), session)
    assert tried(lab) == []
    loop(Pen([]), 1)
    (experiment,) = tried(lab)
    assert experiment.what == "set {'DEPTH': 10}" and experiment.draft == 1


@pytest.mark.parametrize("other", ["WARMDOWN_RATIO", "MATRIX_LR", "DEPTH"])
def test_a_draft_for_the_champion_before_is_carried_over_where_it_fits(
    lab: Lab, loop: Loop, notes: list[str], other: str
) -> None:
    loop(Pen([]), 0)
    with Session(lab, LocalRunner()) as session:
        session.note = notes.append
        desk, first = Desk(session, [Pen([{other: 7}])]), session.open()
        drafted(desk, session)
        source = edits.replace(first.files["train.py"].decode(), {"DEPTH": 9})
        session.close(Proposal({"train.py": source.encode()}, "DEPTH 9", parent=first.parent))
        taken = desk.take(session.open())
    if other == "DEPTH":
        assert taken is None and "does not fit the new champion's code" in notes[-1]
    else:
        assert taken is not None and taken.parent == 1
        assert taken.files["train.py"].decode() == edits.replace(source, {other: 7})


def test_a_loop_ends_before_its_drafts_have_cost_more_than_they_may(lab: Lab, loop: Loop) -> None:
    pen = Pen([{"DEPTH": depth} for depth in (3, 4, 5, 6, 7)])
    assert loop(pen, 99, usd=1.0) == "--cost has $0.25 left, where a draft that took up to $0.25 needs $0.38"
    assert len(pen.requests) == 3, "a fourth might have cost 0.375, and 0.25 was left"
    assert [request.usd for request in pen.requests] == [1.0, 0.75, 0.5]
    assert len(tried(lab)) >= 3, "what was paid for was run"


def test_who_never_says_a_cost_is_asked_no_more_and_the_search_goes_on(lab: Lab, loop: Loop, notes: list[str]) -> None:
    pen = Pen([{"DEPTH": 3}, {"DEPTH": 4}], usage=Usage(10, 10))
    assert loop(pen, 4, usd=1.0) == "done" and len(pen.requests) == 1
    assert any("does not say what it costs, so --cost cannot be held" in note for note in notes)
    assert [e.proposer for e in tried(lab)].count("pen") == 1


def test_a_server_that_never_answered_once_ends_no_night(lab: Lab, loop: Loop) -> None:
    pen = Pen([None, {"DEPTH": 10}, {"DEPTH": 11}], usage=Usage())
    assert loop(pen, 3, usd=1.0) == "done" and len(pen.requests) > 1


def test_a_draft_whose_cost_was_lost_is_taken_for_the_dearest(lab: Lab, loop: Loop) -> None:
    class Forgetful(Pen):
        def draft(self, request: Request) -> Draft:
            draft = super().draft(request)
            return replace(draft, usage=Usage()) if len(self.requests) == 2 else draft

    pen = Forgetful([{"DEPTH": 3}, {"MATRIX_LR": 0.001}, {"EMBEDDING_LR": 0.1}, {"WARMDOWN_RATIO": 0.1}])
    assert loop(pen, 99, usd=1.0) == "--cost has $0.25 left, where a draft that took up to $0.25 needs $0.38"
    assert [request.usd for request in pen.requests] == [1.0, 0.75, 0.5]


def test_a_stop_is_told_to_the_draft_in_the_making_and_not_only_after_the_run(tmp_path: Path) -> None:
    lab, pen, running = make_quick_lab(tmp_path / "lab", seconds=3.0), Pen([{"DEPTH": 10}], seconds=60), []
    with Session(lab, LocalRunner()) as session, Desk(session, [pen]) as desk:

        def stop() -> None:
            while not (pen.requests and session.runner.running):
                time.sleep(0.05)
            session.stopping = True
            running.append(pen.requests[0].stopped.wait(10) and session.runner.running)

        stopper = threading.Thread(target=stop)
        stopper.start()
        began = time.monotonic()
        assert run_loop(session, SearchProposer(), Limits(), desk) == "stopped"
        stopper.join()
    assert time.monotonic() - began < 30 and running == [1]
    (draft,) = Ledger(lab.ledger_path, read_only=True).drafts()
    assert draft.draft.detail == "stopped" and draft.draft.usage == CENTS, "and what it cost is known"


def test_a_bandit_shares_the_loop_between_a_drafter_and_the_search(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "shared", seconds=0.05)
    pen = Pen([{"MATRIX_LR": 0.001 * k} for k in range(1, 99)])
    with Session(lab, LocalRunner()) as session, Desk(session, [pen], shared="search") as desk:
        run_loop(session, SearchProposer(), Limits(14), desk)
    authors = {e.proposer.split("/")[0] for e in tried(lab)}
    assert authors == {"pen", "search"}


def test_the_search_by_name_is_the_search_alone(lab: Lab) -> None:
    run("run", "--proposer", "search", "--experiments", 1, lab.root)
    assert tried(lab)[0].proposer.startswith("search/")


def test_names_of_proposers_are_checked_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="search takes nothing behind a colon"):
        proposers.choose(["search:fast"], 0)
    with pytest.raises(ConfigError, match="no proposer named 'nobody'"):
        proposers.choose(["nobody"], 0)
    found, drafters, shared = proposers.choose([], 3)
    assert (found.name, drafters, shared) == ("search", [], False)


def test_status_and_show_say_what_drafts_cost(lab: Lab, loop: Loop) -> None:
    loop(Pen([{"DEPTH": 10}, None, {"DEPTH": 3}]), 2)
    status = run("status", lab.root)
    assert "drafts: 3 asked for, 2 proposals, 3,300 tokens, $0.7500, 1 kept, $0.7500 each" in status
    assert json.loads(run("status", "--json", lab.root))["drafts"]["usd"] == 0.75
    assert "drafted in 0 s, 1,000 tokens read, 100 written, $0.2500 (reported)" in run("show", 1, lab.root)


def test_nobody_is_paid_for_code_that_nothing_would_contain(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=0.2)
    text = (lab.root / "lab.toml").read_text()
    assert 'sandbox = "none"' in text
    (lab.root / "lab.toml").write_text(text.replace('sandbox = "none"\n', ""))
    lab = open_lab(lab.root)
    with Session(lab, LocalRunner()) as session, pytest.raises(ProposalError, match="not contained, so no model"):
        Desk(session, [Pen([])])
    with Session(lab, LocalRunner(), unsafe=True) as session:
        Desk(session, [Pen([])])


def test_a_draft_that_a_kill_cut_off_is_recorded_at_the_next_start(lab: Lab, loop: Loop) -> None:
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        session.begin_draft("pen", 0, 5.0)
    assert loop(Pen([]), 0) == "done"
    (lost, *_) = Ledger(lab.ledger_path, read_only=True).drafts()
    assert lost.draft.detail == "the harness ended while it was made" and lost.draft.usage.usd is None
    assert "of unknown cost" in run("status", lab.root)


def test_a_draft_that_never_ends_is_recorded_all_the_same(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(Pen):
        def draft(self, request: Request) -> Draft:
            over.wait(60)
            return Draft(None, "stopped")

    over = threading.Event()
    monkeypatch.setattr(desk_module, "CLOSING_SECONDS", 0.5)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        with Desk(session, [Deaf([])]) as desk:
            desk.tend(True)
    over.set()
    (draft,) = Ledger(lab.ledger_path, read_only=True).drafts()
    assert "had not ended" in draft.draft.detail and draft.draft.usage.usd is None


def test_keys_of_the_environment_come_neither_into_the_ledger_nor_onto_the_screen(
    lab: Lab, loop: Loop, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaky(Pen):
        def draft(self, request: Request) -> Draft:
            draft = super().draft(request)
            if draft.proposal is None:
                return replace(draft, detail=f"wrong key {KEY[:10]}...")
            files = {**draft.proposal.files}
            if len(self.requests) == 2:
                files = {"train.py": files["train.py"] + f"\n# {KEY}\n".encode()}
            return replace(draft, proposal=replace(draft.proposal, files=files, why=f"use {KEY} twice"), session=KEY)

    monkeypatch.setenv("SOME_API_KEY", KEY)
    loop(Leaky([{"DEPTH": 9}, {"DEPTH": 10}, None]), 5)
    first, second, third = Ledger(lab.ledger_path, read_only=True).drafts()[:3]
    assert first.draft.proposal is not None and first.draft.proposal.why == "use [key] twice"
    assert second.draft.proposal is None and "holds one of the keys" in second.draft.detail
    assert third.draft.detail == "wrong key [key]"
    assert KEY[:8].encode() not in lab.ledger_path.read_bytes() and KEY[:8] not in " ".join(notes)


def test_a_draft_for_a_champion_before_the_start_is_carried_over_too(lab: Lab, loop: Loop) -> None:
    with Session(lab, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None
        source = edits.replace(session.open().files["train.py"].decode(), {"MATRIX_LR": 0.06}).encode()
        proposal = Proposal({"train.py": source}, "set MATRIX_LR", "a guess", "none", "pen", 0)
        number = session.begin_draft("pen", 0, 5.0)
        session.record_draft(Asked("pen", 0, 5.0, 1.0, Draft(proposal), number))
        better = edits.replace(session.open().files["train.py"].decode(), {"DEPTH": 10}).encode()
        assert session.close(Proposal({"train.py": better}, "DEPTH 10", parent=0)).kept
    loop(Pen([]), 1)
    carried = tried(lab)[1]
    assert carried.draft == number and carried.parent == 1
    assert Ledger(lab.ledger_path, read_only=True).waiting_drafts() == ()


def test_a_draft_that_cannot_be_carried_over_is_said_once(lab: Lab, loop: Loop, notes: list[str]) -> None:
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        source = edits.replace(session.open().files["train.py"].decode(), {"DEPTH": 9}).encode()
        proposal = Proposal({"train.py": source}, "DEPTH 9", "a guess", "none", "pen", 0)
        session.record_draft(Asked("pen", 0, 5.0, 1.0, Draft(proposal), session.begin_draft("pen", 0, 5.0)))
        better = edits.replace(session.open().files["train.py"].decode(), {"DEPTH": 10}).encode()
        assert session.close(Proposal({"train.py": better}, "DEPTH 10", parent=0)).kept
    for _ in range(2):
        loop(Pen([]), 1)
    assert sum("does not fit the new champion's code" in note for note in notes) == 1


def test_the_last_experiment_waits_for_the_one_drafter_that_was_named(lab: Lab, loop: Loop) -> None:
    loop(Pen([{"DEPTH": 10}], seconds=2.0), 1)
    assert [e.proposer for e in tried(lab)] == ["pen"]


def test_a_failing_drafter_leaves_its_turn_to_the_others(lab: Lab) -> None:
    bad, good = Pen([None] * 9), Pen([{"DEPTH": 20 + k} for k in range(9)])
    bad.name, good.name = "bad", "good"
    with Session(lab, LocalRunner()) as session:
        session.note = [].append  # type: ignore[method-assign]
        with Desk(session, [bad, good]) as desk:
            run_loop(session, SearchProposer(), Limits(6), desk)
    assert sum(e.proposer == "good" for e in tried(lab)) >= 3 and len(bad.requests) < 8
