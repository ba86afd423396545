"""Where the time of a lab went: training, starting, evaluating, waiting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from research_loop.records import History, Result, Run

LONGEST_WAIT = 120.0
"""Seconds between two runs, beside twice the budget, that count as waiting: longer, and the loop was stopped."""

CLOCKS_APART = 1.0
"""Seconds: a start is written down a little after it."""


@dataclass(frozen=True, slots=True)
class Account:
    """Seconds, by the harness's clock; `training` is what runs say they trained, at most what there was."""

    training: float
    starting: float
    evaluating: float
    failing: float
    waiting: float

    @property
    def total(self) -> float:
        return self.training + self.starting + self.evaluating + self.failing + self.waiting

    def line(self) -> str:
        """Shares in per cent; empty where nothing has run."""
        if not self.total:
            return ""
        named = {
            "training": self.training,
            "starting": self.starting,
            "evaluating": self.evaluating,
            "in runs without a score": self.failing,
            "waiting": self.waiting,
        }
        shares = ", ".join(f"{100 * seconds / self.total:.0f} % {name}" for name, seconds in named.items() if seconds)
        whole = f"{self.total / 3600:.1f} h" if self.total >= 3600 else f"{self.total / 60:.0f} min"
        return f"time: {shares}, of {whole}"


def account(history: History, budget_seconds: float) -> Account:
    """Adds up all runs of a lab, those side by side as well."""
    runs = sorted((run for e in history.experiments for run in e.runs), key=lambda run: run.started_at)
    parts = [_parts(run.result) for run in runs if run.result]
    training, starting, evaluating, failing = (sum(part[i] for part in parts) for i in range(4))
    waiting = sum(gap for gap in _gaps(runs) if gap < LONGEST_WAIT + 2 * budget_seconds)
    return Account(training, starting, evaluating, failing, waiting)


def _gaps(runs: Iterable[Run]) -> Iterable[float]:
    """Seconds before each run, since the end of the one whose place it took: the last that had ended by then."""
    ends: list[float] = []
    for run in runs:
        over = [end for end in ends if end <= run.started_at + CLOCKS_APART]
        if over:
            ends.remove(max(over))
            yield max(0.0, run.started_at - max(over))
        if run.result:
            ends.append(run.started_at + run.result.seconds)


def _parts(result: Result) -> tuple[float, float, float, float]:
    """Training, starting, evaluating; or all of a run without a score. Nobody knows when a lost one ended."""
    if result.outcome == "lost":
        return 0.0, 0.0, 0.0, 0.0
    if result.score is None:
        return 0.0, 0.0, 0.0, result.seconds
    ready = result.seconds if result.ready_seconds is None else result.ready_seconds
    training = min(result.training_seconds or 0.0, ready)
    return training, ready - training, result.seconds - ready, 0.0
