"""The verdict on an experiment: pure functions of what was measured."""

from __future__ import annotations

from typing import Literal

from research_loop.records import Experiment, Verdict

Direction = Literal["lower", "higher"]


def better(value: float, than: float, direction: Direction) -> bool:
    """Strictly better; False when either is NaN."""
    return value < than if direction == "lower" else value > than


def judge(
    experiment: Experiment, champion: Experiment | None, metric: str, direction: Direction, decided_at: float
) -> Verdict | None:
    """keep when strictly better than the champion, discard when not, crash when the newest run has no score.

    What the harness does not believe is discarded, and so is a run's own word where the champion's was challenged.

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
    if score.verified == "unverified" and champion.score.verified != "unverified":
        fact = f"{metric} {score.value:.6f} is the run's own word, the champion's is not: {last.detail or 'no answer'}"
        return Verdict("discard", "unverified", fact, decided_at)
    difference = score.value - champion.score.value
    fact = f"{metric} {score.value:.6f}, {difference:+.6f} against experiment {champion.n}"
    if better(score.value, champion.score.value, direction):
        return Verdict("keep", direction, fact, decided_at)
    return Verdict("discard", f"not-{direction}", fact, decided_at)
