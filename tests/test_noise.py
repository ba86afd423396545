"""The verdict is a pure function of what was measured."""

from __future__ import annotations

import math

import pytest

from research_loop.noise import Direction, better, judge
from research_loop.records import Experiment, Result, Run, Score, Verdict


def experiment(n: int, *results: Result, kept: bool = False) -> Experiment:
    runs = tuple(Run(n, k, 42, 0.0, result=result) for k, result in enumerate(results))
    verdict = Verdict("keep", "lower", "", 0.0) if kept else None
    return Experiment(n, "what", "", "", "search", None if n == 0 else 0, "c", "k", 0.0, runs, verdict)


def scored(value: float) -> Result:
    return Result("scored", score=Score(value))


CHAMPION = experiment(0, scored(1.0), kept=True)


@pytest.mark.parametrize(
    ("value", "direction", "kind"),
    [
        (0.9, "lower", "keep"),
        (1.0, "lower", "discard"),
        (1.1, "lower", "discard"),
        (0.9, "higher", "discard"),
        (1.0, "higher", "discard"),
        (1.1, "higher", "keep"),
    ],
)
def test_only_strictly_better_is_kept(value: float, direction: Direction, kind: str) -> None:
    verdict = judge(experiment(1, scored(value)), CHAMPION, "val_bpb", direction, 5.0)
    assert verdict is not None and verdict.kind == kind and verdict.decided_at == 5.0
    assert f"{value:.6f}" in verdict.detail and f"{value - 1:+.6f}" in verdict.detail


def test_nan_is_never_better() -> None:
    assert not better(math.nan, 1.0, "lower") and not better(1.0, math.nan, "higher")


def test_the_first_score_is_the_one_to_beat() -> None:
    verdict = judge(experiment(0, scored(2.0)), None, "val_bpb", "lower", 0.0)
    assert verdict is not None and (verdict.kind, verdict.reason) == ("keep", "baseline")


def test_a_crash_keeps_its_reason() -> None:
    verdict = judge(experiment(1, Result("crash", "oom", "CUDA out of memory")), CHAMPION, "val_bpb", "lower", 0.0)
    assert verdict is not None
    assert (verdict.kind, verdict.reason, verdict.detail) == ("crash", "oom", "CUDA out of memory")


@pytest.mark.parametrize("outcome", ["stopped", "lost"])
def test_a_run_that_was_stopped_or_lost_asks_for_another(outcome: str) -> None:
    assert judge(experiment(1, Result(outcome)), CHAMPION, "val_bpb", "lower", 0.0) is None  # type: ignore[arg-type]
    again = judge(experiment(1, Result(outcome), scored(0.5)), CHAMPION, "val_bpb", "lower", 0.0)  # type: ignore[arg-type]
    assert again is not None and again.kind == "keep"


def test_several_runs_are_judged_by_their_mean() -> None:
    verdict = judge(experiment(1, scored(0.9), scored(1.2)), CHAMPION, "val_bpb", "lower", 0.0)
    assert verdict is not None and verdict.kind == "discard"
