"""How much of a difference between scores is noise: pure functions of what was measured.

Runs of the same code differ, by seed and by what the machine did meanwhile. Their deviation, sigma, is pooled over
everything that was ever run twice, the older the less, under a prior that a few repeats overrule. A candidate is
compared with the champion by Student's t under that sigma, and run again, with the champion, as long as it could still
be either: a group-sequential test (Pocock, Group sequential methods in the design and analysis of clinical trials,
1977), whose bounds come from simulation: benchmarks/verdicts.py.

Where runs of both began alike (pairs.py) their differences seed by seed are compared, under a sigma of their own,
pooled over all such pairs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from research_loop.pairs import Pairs, Side, paired
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
KEEP_PAIRS = 3
"""Their own deviation, which two do not tell, has a say."""

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
PAIR_WEIGHT = 2.0
"""Of the prior of pairs, in degrees of freedom: that they have no luck in common, where one is to be kept."""
HOPED, HOPED_UNTIL = 0.45, 4.0
"""And that differences are so many times as wide, where one is to be given up before pairs have so many degrees: else
they would never be measured. It was 0.42 on an H100 at 60 s, and 0.38 on a CPU at 3 s."""
NO_PAIRS = Pairs()
LEAST_PAIRED = 0.25
"""Of the deviation that differences have without luck in common: what else there may be than luck."""
ELASTICITY = 0.1
"""How much a score gains at most from a machine that is faster, share for share: 0.04 to 0.07 where an H200 was 6 %
faster than an H100. Pairs would show it as the code's gain."""


@dataclass(frozen=True, slots=True)
class Sigma:
    """Standard deviation of one score between runs of one code. `degrees` of freedom count the prior, `repeats` do
    not. `paired` is the same of differences between runs of two codes that began alike, and `hoped` what that may well
    be; None before there are scores, and that one from HOPED_UNTIL on."""

    value: float
    degrees: float
    repeats: int
    paired: Sigma | None = None
    hoped: Sigma | None = None

    @property
    def of_pairs(self) -> Sigma | None:
        """`paired`, where pairs were measured."""
        return self.paired if self.paired and self.paired.repeats else None


@dataclass(frozen=True, slots=True)
class Gap:
    """A candidate's mean score less the champion's, and how often chance alone would do as well or better. `pairs` is
    how many pairs of runs that is of; 0 where it is of all runs. `hope` is the chance where pairs are as like as they
    may well be."""

    difference: float
    p: float
    pairs: int = 0
    hope: float | None = None


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
    sigma = pooled(*squares(scored), repeats, level, budget_seconds)
    return with_pairs(sigma, *pair_squares(scored))


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


def pair_squares(experiments: Iterable[Experiment]) -> tuple[float, float]:
    """As `squares`, of the differences between each experiment and the one that it was made of."""
    found = degrees = 0.0
    known: dict[int | None, Experiment] = {}
    sides: dict[int, Side] = {}
    for experiment in experiments:
        known[experiment.n] = experiment
        if experiment.kept:
            found, degrees = FADES * found, FADES * degrees
        if (parent := known.get(experiment.parent)) is None or len(experiment.scores) < 2:
            continue
        if parent.n not in sides:
            sides[parent.n] = Side.of(parent)
        differences = paired(Side.of(experiment), sides[parent.n]).differences
        if len(differences) > 1:
            free = len(differences) - 1
            found, degrees = found + statistics.variance(differences) * free, degrees + free
    return found, degrees


def with_pairs(sigma: Sigma, squares: float, degrees: float) -> Sigma:
    """With what `pair_squares` gives."""
    unlike = math.sqrt(2) * sigma.value

    def under(prior: float) -> Sigma:
        value = math.sqrt((PAIR_WEIGHT * prior**2 + squares) / (PAIR_WEIGHT + degrees))
        return Sigma(max(value, LEAST_PAIRED * unlike), PAIR_WEIGHT + degrees, round(degrees))

    return replace(sigma, paired=under(unlike), hoped=under(HOPED * unlike) if degrees < HOPED_UNTIL else None)


