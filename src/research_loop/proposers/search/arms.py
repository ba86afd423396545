"""Which kind of proposal is next: a bandit over arms, by what each gained for the time its runs took.

Gains are those of keeps, in thousandths of the score, and time is in runs; both fade with age (a discounted bandit,
Garivier and Moulines, On upper-confidence bound policies for non-stationary bandits, 2008). An arm is drawn with a
probability that grows with its rate, so that none is given up. The proposers of others are arms as well, by name.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping

from research_loop.levels import levels
from research_loop.records import Experiment, History

FADING = 0.97
"""A gain or a minute counts that much less with every experiment since."""
WORTH_RUNS = 6.0
"""How many runs an arm's prior rate counts for."""
MOST_GAIN = 20.0
PRIORS: Mapping[str, float] = {
    "quadratic": 2.0,
    "ranked": 1.0,
    "process": 0.8,
    "mixed": 0.6,
    "parzen": 0.6,
    "code": 0.4,
    "near": 0.2,
    "ablate": 0.1,
}
"""Thousandths of the score a run, about: a guess that a few runs correct."""
FIRST_MOVES = 16
"""So many experiments are ranked moves, where there are as many."""


def order(
    history: History, available: list[str], family: str, draw: random.Random, *, least_runs: float = 0.0
) -> list[str]:
    """The arms in the order to ask them; the first that has something new is taken.

    Every experiment counts for `least_runs` runs or more: who costs money gains nothing by crashing at once.
    """
    tried = sum(e.parent is not None for e in history.experiments)
    if "ranked" in available and tried < FIRST_MOVES:
        return ["ranked", *(arm for arm in available if arm != "ranked")]
    found = rates(history, available, family, least_runs)
    # Weighted order without replacement, after Efraimidis and Spirakis (2006).
    return sorted(available, key=lambda arm: draw.random() ** (1 / max(found[arm], 1e-6)), reverse=True)


def rates(history: History, available: list[str], family: str, least_runs: float = 0.0) -> dict[str, float]:
    """Thousandths of the score that an arm gains a run: what was measured, and the prior for what was not."""
    gains, runs = dict.fromkeys(available, 0.0), dict.fromkeys(available, 0.0)
    known = levels(history)
    usual = statistics.median([_seconds(e) for e in history.experiments] or [1.0]) or 1.0
    weight = 1.0
    for experiment in reversed(history.experiments):
        arm = experiment.proposer.removeprefix(f"{family}/")
        if arm in gains and experiment.verdict is not None:
            gains[arm] += weight * _gain(experiment, known)
            runs[arm] += weight * max(_seconds(experiment) / usual, least_runs)
        weight *= FADING
    return {arm: (PRIORS.get(arm, 0.5) * WORTH_RUNS + gains[arm]) / (WORTH_RUNS + runs[arm]) for arm in available}


def _gain(experiment: Experiment, known: Mapping[int, float]) -> float:
    """Of a keep over its parent, in thousandths of the parent's score; 0 for all else. `known`: comparable scores."""
    before, after = None if experiment.parent is None else known.get(experiment.parent), known.get(experiment.n)
    if not experiment.kept or before is None or after is None:
        return 0.0
    share = abs(after - before) / max(abs(before), 1e-12)
    return min(1000 * share, MOST_GAIN)


def _seconds(experiment: Experiment) -> float:
    return sum(run.result.seconds for run in experiment.runs if run.result)
