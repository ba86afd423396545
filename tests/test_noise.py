"""Sigma, and how often a rule keeps what changes nothing."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from research_loop import noise
from research_loop.config import LabConfig
from research_loop.noise import Sigma
from research_loop.records import Experiment, History, Result, Run, Score, Verdict
from research_loop.views.text import noise_line


def experiment(*values: float) -> Experiment:
    runs = tuple(Run(0, k, 42, 0.0, result=Result("scored", score=Score(value))) for k, value in enumerate(values))
    return Experiment(0, "what", "", "", "search", None, "c", "k", 0.0, runs)


def test_sigma_is_pooled_over_everything_that_was_run_twice() -> None:
    draw = random.Random(1)
    many = [experiment(*(draw.gauss(level, 0.003) for _ in range(3))) for level in (1.0, 1.1, 0.9) for _ in range(30)]
    sigma = noise.measure_sigma([*many, experiment(5.0)], 300.0)
    assert sigma is not None and sigma.repeats == 180 and sigma.degrees == 180.5
    assert sigma.value == pytest.approx(0.003, rel=0.15)


def test_what_was_measured_before_a_keep_counts_half() -> None:
    kept = Verdict("keep", "lower", "", 0.0)
    noisy, calm = experiment(1.0, 1.2), replace(experiment(1.0, 1.0001, 1.0002), verdict=kept)
    both = noise.measure_sigma([noisy, calm], 300.0)
    assert noise.squares([noisy]) == (pytest.approx(0.02), 1)
    assert noise.squares([noisy, calm]) == (pytest.approx(0.01, rel=1e-4), 2.5)
    assert both is not None and both.repeats == 3 and both.degrees == 3.0
    assert noise.squares([noisy, calm, calm, calm])[0] == pytest.approx(0.02 / 8, rel=1e-3)


def test_before_there_are_repeats_sigma_is_the_prior_of_the_budget() -> None:
    assert noise.measure_sigma([], 300.0) is None
    short, long = (noise.measure_sigma([experiment(1.0)], seconds) for seconds in (60.0, 300.0))
    assert short and long and short.value == pytest.approx(5 * long.value) and long.value == pytest.approx(0.13 / 300)


def test_scores_that_never_differ_leave_a_floor_that_no_digit_shows() -> None:
    sigma = noise.measure_sigma([experiment(*[2.0] * 2000)] * 500, 3e6)
    assert sigma is not None and sigma.value == 2e-6


def test_a_gap_is_measured_by_students_t() -> None:
    gap = noise.compare([0.9, 0.92], [1.0, 1.0, 1.0], Sigma(0.1, 4.0, 2), "lower")
    t = -0.09 / (0.1 * math.sqrt(1 / 2 + 1 / 3))
    assert gap.difference == pytest.approx(-0.09) and gap.p == pytest.approx(noise.chance_below(t, 4.0))
    assert noise.chance_below(-2.776445, 4.0) == pytest.approx(0.025, rel=1e-5)
    assert noise.compare([1.1], [1.0], Sigma(0.1, 4.0, 2), "higher").p < 0.5


def test_what_is_said_to_be_detectable_is_kept_on_two_runs() -> None:
    sigma = Sigma(0.002, 12.0, 10)
    least = noise.detectable(sigma)
    for share, step in ((1.01, "keep"), (0.99, "candidate")):
        gap = noise.compare([1 - share * least] * 2, [1.0] * 3, sigma, "lower")
        assert noise.next_step(gap, 2, 3) == step
        assert noise.next_step(gap, 1, 3) == "candidate", "one run alone proves nothing"


def test_the_rule_keeps_at_most_one_in_a_thousand_that_change_nothing() -> None:
    draw, kept = random.Random(7), 0
    for _ in range(600):
        champion = [draw.gauss(0, 1) for _ in range(3)]
        for _ in range(100):
            mine, step = [draw.gauss(0, 1)], ""
            while step not in ("keep", "discard"):
                gap = noise.compare(mine, champion, Sigma(1.0, 200.0, 198), "lower")
                step = noise.next_step(gap, len(mine), len(champion))
                if step in ("candidate", "champion"):
                    (champion if step == "champion" else mine).append(draw.gauss(0, 1))
            if step == "keep":
                kept, champion = kept + 1, mine
    assert kept <= 60, "of 60,000"


@pytest.mark.parametrize("scores", [[0.99], [1.001, 0.98], [1.2, 1.0, 1.1]])
def test_a_look_is_due_below_the_score_that_would_decide(scores: list[float]) -> None:
    sigma, champion = Sigma(0.01, 5.0, 4), [1.0, 1.01, 0.99]
    edge = noise.keeps_below(scores, champion, sigma, 0.01)
    for moved, less in ((-1e-6, True), (1e-6, False)):
        assert (noise.compare([*scores, edge + moved], champion, sigma, "lower").p < 0.01) is less
    assert noise.keeps_below([], champion, sigma, 0.01) == -math.inf, "one run keeps nothing"
    assert noise.keeps_below([0.9, 0.9], champion, sigma, 0.01) == math.inf, "it would be kept already"


def test_a_score_of_zero_is_a_score() -> None:
    sigma = noise.measure_sigma([experiment(0.0), experiment(0.0, 0.0)], 60.0)
    assert sigma is not None and sigma.value == noise.LEAST
    assert noise.compare([0.0], [0.0], sigma, "higher").p == 0.5
    mixed = noise.measure_sigma([experiment(0.0), experiment(1.0), experiment(2.0)], 60.0)
    assert mixed is not None and mixed.value == pytest.approx(0.13 / 60)


def test_status_promises_nothing_before_the_first_repeat() -> None:
    line = noise_line(History((experiment(1.0),)), LabConfig())
    assert "a guess before the first repeat" in line and "or more" not in line
    assert "1 repeats); two runs show differences of 0.0" in noise_line(History((experiment(1.0, 1.001),)), LabConfig())
    restless = experiment(1.0, 1.001)
    speeds = [
        replace(run, result=replace(run.result, steps_per_second=10.0 * run.k + 1))
        for run in restless.runs
        if run.result
    ]
    line = noise_line(History((replace(restless, runs=tuple(speeds)),)), LabConfig())
    assert "a guess before two runs of a code were equally fast" in line