def compare(
    candidate: Sequence[float],
    champion: Sequence[float],
    sigma: Sigma,
    direction: Direction,
    pairs: Pairs = NO_PAIRS,
) -> Gap:
    """Scores of both, in any order, at least one each. The `pairs` of them are what counts where a smaller difference
    of theirs would be kept."""
    sign = 1 if direction == "lower" else -1
    error = sigma.value * math.sqrt(1 / len(candidate) + 1 / len(champion))
    difference = statistics.fmean(candidate) - statistics.fmean(champion)
    gap = Gap(difference, chance_below(sign * difference / error, sigma.degrees))
    if not pairs.differences or sigma.paired is None:
        return gap
    drift = _drift(champion, pairs)
    by_pairs = _gap_of_pairs(pairs.differences, sigma.paired, sign, drift)
    hope = _gap_of_pairs(pairs.differences, sigma.hoped, sign, drift).p if sigma.hoped else None
    least = _critical(sigma.paired.degrees) * _pair_error(pairs.differences, sigma.paired) + drift
    return replace(by_pairs if least < _critical(sigma.degrees) * error else gap, hope=hope)


def _drift(champion: Sequence[float], pairs: Pairs) -> float:
    """How much of a difference the machine may have made."""
    return ELASTICITY * pairs.drift * abs(statistics.fmean(champion))


def _gap_of_pairs(differences: Sequence[float], known: Sigma, sign: int, drift: float) -> Gap:
    difference, error = statistics.fmean(differences), _pair_error(differences, known)
    return Gap(difference, chance_below((sign * difference + drift) / error, known.degrees), len(differences))


def _pair_error(differences: Sequence[float], known: Sigma) -> float:
    """Standard error of their mean. Where their own deviation is larger than what was pooled, that is taken."""
    own = statistics.stdev(differences) if len(differences) >= KEEP_PAIRS else 0.0
    return max(own, known.value) / math.sqrt(len(differences))


@lru_cache(maxsize=4096)
def _critical(degrees: float) -> float:
    """How many standard errors a difference that is kept has."""
    from scipy.special import stdtrit

    return float(-stdtrit(degrees, KEEP))


def next_step(gap: Gap, candidate: int, champion: int) -> Step:
    """Decides, or asks for a run of whichever was run less: the champion's luck must not judge all that follow it.

    `candidate` and `champion` are how many runs there are of each.
    """
    if gap.p < KEEP and (gap.pairs >= KEEP_PAIRS if gap.pairs else candidate >= KEEP_RUNS):
        return "keep"
    chance = gap.p if gap.hope is None else min(gap.p, gap.hope)
    if candidate >= MOST_RUNS or chance > DROP[candidate - 1]:
        return "discard"
    if gap.p < KEEP and not gap.pairs:
        return "candidate"
    return "champion" if champion <= candidate else "candidate"


def keeps_below(
    candidate: Sequence[float],
    champion: Sequence[float],
    sigma: Sigma,
    p: float,
    pairs: Pairs = NO_PAIRS,
    rival: float | None = None,
) -> float:
    """What the candidate's next score has to be below, lower being better, for its mean to be one that chance does as
    well as with probability `p`: minus infinity before its KEEP_RUNS-th run, infinity where its mean is one already.

    `rival` is the champion's score of the next seed, with which it makes a pair as with those so far.
    """
    runs = len(candidate) + 1
    if runs < KEEP_RUNS:
        return -math.inf
    if len(candidate) >= KEEP_RUNS and compare(candidate, champion, sigma, "lower", pairs).p <= p:
        return math.inf
    from scipy.special import stdtrit

    error = sigma.value * math.sqrt(1 / runs + 1 / len(champion))
    edge = runs * (statistics.fmean(champion) + float(stdtrit(sigma.degrees, p)) * error) - sum(candidate)
    if rival is None or not pairs.differences or sigma.paired is None:
        return edge
    count = len(pairs.differences) + 1
    mean = float(stdtrit(sigma.paired.degrees, p)) * sigma.paired.value / math.sqrt(count) - _drift(champion, pairs)
    return max(edge, rival + count * mean - sum(pairs.differences))


def detectable(sigma: Sigma) -> float:
    """The smallest difference that two runs against a champion's three are kept for."""
    return _critical(sigma.degrees) * sigma.value * math.sqrt(1 / KEEP_RUNS + 1 / BASELINE_RUNS)


def detectable_pairs(sigma: Sigma) -> float:
    """The smallest difference that KEEP_PAIRS pairs are kept for; NaN where nothing is known of such."""
    paired = sigma.of_pairs
    return _critical(paired.degrees) * paired.value / math.sqrt(KEEP_PAIRS) if paired else math.nan


def chance_below(t: float, degrees: float) -> float:
    """Probability that Student's t with so many degrees of freedom is below `t`."""
    from scipy.special import stdtr

    return float(stdtr(degrees, t))
