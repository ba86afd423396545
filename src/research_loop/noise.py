"""The verdict on an experiment: pure functions of what was measured."""

from __future__ import annotations

import math
from typing import Literal

from research_loop.records import Experiment, Verdict

Direction = Literal["lower", "higher"]


def better(value: float, than: float, direction: Direction) -> bool:
    """Strictly better; False when either is NaN."""
    return value < than if direction == "lower" else value > than


START_MARGIN_SHARE = 1.25
START_MARGIN_SECONDS = 15.0


def allowed_ready_seconds(baseline: Experiment | None, budget_seconds: float) -> float:
    """From spawn to "ready to be scored", by the harness's clock: the budget, and what the baseline took beside it
    with a margin. Infinite where the baseline's was not measured."""
    ready = baseline.last.ready_seconds if baseline and baseline.last else None
    if ready is None:
        return math.inf
    return budget_seconds + START_MARGIN_SHARE * max(0.0, ready - budget_seconds) + START_MARGIN_SECONDS


def judge(
    experiment: Experiment,
    champion: Experiment | None,
    metric: str,
    direction: Direction,
    decided_at: float,
    allowed_seconds: float = math.inf,
) -> Verdict | None:
    """keep when strictly better than the champion, discard when not, crash when the newest run has no score.

    What the harness does not believe is discarded, so is a run's own word where the champion's was challenged, and a
    run that took more than `allowed_seconds` until it was ready to be scored: it may have trained for longer.

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
    if last.ready_seconds is not None and last.ready_seconds > allowed_seconds:
        fact = f"ready to be scored after {last.ready_seconds:.1f} s, where {allowed_seconds:.1f} s are allowed"
        return Verdict("discard", "overtime", f"{fact}: it trained for longer, or started too slowly", decided_at)
    if score.verified == "unverified" and champion.score.verified != "unverified":
        fact = f"{metric} {score.value:.6f} is the run's own word, the champion's is not: {last.detail or 'no answer'}"
        return Verdict("discard", "unverified", fact, decided_at)
    difference = score.value - champion.score.value
    fact = f"{metric} {score.value:.6f}, {difference:+.6f} against experiment {champion.n}"
    if better(score.value, champion.score.value, direction):
        return Verdict("keep", direction, fact, decided_at)
    return Verdict("discard", f"not-{direction}", fact, decided_at)
