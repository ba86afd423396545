"""Which seed a run gets, and which runs of two codes make a pair: pure.

Two codes that draw the same weights and the same text from a seed have most of their luck in common, so that their
difference tells more than either score (common random numbers: Law, Simulation modeling and analysis, 2015, 11.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from research_loop.records import Experiment, Result

BASE_SEED = 42


def same_seeds(experiment: Experiment, first: int = BASE_SEED) -> int:
    """The seed of an experiment's next run: of those from `first` on the first that no score of it had on the machine
    of its newest, so that experiments have theirs in common."""
    here = {r.seed for r in experiment.runs if r.result and r.result.score and r.result.machine == experiment.machine}
    return next(seed for seed in itertools.count(first) if seed not in here)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Differences of scores, candidate less champion, seed by seed. `drift` is the share by which the champion's newest
    run is faster or slower than those of them: by so much the machine may have changed."""

    differences: tuple[float, ...] = ()
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Side:
    """What pairs take of an experiment: its scores that count, by seed, their machine, and the speed of the newest."""

    machine: str | None
    by_seed: Mapping[int, Result]
    speed: float | None

    @classmethod
    def of(cls, experiment: Experiment) -> Side:
        alike = experiment.alike
        return cls(experiment.machine, experiment.by_seed(alike), alike[-1].steps_per_second if alike else None)


def pairs(candidate: Experiment, champion: Experiment) -> Pairs:
    """Of runs with the same seed; none where they did not all begin alike, or the champion's say no speed."""
    return paired(Side.of(candidate), Side.of(champion))


def paired(mine: Side, theirs: Side) -> Pairs:
    """As `pairs`. Two began alike where both printed the same first loss with each seed, to the last digit, and another
    one with another: the same weights saw the same text."""
    seeds = sorted(mine.by_seed.keys() & theirs.by_seed.keys())
    if not seeds or mine.machine != theirs.machine or not theirs.speed:
        return Pairs()
    began = {seed: result.first_loss for seed, result in theirs.by_seed.items()}
    speeds = [theirs.by_seed[seed].steps_per_second or 0.0 for seed in seeds]
    if not all(mine.by_seed[seed].first_loss == began[seed] is not None for seed in seeds) or not all(speeds):
        return Pairs()
    if len(set(began.values())) < 2:
        return Pairs()
    found = tuple(_value(mine.by_seed[seed]) - _value(theirs.by_seed[seed]) for seed in seeds)
    return Pairs(found, abs(sum(speeds) / len(speeds) / theirs.speed - 1))


def _value(result: Result) -> float:
    assert result.score is not None
    return result.score.value
