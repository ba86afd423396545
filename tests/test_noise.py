"""The verdict is a pure function of what was measured."""

from __future__ import annotations

import math

import pytest

from research_loop.noise import Direction, allowed_exam_seconds, allowed_seconds, better, judge
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


def committed(seconds: float | None, value: float = 0.5) -> Result:
    return Result("scored", score=Score(value), committed_seconds=seconds)


def test_the_baseline_sets_how_long_a_run_may_take_until_it_is_scored() -> None:
    assert allowed_seconds(experiment(0, committed(24.0), kept=True), 20.0) == 20 + 1.25 * 4 + 5
    assert allowed_seconds(experiment(0, committed(18.0), kept=True), 20.0) == 25
    assert allowed_seconds(experiment(0, committed(310.0), kept=True), 300.0) == 300 + 1.25 * 10 + 15
    assert allowed_seconds(experiment(0, committed(None), kept=True), 20.0) == math.inf
    assert allowed_seconds(None, 20.0) == math.inf


@pytest.mark.parametrize(("seconds", "kind"), [(39.0, "keep"), (41.0, "discard"), (None, "keep")])
def test_a_run_that_took_too_long_is_not_kept_however_good(seconds: float | None, kind: str) -> None:
    verdict = judge(experiment(1, committed(seconds)), CHAMPION, "val_bpb", "lower", 0.0, allowed=40.0)
    assert verdict is not None and verdict.kind == kind
    assert kind == "keep" or (verdict.reason == "overtime" and "41.0 s" in verdict.detail)


def test_an_exam_that_takes_far_longer_than_the_baselines_is_overtime() -> None:
    def answers(first: float, whole: float) -> Result:
        return Result(
            "scored", score=Score(1.0), ready_seconds=10.0, committed_seconds=10.0 + first, exam_seconds=whole
        )

    baseline = experiment(0, answers(4.0, 20.0), kept=True)
    for first, share in ((1.0, 2.0), (4.0, 2.0), (8.0, 3.0), (100.0, 4.0)):
        assert allowed_exam_seconds(baseline, answers(first, 0.0), 300.0) == share * 20 + 15
    assert allowed_exam_seconds(None, answers(1.0, 1.0), 300.0) == math.inf
    slow = experiment(1, Result("scored", score=Score(0.5), exam_seconds=41.0))
    for allowed, kind in ((40.0, "discard"), (42.0, "keep")):
        verdict = judge(slow, CHAMPION, "val_bpb", "lower", 0.0, allowed_exam=allowed)
        assert verdict is not None and verdict.kind == kind
        assert kind == "keep" or (verdict.reason == "overtime" and "41.0 s" in verdict.detail)


def test_a_runs_own_word_does_not_beat_a_challenged_champion() -> None:
    challenged = experiment(0, Result("scored", score=Score(1.0, "challenged")), kept=True)
    verdict = judge(experiment(1, scored(0.5)), challenged, "val_bpb", "lower", 0.0)
    assert verdict is not None and (verdict.kind, verdict.reason) == ("discard", "unverified")


def test_what_the_harness_rejects_is_discarded_with_the_check() -> None:
    verdict = judge(experiment(1, Result("rejected", "rejected:loss", "off")), CHAMPION, "val_bpb", "lower", 0.0)
    assert verdict is not None and (verdict.kind, verdict.reason, verdict.detail) == ("discard", "rejected:loss", "off")


def test_several_runs_are_judged_by_their_mean() -> None:
    verdict = judge(experiment(1, scored(0.9), scored(1.2)), CHAMPION, "val_bpb", "lower", 0.0)
    assert verdict is not None and verdict.kind == "discard"
