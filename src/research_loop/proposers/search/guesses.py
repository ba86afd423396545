"""Ideas from all scores so far: two models, and mixes of changes that nearly helped."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from research_loop import noise
from research_loop.edits import Value
from research_loop.levels import levels
from research_loop.proposers.search import changes, model, rules, space, words
from research_loop.proposers.search.model import LEAST_FOR_PARZEN, LEAST_FOR_PROCESS, LEAST_FOR_QUADRATIC, Hunch
from research_loop.proposers.search.moves import Idea
from research_loop.proposers.search.space import Axis, Point
from research_loop.records import Experiment, History

__all__ = [
    "LEAST_FOR_PARZEN",
    "LEAST_FOR_PROCESS",
    "LEAST_FOR_QUADRATIC",
    "Family",
    "mixed",
    "parzen",
    "process",
    "quadratic",
]

PLATEAU = 25
"""Experiments without a keep, after which the box is wider."""
WIDER = 1.5
MOST_MIXED = 8
_LARGE = ("DEVICE_BATCH_SIZE", "DEPTH", "ASPECT_RATIO")


@dataclass(frozen=True, slots=True)
class Family:
    """What is known of code that differs from the champion's by constants alone."""

    history: History
    parent: int
    values: Mapping[str, Value]
    tokens: int | None
    constants: Mapping[int, Mapping[str, Value]]
    axes: list[Axis]
    points: list[Point]
    centre: Point | None
    sigma: float
    sign: float
    taken: list[tuple[float, float]]
    """Size of a forward pass and peak memory in MB, of each run that says."""

    @classmethod
    def of(cls, history: History, parent: int, values: Mapping[str, Value], tokens: int | None) -> Family:
        """`values` are the constants of experiment `parent`, the champion; the box is around the leader's."""
        constants, sigma, means = space.family(history, parent, values), deviation(history), levels(history)
        sign = -1.0 if history.higher else 1.0
        around_champion = space.axes_around(values)
        best = model.leader(space.points(history, constants, means, around_champion, sign), sigma)
        centre = constants[best.experiment.n] if best else values
        since = sum(e.n > parent and e.verdict is not None for e in history.experiments)
        axes = space.axes_around(centre, WIDER if since >= PLATEAU else 1.0)
        found = space.points(history, constants, means, axes, sign)
        leading = next((p for p in found if best and p.experiment.n == best.experiment.n), None)
        taken = list(_taken(history, constants))
        return cls(history, parent, values, tokens, constants, axes, found, leading, sigma, sign, taken)

    @property
    def knows(self) -> int:
        """How many scores."""
        return sum(point.score is not None for point in self.points) if self.axes else 0

    @property
    def middle(self) -> tuple[float, ...]:
        """The leader's place: the middle of the box, but for what has no order."""
        return self.centre.places if self.centre else tuple(axis.encode(axis.dial.value) or 0.0 for axis in self.axes)

    def too_large(self, changed: Mapping[str, Value]) -> bool:
        """Whether it would run out of memory as far as that can be known, or something no larger did: by rows, layers
        and width of a forward pass."""
        size, ours = _size({**self.values, **changed}), _size(self.values)
        if self.history.vram_mb is not None and (self.memory_mb(changed) or 0.0) > self.history.vram_mb:
            return True
        known = [_size(self.constants[e.n]) for e in self.history.experiments if e.n in self.constants and _oom(e)]
        if size is None or ours is None:
            return False
        # one no larger than the champion ran out of it for another reason
        return any(other is not None and ours < other <= size for other in known)

    def memory_mb(self, changed: Mapping[str, Value]) -> float | None:
        """What a run of it would take at its peak: that of the run nearest to it in size, in proportion, which was 0 to
        3 % too much on an H100. None where no run says."""
        size = _size({**self.values, **changed})
        if not size or not self.taken:
            return None
        other, peak = min(self.taken, key=lambda one: abs(math.log(one[0] / size)))
        return peak * size / other


def deviation(history: History) -> float:
    """Of a score between runs of the same code, or, where that is less, of pairs, as in levels; 0 where none was run
    twice."""
    sums = (*noise.squares(history.experiments), 1), (*noise.pair_squares(history.experiments), noise.HOPED_UNTIL)
    return min(((squares / degrees) ** 0.5 for squares, degrees, least in sums if degrees >= least), default=0.0)


