"""Where the time of a lab went: training, starting, evaluating, waiting."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from research_loop.records import History, Result

LONGEST_WAIT = 120.0
"""Seconds between two runs, beside twice the budget, that count as waiting: longer, and the loop was stopped."""


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
        return f"time: {shares}, of {self.total / 3600:.1f} h"


def account(history: History, budget_seconds: float) -> Account:
    """Adds up all runs of a lab, one after the other."""
    runs = sorted((run for e in history.experiments for run in e.runs), key=lambda run: run.started_at)
    parts = [_parts(run.result) for run in runs if run.result]
    training, starting, evaluating, failing = (sum(part[i] for part in parts) for i in range(4))
    gaps = [b.started_at - a.started_at - a.result.seconds for a, b in itertools.pairwise(runs) if a.result]
    waiting = sum(gap for gap in gaps if 0 < gap < LONGEST_WAIT + 2 * budget_seconds)
    return Account(training, starting, evaluating, failing, waiting)


def _parts(result: Result) -> tuple[float, float, float, float]:
    """Training, starting, evaluating; or all of a run without a score."""
    if result.score is None:
        return 0.0, 0.0, 0.0, result.seconds
    ready = result.seconds if result.ready_seconds is None else result.ready_seconds
    training = min(result.training_seconds or 0.0, ready)
    return training, ready - training, result.seconds - ready, 0.0
