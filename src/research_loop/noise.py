"""The verdict on an experiment: pure functions of what was measured."""

from __future__ import annotations

import math
from typing import Literal

from research_loop.records import Experiment, Result, Verdict

Direction = Literal["lower", "higher"]


def better(value: float, than: float, direction: Direction) -> bool:
    """Strictly better; False when either is NaN."""
    return value < than if direction == "lower" else value > than


MARGIN_SHARE = 1.25
MARGIN_SECONDS, MARGIN_BUDGET_SHARE = 5.0, 0.05
EXAM_SHARE, SLOWER = 2.0, 4.0


def allowed_seconds(baseline: Experiment | None, budget_seconds: float) -> float:
    """From spawn to the answer that the score is made of, by the harness's clock: the budget, and what the baseline
    took beside it to start and to be evaluated, with a margin. Infinite where the baseline's was not measured."""
    taken = baseline.last.committed_seconds if baseline and baseline.last else None
    if taken is None:
        return math.inf
    margin = max(MARGIN_SECONDS, MARGIN_BUDGET_SHARE * budget_seconds)
    return budget_seconds + MARGIN_SHARE * max(0.0, taken - budget_seconds) + margin


def allowed_exam_seconds(baseline: Experiment | None, result: Result | None, budget_seconds: float) -> float:
    """From ready to the last answer: twice what the baseline took, which was asked everything, and the same margin. A
    model that goes on training between two answers takes longer. An honest one may answer one kind of question much
    slower than the other; one that was slower in its first answer may be as much slower in the rest, up to SLOWER."""
    base = baseline.last if baseline else None
    if base is None or base.exam_seconds is None:
        return math.inf
    slower = _first_answer(result) / max(_first_answer(base), 0.001)
    margin = max(MARGIN_SECONDS, MARGIN_BUDGET_SHARE * budget_seconds)
    return min(max(EXAM_SHARE, 1.5 * slower), SLOWER) * base.exam_seconds + margin


def _first_answer(result: Result | None) -> float:
    if result is None or result.committed_seconds is None or result.ready_seconds is None:
        return 0.0
    return result.committed_seconds - result.ready_seconds


def judge(
    experiment: Experiment,
    champion: Experiment | None,
    metric: str,
    direction: Direction,
    decided_at: float,
    allowed: float = math.inf,
    allowed_exam: float = math.inf,
) -> Verdict | None:
    """keep when strictly better than the champion, discard when not, crash when the newest run has no score.

    What the harness does not believe is discarded, so is a run's own word where the champion's was challenged, and a
    run that took more than `allowed` seconds until it had committed itself to a score, or more
    than `allowed_exam` to answer: it may have trained for longer.

    None asks for another run: the newest was stopped or lost, so nothing was measured.
    """
    last = experiment.last
    if last is None or last.outcome in ("stopped", "lost"):
        return None
    score = experiment.score
    if last.outcome == "rejected":
        return Verdict("discard", last.reason, last.detail, decided_at)
    if last.outcome == "crash" or score is None:
        return Verdict("crash", last.reason, last.detail, decided_at)
    if champion is None or champion.score is None:
        return Verdict("keep", "baseline", f"{metric} {score.value:.6f} is the one to beat", decided_at)
    if last.committed_seconds is not None and last.committed_seconds > allowed:
        fact = f"scored after {last.committed_seconds:.1f} s, where {allowed:.1f} s are allowed"
        return Verdict("discard", "overtime", f"{fact}: it trained for longer, or started too slowly", decided_at)
    if last.exam_seconds is not None and last.exam_seconds > allowed_exam:
        fact = f"its exam took {last.exam_seconds:.1f} s, where {allowed_exam:.1f} s are allowed"
        return Verdict(
            "discard", "overtime", f"{fact}: it trained between its answers, or is slow to give them", decided_at
        )
    if score.verified == "unverified" and champion.score.verified != "unverified":
        fact = f"{metric} {score.value:.6f} is the run's own word, the champion's is not: {last.detail or 'no answer'}"
        return Verdict("discard", "unverified", fact, decided_at)
    difference = score.value - champion.score.value
    fact = f"{metric} {score.value:.6f}, {difference:+.6f} against experiment {champion.n}"
    if better(score.value, champion.score.value, direction):
        if champion.score.verified == "confirmed" and score.verified != "confirmed":
            return Verdict("discard", "unconfirmed", f"{fact}, without a second look: `--again` tries it", decided_at)
        return Verdict("keep", direction, fact, decided_at)
    return Verdict("discard", f"not-{direction}", fact, decided_at)
