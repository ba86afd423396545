"""The verdict is a pure function of what was measured, and of the noise between runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest

from research_loop.noise import Direction, Sigma, better
from research_loop.records import Experiment, Result, Run, Score, Verdict
from research_loop.verdict import Again, Rules, allowed_exam_seconds, allowed_seconds, judge, revise, slowed


def experiment(n: int, *results: Result, kept: bool = False) -> Experiment:
    runs = tuple(Run(n, k, 42, 0.0, result=result) for k, result in enumerate(results))
    verdict = Verdict("keep", "lower", "", 0.0) if kept else None
    return Experiment(n, "what", "", "", "search", None if n == 0 else 0, "c", "k", 0.0, runs, verdict)


def scored(value: float) -> Result:
    return Result("scored", score=Score(value))


ONCE = Rules("val_bpb", repeats=False)
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
    verdict = judge(experiment(1, scored(value)), CHAMPION, replace(ONCE, direction=direction), None, 5.0)
    assert isinstance(verdict, Verdict) and verdict.kind == kind and verdict.decided_at == 5.0
    assert f"{value:.6f}" in verdict.detail and f"{value - 1:+.6f}" in verdict.detail


def test_nan_is_never_better() -> None:
    assert not better(math.nan, 1.0, "lower") and not better(1.0, math.nan, "higher")


def test_the_first_score_is_the_one_to_beat() -> None:
    verdict = judge(experiment(0, scored(2.0)), None, ONCE, None, 0.0)
    assert isinstance(verdict, Verdict) and (verdict.kind, verdict.reason) == ("keep", "baseline")


def test_a_crash_keeps_its_reason() -> None:
    verdict = judge(experiment(1, Result("crash", "oom", "CUDA out of memory")), CHAMPION, ONCE, None, 0.0)
    assert isinstance(verdict, Verdict)
    assert (verdict.kind, verdict.reason, verdict.detail) == ("crash", "oom", "CUDA out of memory")


@pytest.mark.parametrize("outcome", ["stopped", "lost"])
def test_a_run_that_was_stopped_or_lost_asks_for_another(outcome: str) -> None:
    gone = Result(outcome)  # type: ignore[arg-type]
    assert judge(experiment(1, gone), CHAMPION, ONCE, None, 0.0) == Again("candidate", "nothing was measured")
    again = judge(experiment(1, gone, scored(0.5)), CHAMPION, ONCE, None, 0.0)
    assert isinstance(again, Verdict) and again.kind == "keep"


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
    verdict = judge(experiment(1, committed(seconds)), CHAMPION, replace(ONCE, allowed=40.0), None, 0.0)
    assert isinstance(verdict, Verdict) and verdict.kind == kind
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
        verdict = judge(slow, CHAMPION, replace(ONCE, allowed_exam=allowed), None, 0.0)
        assert isinstance(verdict, Verdict) and verdict.kind == kind
        assert kind == "keep" or (verdict.reason == "overtime" and "41.0 s" in verdict.detail)


def test_a_runs_own_word_does_not_beat_a_challenged_champion() -> None:
    challenged = experiment(0, Result("scored", score=Score(1.0, "challenged")), kept=True)
    verdict = judge(experiment(1, scored(0.5)), challenged, ONCE, None, 0.0)
    assert isinstance(verdict, Verdict) and (verdict.kind, verdict.reason) == ("discard", "unverified")


def test_what_the_harness_rejects_is_discarded_with_the_check() -> None:
    verdict = judge(experiment(1, Result("rejected", "rejected:loss", "off")), CHAMPION, ONCE, None, 0.0)
    assert verdict == Verdict("discard", "rejected:loss", "off", 0.0)


def test_several_runs_are_judged_by_their_mean() -> None:
    verdict = judge(experiment(1, scored(0.9), scored(1.2)), CHAMPION, ONCE, None, 0.0)
    assert isinstance(verdict, Verdict) and verdict.kind == "discard"


# ---------------------------------------------------------------------------------------------------- with noise

MEASURED = Rules("val_bpb")
SIGMA = Sigma(0.001, 50.0, 48)
THREE = experiment(0, *(scored(value) for value in (0.999, 1.0, 1.001)), kept=True)


def judged(*values: float, champion: Experiment = THREE, more_lines: int = 0) -> Verdict | Again:
    return judge(experiment(1, *(scored(value) for value in values)), champion, MEASURED, SIGMA, 0.0, more_lines)


def words(found: Verdict | Again) -> tuple[str, str]:
    return (found.kind, found.reason) if isinstance(found, Verdict) else ("again", found.who)


def test_a_baseline_is_run_three_times_where_noise_is_measured() -> None:
    for runs, expected in ((1, ("again", "candidate")), (2, ("again", "candidate")), (3, ("keep", "baseline"))):
        results = [scored(1.0)] * runs
        assert words(judge(experiment(0, *results), None, MEASURED, SIGMA, 0.0)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.99,), ("again", "candidate")),  # ten sigma, once
        ((0.99, 0.9902), ("keep", "lower")),
        ((0.9975,), ("again", "candidate")),  # two
        ((0.9975, 0.999), ("again", "candidate")),
        ((0.9975, 1.001), ("discard", "noise")),
        ((0.9995,), ("discard", "noise")),  # half of one
        ((1.0005,), ("discard", "not-lower")),
    ],
)
def test_what_could_be_noise_is_run_again_and_what_could_not_is_decided(
    values: tuple[float, ...], expected: tuple[str, str]
) -> None:
    assert words(judged(*values)) == expected


def test_the_champion_is_run_again_once_the_candidate_has_as_many_runs() -> None:
    assert words(judged(0.9975, 0.9985, 0.9980)) == ("again", "champion")
    once = experiment(0, scored(1.0), kept=True)
    assert words(judged(0.9975, champion=once)) == ("again", "champion")
    failed = experiment(0, scored(1.0), Result("crash", "oom"), kept=True)
    assert words(judged(0.9975, champion=failed)) == ("again", "candidate"), "asking it again is in vain"
    gone = experiment(0, scored(1.0), *[Result("lost")] * 3, kept=True)
    assert words(judged(0.9975, champion=gone)) == ("again", "candidate")


def test_nothing_is_run_more_than_eight_times() -> None:
    champion = experiment(0, *[scored(1.0)] * 9, kept=True)
    assert words(judged(*[0.9985] * 7, champion=champion)) == ("again", "candidate")
    assert words(judged(*[0.9985] * 8, champion=champion)) == ("discard", "noise")


def test_shorter_code_is_kept_when_two_runs_of_it_are_no_worse() -> None:
    assert words(judged(1.0, more_lines=-5)) == ("again", "candidate")
    assert words(judged(1.0, 1.0, more_lines=-5)) == ("keep", "simpler")
    assert words(judged(1.002, 1.002, more_lines=-5)) == ("discard", "not-lower")
    assert words(judged(1.0, 1.0, more_lines=0)) == ("discard", "not-lower")
    equal = judge(experiment(1, scored(1.0)), CHAMPION, ONCE, None, 0.0, -1)
    assert words(equal) == ("keep", "simpler"), "where every run of a code scores the same, one will do"


def test_much_more_code_or_memory_has_to_gain_more() -> None:
    tight = Sigma(0.0001, 50.0, 48)

    def found(value: float, megabytes: float | None = None, more_lines: int = 0) -> tuple[str, str]:
        mine = experiment(1, *[Result("scored", score=Score(value), peak_vram_mb=megabytes)] * 2)
        base = [Result("scored", score=Score(1.0), peak_vram_mb=1000.0)] * 3
        return words(judge(mine, experiment(0, *base, kept=True), MEASURED, tight, 0.0, more_lines))

    assert found(0.9991, more_lines=20) == ("keep", "lower")
    assert found(0.9991, more_lines=21) == ("discard", "complexity")
    one = judge(experiment(1, scored(0.9991)), THREE, MEASURED, tight, 0.0, 21)
    assert words(one) == ("discard", "complexity"), "another run would not pay for it"
    assert found(0.9989, more_lines=21) == ("keep", "lower")
    assert found(0.9985, 1190.0) == ("keep", "lower")
    assert found(0.9985, 1210.0) == ("discard", "memory")
    assert found(0.9975, 1210.0) == ("keep", "lower")


def test_a_champion_that_is_no_better_when_run_again_is_taken_back() -> None:
    champion = experiment(1, scored(0.99), scored(1.02), kept=True)
    verdict = revise(champion, THREE, MEASURED, 7.0)
    assert verdict is not None and (verdict.kind, verdict.reason, verdict.decided_at) == ("discard", "revised", 7.0)
    assert revise(experiment(1, scored(0.99), scored(0.995), kept=True), THREE, MEASURED, 7.0) is None


# ------------------------------------------------------------------------------------------- machines that change


def at_speed(value: float, speed: float | None) -> Result:
    return Result("scored", score=Score(value), steps_per_second=speed)


def test_runs_of_a_kept_code_at_another_speed_do_not_count() -> None:
    cold = experiment(0, at_speed(1.05, 8.2), at_speed(1.0, 9.2), at_speed(1.01, 9.3), kept=True)
    assert cold.scores == (1.0, 1.01)
    slower = experiment(0, *[at_speed(1.0, 9.2)] * 3, at_speed(1.05, 8.0), kept=True)
    assert slower.scores == (1.0, 1.0, 1.0), "one slow run is the exception"
    assert experiment(0, *[at_speed(1.0, 9.2)] * 3, *[at_speed(1.05, 8.0)] * 2, kept=True).scores == (1.05, 1.05)
    assert experiment(0, at_speed(1.0, None), at_speed(1.1, 5.0), kept=True).scores == (1.0, 1.1)
    assert experiment(0, at_speed(1.0, 5.0), at_speed(1.1, 10.0), kept=True).scores == (1.1,), "never none at all"


def test_a_candidates_own_word_for_its_speed_changes_nothing() -> None:
    assert experiment(1, at_speed(1.05, 1.0), at_speed(1.0, 9.0)).scores == (1.05, 1.0)


def test_a_baseline_needs_three_runs_alike_but_not_for_ever() -> None:
    runs = [at_speed(1.0, speed) for speed in (8.0, 9.0, 9.1)]
    assert words(judge(experiment(0, *runs), None, MEASURED, SIGMA, 0.0)) == ("again", "candidate")
    assert words(judge(experiment(0, *runs, at_speed(1.0, 9.0)), None, MEASURED, SIGMA, 0.0)) == ("keep", "baseline")
    wild = [at_speed(1.0, speed) for speed in (5.0, 9.0, 7.0, 11.0, 4.0, 8.0)]
    assert words(judge(experiment(0, *wild), None, MEASURED, SIGMA, 0.0)) == ("keep", "baseline")


def test_nothing_is_kept_over_a_champion_that_was_not_run_lately() -> None:
    good = experiment(1, scored(0.9), scored(0.9))
    for since, expected in ((10, ("keep", "lower")), (11, ("again", "champion"))):
        assert words(judge(good, THREE, MEASURED, SIGMA, 0.0, runs_since=since)) == expected
    assert words(judge(good, THREE, ONCE, None, 0.0, runs_since=99)) == ("keep", "lower")


def test_shorter_code_does_not_wait_for_a_champion_that_cannot_be_run_again() -> None:
    failed = experiment(0, scored(1.0), Result("crash", "exit"), kept=True)
    assert words(judged(1.0, 1.0, champion=failed, more_lines=-5)) == ("keep", "simpler")


def test_a_champion_whose_newest_run_had_another_speed_is_run_once_more_before_a_keep() -> None:
    champion = experiment(0, *[at_speed(1.0, 8.2)] * 3, at_speed(0.95, 9.2), kept=True)
    good = experiment(1, *[at_speed(0.95, 9.2)] * 2)
    assert words(judge(good, champion, MEASURED, SIGMA, 0.0)) == ("again", "champion")
    again = experiment(0, *[at_speed(1.0, 8.2)] * 3, *[at_speed(0.95, 9.2)] * 2, kept=True)
    found = judge(good, again, MEASURED, SIGMA, 0.0)
    assert words(found) == ("discard", "not-lower"), "the machine was faster, the code was not better"


def test_a_machine_without_a_speed_of_its_own_keeps_nothing_and_ends() -> None:
    runs = [
        Run(0, k, 42, 10.0 + k, result=at_speed(1.0, speed))
        for k, speed in enumerate((5, 9, 7, 12, 3, 6, 14, 4, 8, 16, 2))
    ]
    champion = replace(THREE, runs=tuple(runs))
    mine = tuple(Run(1, k, 42 + k, 10.5, result=scored(0.5)) for k in range(2))
    good = replace(experiment(1), runs=mine)
    assert words(judge(good, champion, MEASURED, SIGMA, 0.0)) == ("discard", "unsteady")


def test_a_champion_that_met_a_slower_machine_is_not_taken_back_for_it() -> None:
    slower = experiment(1, at_speed(0.99, 9.2), at_speed(1.02, 8.0), at_speed(1.02, 8.0), kept=True)
    before = experiment(0, *[at_speed(1.0, 9.2)] * 3, kept=True)
    assert revise(slower, before, MEASURED, 7.0) is None


def test_what_would_be_kept_without_a_second_look_gets_one() -> None:
    def looked(value: float, verified: Literal["challenged", "confirmed"]) -> Result:
        return Result("scored", score=Score(value, verified))

    best = experiment(0, *(looked(1.0, "confirmed") for _ in range(3)), kept=True)
    rules, sigma = Rules("val_bpb"), Sigma(0.001, 20.0, 18)
    asked = judge(experiment(1, *(looked(0.9, "challenged") for _ in range(2))), best, rules, sigma, 0.0)
    assert isinstance(asked, Again) and asked.who == "candidate" and "second look" in asked.why
    kept = judge(experiment(1, looked(0.9, "challenged"), looked(0.9, "confirmed")), best, rules, sigma, 0.0)
    assert isinstance(kept, Verdict) and kept.kind == "keep"
    never = judge(experiment(1, *(looked(0.9, "challenged") for _ in range(8))), best, rules, sigma, 0.0)
    assert isinstance(never, Verdict) and (never.kind, never.reason) == ("discard", "unconfirmed")


@pytest.mark.parametrize(
    ("waited", "braked", "word"),
    [(0.35, None, "other programs"), (None, 0.2, "heat"), (0.25, 0.05, ""), (None, None, ""), (0.0, 0.0, "")],
)
def test_only_what_takes_much_more_than_usual_holds_a_run_up(
    waited: float | None, braked: float | None, word: str
) -> None:
    usual = [replace(scored(1.0), waited_share=share, braked_share=0.0) for share in (0.9, 0.2, 0.1)]
    said = slowed(replace(scored(1.1), waited_share=waited, braked_share=braked), usual, "val_bpb", ours=True)
    assert (word in said and "1.100000 does not count" in said) if word else said == ""


def test_runs_that_were_ended_for_being_slow_count_as_held_up_and_a_models_own_crowd_does_not() -> None:
    usual = [replace(scored(1.0), waited_share=0.0, braked_share=0.0)]
    for ended in (Result("cut", "curve"), Result("crash", "timeout"), scored(1.1)):
        busy, hot = replace(ended, waited_share=0.9), replace(ended, braked_share=0.9)
        assert slowed(busy, usual, "val_bpb", ours=True) and slowed(hot, usual, "val_bpb", ours=False)
        assert slowed(busy, usual, "val_bpb", ours=False) == ""
        assert slowed(busy, [], "val_bpb", ours=True) == slowed(busy, [scored(1.0)], "val_bpb", ours=True) == ""
    for ended in (Result("rejected", "rejected:loss"), Result("crash", "oom"), Result("stopped")):
        assert slowed(replace(ended, waited_share=0.9), usual, "val_bpb", ours=True) == ""


def on(machine: str | None, *values: float) -> list[Result]:
    return [replace(scored(value), machine=machine) for value in values]


def test_a_champion_that_was_last_run_on_another_machine_is_run_on_this_one_before_anything_is_judged() -> None:
    champion = experiment(0, *on("A", 1.0, 1.001, 0.999), kept=True)
    for value in (0.9, 1.1):
        asked = judge(experiment(1, *on("B", value)), champion, Rules("val_bpb"), Sigma(0.001, 2.0, 2), 0.0)
        assert isinstance(asked, Again) and asked.who == "champion" and "another machine" in asked.why
    assert isinstance(
        judge(experiment(1, *on("A", 1.1)), champion, Rules("val_bpb"), Sigma(0.001, 2.0, 2), 0.0), Verdict
    )
    assert isinstance(judge(experiment(1, *on("B", 1.1)), champion, ONCE, None, 0.0), Verdict)


def test_a_candidate_that_was_last_run_where_the_champion_is_no_more_is_run_again_there() -> None:
    moved = experiment(0, *on("A", 1.0), *on("B", 0.99), kept=True)
    moved = replace(moved, runs=tuple(replace(run, started_at=10.0 * run.k) for run in moved.runs))
    for machine in ("A", None):
        candidate = experiment(1, *on(machine, 0.9))
        candidate = replace(candidate, runs=tuple(replace(run, started_at=5.0) for run in candidate.runs))
        asked = judge(candidate, moved, Rules("val_bpb"), Sigma(0.001, 2.0, 2), 0.0)
        assert isinstance(asked, Again) and asked.who == "candidate" and "experiment 1 was last run" in asked.why


def test_scores_of_another_machine_do_not_count() -> None:
    champion = experiment(0, *on("A", 1.0, 1.001), *on("B", 0.95), kept=True)
    assert champion.scores == (0.95,) and champion.machine == "B"
    assert experiment(1, *on(None, 1.0), *on("B", 0.9, 0.91)).scores == (0.9, 0.91)
    assert experiment(1, *on(None, 1.0, 1.1)).scores == (1.0, 1.1), "ledgers of before know no machines"
    verdict = judge(experiment(1, *on("B", 0.96)), champion, Rules("val_bpb"), Sigma(0.001, 9.0, 9), 0.0)
    assert isinstance(verdict, Verdict) and verdict.kind == "discard"
