"""Where the time went, added up over runs."""

from __future__ import annotations

import pytest

from research_loop.records import Experiment, History, Result, Run, Score, Verdict, VerdictKind
from research_loop.views.accounting import Account, account
from research_loop.views.text import early_stop_line


def history_of(*runs: tuple[float, Result | None]) -> History:
    made = tuple(Run(0, k, 42, began, result=result) for k, (began, result) in enumerate(runs))
    return History((Experiment(0, "what", "", "", "search", None, "c", "k", 0.0, made),))


def scored(seconds: float, training: float | None, ready: float | None) -> Result:
    return Result("scored", score=Score(1.0), seconds=seconds, training_seconds=training, ready_seconds=ready)


def test_the_parts_of_all_runs_and_the_gaps_between_them_add_up() -> None:
    crash = Result("crash", "oom", seconds=10.0)
    found = account(history_of((0.0, scored(100.0, 60.0, 85.0)), (103.0, crash), (115.0, scored(90.0, 60.0, 80.0))), 60)
    assert (found.training, found.starting, found.evaluating) == (120.0, 45.0, 25.0)
    assert (found.failing, found.waiting, found.total) == (10.0, 5.0, 205.0)
    assert found.line().startswith("time: 59 % training, 22 % starting, 12 % evaluating, 5 % in runs without a score")


def test_a_night_between_two_sessions_is_not_waiting() -> None:
    found = account(history_of((0.0, scored(10.0, 5.0, 9.0)), (9000.0, scored(10.0, 5.0, 9.0)), (9011.0, None)), 5)
    assert found.waiting == 1.0


def test_a_run_that_went_down_with_its_machine_counts_for_nothing() -> None:
    """It is found at the next start, hours later."""
    lost = Result("lost", "lost", seconds=9000.0)
    found = account(history_of((0.0, lost), (9001.0, scored(10.0, 5.0, 9.0))), 5)
    assert (found.failing, found.training, found.waiting, found.total) == (0.0, 5.0, 1.0, 11.0)


def test_runs_side_by_side_wait_for_nobody() -> None:
    """Two GPUs: one run each, then another pair, of which the second began two seconds after its GPU was free."""
    runs = [(0.0, 100.0), (5.0, 100.0), (100.5, 90.0), (107.0, 90.0)]
    found = account(history_of(*((began, scored(seconds, 60.0, 70.0)) for began, seconds in runs)), 60)
    assert (found.training, found.waiting, found.total) == (240.0, 2.5, 382.5)
    idle = [(0.0, 100.0), (0.0, 10.0), (11.0, 39.0), (100.5, 50.0), (101.0, 50.0)]
    found = account(history_of(*((began, scored(seconds, 5.0, 6.0)) for began, seconds in idle)), 60)
    assert found.waiting == 1.0 + 0.5 + 51.0, "a place is taken once"


def test_a_run_that_claims_to_have_trained_for_longer_than_it_lasted_is_not_believed() -> None:
    found = account(history_of((0.0, scored(10.0, 500.0, 9.0))), 5)
    assert (found.training, found.starting, found.evaluating) == (9.0, 0.0, 1.0)
    assert account(History(), 5).line() == ""


def test_runs_cut_short_and_what_became_of_the_spared_are_counted() -> None:
    def experiment(n: int, kind: VerdictKind, reason: str, result: Result) -> Experiment:
        verdict = Verdict(kind, reason, "", 0.0)
        return Experiment(n, "w", "", "", "search", 0, "c", "k", 0.0, (Run(n, 0, 42, 0.0, result=result),), verdict)

    cut = experiment(1, "discard", "curve", Result("cut", "curve", hopeless_at=0.4))
    spared = experiment(2, "discard", "not-lower", Result("scored", score=Score(2.0), hopeless_at=0.4))
    wrong = experiment(3, "keep", "lower", Result("scored", score=Score(0.5), hopeless_at=0.8))
    fine = experiment(4, "discard", "noise", Result("scored", score=Score(1.0)))
    text = "early stop: 1 hopeless runs cut short; 2 spared, 1 of these kept"
    assert early_stop_line(History((cut, spared, wrong, fine))) == text
    assert early_stop_line(History((fine,))) == ""


@pytest.mark.parametrize(("seconds", "said"), [(40, "1 min"), (3599, "60 min"), (3600, "1.0 h"), (36_000, "10.0 h")])
def test_time_is_told_in_minutes_as_long_as_it_is_not_an_hour(seconds: float, said: str) -> None:
    assert Account(seconds, 0, 0, 0, 0).line() == f"time: 100 % training, of {said}"
