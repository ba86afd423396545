"""How much of a difference between scores is noise: pure functions of what was measured.

Runs of the same code differ, by seed and by what the machine did meanwhile. Their deviation, sigma, is pooled over
everything that was ever run twice, the older the less, under a prior that a few repeats overrule. A candidate is
compared with the champion by Student's t under that sigma, and run again, with the champion, as long as it could still
be either: a group-sequential test (Pocock, Group sequential methods in the design and analysis of clinical trials,
1977), whose bounds come from simulation: benchmarks/verdicts.py.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from research_loop.records import Experiment

Direction = Literal["lower", "higher"]
Step = Literal["keep", "discard", "candidate", "champion"]
"""What to do next: decide, or run one of the two again."""

BASELINE_RUNS = 3
KEEP = 0.001
"""Kept where chance does as well as this seldom, after any run but the first."""
KEEP_RUNS = 2
"""A code may vary more than what sigma was measured on; its own runs say so."""
DROP = (0.13, 0.06, 0.035, 0.02, 0.012, 0.007, 0.004)
"""Given up where chance does as well as this often, after one run, two and so on."""
MOST_RUNS = len(DROP) + 1

PRIOR_SHARE_SECONDS = 0.13
"""Sigma as a share of the score, times the budget: 0.0022 at 60 s, over seeds of our train.py on an H100, and 0.0004 at
300 s in public logs of that task."""
PRIOR_MOST_SHARE = 0.015
"""However short the budget: 1.5 % at 3 s, on a CPU."""
PRIOR_WEIGHT = 0.5
"""In degrees of freedom: three baselines overrule it. Where it is far too large more would hide most gains."""
FADES = 0.5
"""What a repeat weighs for every keep since: how much scores vary is the code's own. On an H100 at 60 s the deviation
of three seeds was 0.007, and 0.006 and 0.0002 after one and two doublings of the number of steps."""
LEAST_SHARE = 1e-6
"""Of the score: what is below is lost in printing it."""
LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Sigma:
    """Standard deviation of one score between runs of one code. `degrees` of freedom count the prior, `repeats` do
    not."""

    value: float
    degrees: float
    repeats: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A candidate's mean score less the champion's, and how often chance alone would do as well or better."""

    difference: float
    p: float


def better(value: float, than: float, direction: Direction) -> bool:
    """Strictly better; False when either is NaN."""
    return value < than if direction == "lower" else value > than


def measure_sigma(experiments: Iterable[Experiment], budget_seconds: float) -> Sigma | None:
    """Pooled over all experiments that were run more than once; None before anything has a score."""
    scored = [e for e in experiments if e.scores]
    if not scored:
        return None
    level = statistics.median(abs(e.scores[0]) for e in scored)
    repeats = sum(len(e.scores) - 1 for e in scored)
    return pooled(*squares(scored), repeats, level, budget_seconds)


def squares(experiments: Iterable[Experiment]) -> tuple[float, float]:
    """Squared deviations from each code's own mean, summed, and how many of them are free; both faded."""
    found = degrees = 0.0
    for experiment in experiments:
        if experiment.kept:
            found, degrees = FADES * found, FADES * degrees
        if len(experiment.scores) > 1:
            free = len(experiment.scores) - 1
            found, degrees = found + statistics.variance(experiment.scores) * free, degrees + free
    return found, degrees


def pooled(squares: float, degrees: float, repeats: int, level: float, budget_seconds: float) -> Sigma:
    """From what `squares` gives; `level` is the size of a score."""
    prior = min(PRIOR_SHARE_SECONDS / budget_seconds, PRIOR_MOST_SHARE) * level
    value = math.sqrt((PRIOR_WEIGHT * prior**2 + squares) / (PRIOR_WEIGHT + degrees))
    return Sigma(max(value, LEAST_SHARE * level, LEAST), PRIOR_WEIGHT + degrees, repeats)


def compare(candidate: Sequence[float], champion: Sequence[float], sigma: Sigma, direction: Direction) -> Gap:
    """Scores of both, in any order, at least one each."""
    difference = statistics.fmean(candidate) - statistics.fmean(champion)
    error = sigma.value * math.sqrt(1 / len(candidate) + 1 / len(champion))
    return Gap(difference, chance_below(difference / error * (1 if direction == "lower" else -1), sigma.degrees))


def next_step(p: float, candidate: int, champion: int) -> Step:
    """Decides, or asks for a run of whichever was run less: the champion's luck must not judge all that follow it.

    `p` is the chance of `compare`, the others how many runs there are of each.
    """
    if p < KEEP:
        return "keep" if candidate >= KEEP_RUNS else "candidate"
    if candidate >= MOST_RUNS or p > DROP[candidate - 1]:
        return "discard"
    return "champion" if champion <= candidate else "candidate"


def keeps_below(candidate: Sequence[float], champion: Sequence[float], sigma: Sigma, p: float) -> float:
    """What the candidate's next score has to be below, lower being better, for its mean to be one that chance does as
    well as with probability `p`: minus infinity before its KEEP_RUNS-th run, infinity where its mean is one already."""
    runs = len(candidate) + 1
    if runs < KEEP_RUNS:
        return -math.inf
    if len(candidate) >= KEEP_RUNS and compare(candidate, champion, sigma, "lower").p <= p:
        return math.inf
    from scipy.special import stdtrit

    error = sigma.value * math.sqrt(1 / runs + 1 / len(champion))
    return runs * (statistics.fmean(champion) + float(stdtrit(sigma.degrees, p)) * error) - sum(candidate)


def detectable(sigma: Sigma) -> float:
    """The smallest difference that two runs against a champion's three are kept for."""
    from scipy.special import stdtrit

    return float(-stdtrit(sigma.degrees, KEEP)) * sigma.value * math.sqrt(1 / KEEP_RUNS + 1 / BASELINE_RUNS)


def chance_below(t: float, degrees: float) -> float:
    """Probability that Student's t with so many degrees of freedom is below `t`."""
    from scipy.special import stdtr

    return float(stdtr(degrees, t))
