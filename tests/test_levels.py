"""Scores of several machines are compared by what ran on both, and by nothing else."""

from __future__ import annotations

import pytest

from research_loop.levels import levels
from research_loop.records import Experiment, History, Result, Run, Score, Verdict
from research_loop.views.text import best

KEEP = Verdict("keep", "better", "", 0.0)


def lab(*runs: tuple[int, str | None, float] | tuple[int, str | None, float, float]) -> History:
    """Experiment, machine, score and, where it is not 10, steps a second of each run, in their order in time."""
    made = {
        n: Experiment(n, f"change {n}", "", "", "search", n - 1 if n else None, "c", str(n), 0.0, verdict=KEEP)
        for n in sorted({run[0] for run in runs})
    }
    for at, (n, machine, value, *speed) in enumerate(runs):
        pace = speed[0] if speed else 10.0
        score = Score(value, "confirmed")
        result = Result("scored", "", "", score=score, seconds=1.0, steps_per_second=pace, machine=machine)
        run = Run(n, len(made[n].runs), 0, float(at), 1, 0.0, result)
        made[n] = Experiment(*(getattr(made[n], name) for name in FIELDS), (*made[n].runs, run), KEEP)
    return History(tuple(made.values()))


FIELDS = ("n", "what", "why", "risk", "proposer", "parent", "commit", "key", "created_at")


def test_on_one_machine_a_level_is_the_mean_score() -> None:
    assert levels(lab((0, "a", 1.0), (0, "a", 1.2), (1, "a", 0.9))) == {0: pytest.approx(1.1), 1: 0.9}
    assert levels(lab((0, None, 1.0))) == {0: 1.0}
    assert levels(History()) == {}


def test_another_machine_is_known_by_what_ran_on_both() -> None:
    moved = lab((0, "a", 1.0), (1, "a", 0.9), (1, "b", 0.8), (2, "b", 0.7))
    assert levels(moved) == {0: pytest.approx(0.9), 1: pytest.approx(0.8), 2: pytest.approx(0.7)}


def test_a_machine_may_be_known_through_a_third_one() -> None:
    moved = lab((0, "a", 1.0), (0, "b", 0.9), (1, "a", 0.95), (2, "b", 0.8), (2, "c", 0.5))
    assert levels(moved)[1] == pytest.approx(0.95 - 0.1 - 0.3)


def test_what_shares_nothing_with_the_champion_is_taken_as_it_is() -> None:
    assert levels(lab((0, "a", 1.0), (1, "b", 0.9))) == {0: 1.0, 1: 0.9}


def test_a_difference_from_a_baseline_elsewhere_allows_for_the_machines() -> None:
    moved = lab((0, "a", 1.0), (1, "a", 0.9), (1, "b", 0.8))
    assert "-0.100000, -11.11 % from the baseline, which ran on another machine" in best(moved, "val_bpb")


def test_a_run_at_half_the_speed_says_nothing_of_its_machine() -> None:
    slowed = lab((0, "a", 1.3, 5.0), (0, "a", 1.0), (0, "a", 1.0), (0, "a", 1.0), (0, "b", 0.9), (1, "a", 1.0))
    assert levels(slowed)[1] == pytest.approx(1.0) and levels(slowed)[0] == pytest.approx(1.0)