def parzen(family: Family, rng: random.Random) -> Iterator[Idea]:
    """From LEAST_FOR_PARZEN scores on."""
    return _ideas(family, model.by_parzen(family.axes, family.points, family.middle, rng.getrandbits(31)))


def process(family: Family, rng: random.Random) -> Iterator[Idea]:
    """From LEAST_FOR_PROCESS scores on, where there is little noise."""
    seed = rng.getrandbits(31)
    return _ideas(family, model.by_process(family.axes, family.points, family.middle, family.sigma, seed))


def quadratic(family: Family, rng: random.Random) -> Iterator[Idea]:
    """From LEAST_FOR_QUADRATIC scores on, where there is much."""
    seed = rng.getrandbits(31)
    return _ideas(family, model.by_quadratic(family.axes, family.points, family.middle, family.sigma, seed))


def _ideas(family: Family, hunches: Iterator[Hunch]) -> Iterator[Idea]:
    for hunch in hunches:
        wanted = space.moved(family.axes, hunch.places, family.values)
        settled = rules.settle(family.values, wanted, family.tokens) if wanted else None
        if settled:
            yield Idea(settled, _why(family, hunch), words.risk_of(family.values, settled))


def _why(family: Family, hunch: Hunch) -> str:
    best = f", near experiment {family.centre.experiment.n}" if family.centre else ""
    scores = min(family.knows, model.MOST_POINTS)
    if hunch.expected is None or hunch.spread is None:
        return f"{scores} scores so far: values like these are more frequent among the better ones{best}."
    expected = family.sign * hunch.expected
    return f"A model of {scores} scores expects {expected:.4f} at best, give or take {hunch.spread:.4f}{best}."


def mixed(family: Family, rng: random.Random) -> Iterator[Idea]:
    """Two or three changes that were each better than the champion, if not by enough to be kept."""
    misses = [e for e in family.history.experiments if e.verdict and e.verdict.reason == "noise"]
    nearly = [experiment for experiment in misses if _changed(family, experiment)]
    for _ in range(MOST_MIXED if len(nearly) > 1 else 0):
        chosen = rng.sample(nearly, min(len(nearly), rng.choice((2, 2, 3))))
        wanted: dict[str, Value] = {}
        for experiment in chosen:
            wanted |= _changed(family, experiment)
        settled = rules.settle(family.values, wanted, family.tokens)
        if settled:
            numbers = " and ".join(str(e.n) for e in sorted(chosen, key=lambda e: e.n))
            why = f"Experiments {numbers} were each a little better; together they may show."
            yield Idea(settled, why, words.risk_of(family.values, settled))


def ablations(family: Family) -> Iterator[Idea]:
    """The champion without one of the changes that were kept on the way to it, the oldest first: once each."""
    line = [e for e in family.history.line(family.parent) if e.parent is not None and e.n != family.parent]
    for experiment in reversed(line):
        turned = changes.read(experiment.what) or {}
        back = {name: old for name, (old, new) in turned.items() if family.values.get(name) == new}
        if turned and back.keys() == turned.keys():
            why = f"Ablation: experiment {experiment.n} changed this and was kept; what is it worth today?"
            yield Idea(back, why, "None but the run: most likely it is worse.")


def _changed(family: Family, experiment: Experiment) -> dict[str, Value]:
    """What it changed and the champion has not; empty for other code and for what the champion has already."""
    turned = changes.read(experiment.what) if experiment.n in family.constants else None
    return {name: new for name, (old, new) in (turned or {}).items() if family.values[name] == old and old != new}


def _size(values: Mapping[str, Value]) -> float | None:
    """Of a forward pass, in no unit; None where the constants do not say."""
    numbers = [values.get(name) for name in _LARGE]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        return None
    rows, depth, aspect = (float(str(number)) for number in numbers)
    return rows * depth * depth * aspect


def _taken(history: History, constants: Mapping[int, Mapping[str, Value]]) -> Iterator[tuple[float, float]]:
    """One for each size, the largest peak."""
    found: dict[float, float] = {}
    for experiment in history.experiments:
        size = _size(constants[experiment.n]) if experiment.n in constants else None
        if size and (peak := _peak_mb(experiment)):
            found[size] = max(peak, found.get(size, 0.0))
    yield from found.items()


def _peak_mb(experiment: Experiment) -> float | None:
    return max((run.result.peak_vram_mb or 0.0 for run in experiment.runs if run.result), default=None)


def _oom(experiment: Experiment) -> bool:
    return experiment.verdict is not None and experiment.verdict.reason == "oom"
