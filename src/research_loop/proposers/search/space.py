"""The dials as a box around a centre, for models: every experiment whose code differs from the champion's by constants
alone is a point in it, wherever in the family it stands.

A trust region: a third to three times a rate, two steps of a count or a size, a quarter of a ratio to either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from research_loop.edits import Value
from research_loop.proposers.search import changes, dials
from research_loop.proposers.search.changes import Change
from research_loop.proposers.search.dials import Dial
from research_loop.records import Experiment, History

HALF_WIDTHS: Mapping[str, float] = {
    "rate": math.log(3),
    "scale": math.log(3),
    "beta": math.log(3),
    "width": math.log(1.6),
    "ratio": 0.25,
    "size": 2.0,
    "count": 2.0,
}
OUTSIDE = 0.5
"""How far beyond the box, in its width, a point may lie and still be used, at the border."""
CODE_FAILED = ("crash", "rejected")


@dataclass(frozen=True, slots=True)
class Axis:
    """One dial as a number from 0 to 1, where 0.5 is the centre; what has no order has `options` in place of that."""

    dial: Dial
    half_width: float = 0.0
    options: tuple[Value, ...] = ()

    def encode(self, value: Value) -> float | None:
        """None for what is not in the box nor near it."""
        if self.options:
            known = self.options.index(value) if value in self.options else None
            return None if known is None else known / (len(self.options) - 1)
        there, centre = _forward(self.dial, value), _forward(self.dial, self.dial.value)
        if there is None or centre is None:
            return None
        place = (there - centre) / (2 * self.half_width) + 0.5
        return min(max(place, 0.0), 1.0) if -OUTSIDE <= place <= 1 + OUTSIDE else None

    def decode(self, place: float) -> Value:
        """The value, with two digits or a whole step."""
        if self.options:
            return self.options[round(place * (len(self.options) - 1))]
        centre = _forward(self.dial, self.dial.value)
        assert centre is not None
        if abs(place - 0.5) < 1e-9:
            return self.dial.value
        return _backward(self.dial, centre + (2 * place - 1) * self.half_width)


@dataclass(frozen=True, slots=True)
class Point:
    """One experiment in the box: places of all axes. `score` is lower-is-better; None while it is open or where it
    failed. `runs` are those that the score is the mean of."""

    places: tuple[float, ...]
    experiment: Experiment
    score: float | None
    runs: int

    @property
    def open(self) -> bool:
        return self.experiment.verdict is None

    @property
    def failed(self) -> bool:
        return self.score is None and not self.open


def axes_around(centre: Mapping[str, Value], wider: float = 1.0) -> list[Axis]:
    """An axis a dial, in the order of the file; zero and negative numbers on a log scale have none."""
    found = []
    for dial in dials.dials(centre):
        if dial.kind == "switch":
            found.append(Axis(dial, options=(dial.value, not dial.value)))
        elif isinstance(dial.value, str):
            found.append(Axis(dial, options=_patterns(dial.value)))
        elif _forward(dial, dial.value) is not None:
            found.append(Axis(dial, HALF_WIDTHS[dial.kind] * wider))
    return found


def _patterns(pattern: str) -> tuple[str, ...]:
    near = (dials.root(pattern), "L", "SL", "SSL", "SSSL", "S")
    return tuple(dict.fromkeys((pattern, *near)))


def family(history: History, parent: int, values: Mapping[str, Value]) -> dict[int, dict[str, Value]]:
    """Constants by experiment, for all whose code is the champion's but for constants.

    A history holds no code, so they are told by what was changed: back along the champion's line, as far as its edits
    were of constants, and from there forward to all that were made of these. `values` are the champion's.
    """
    found: dict[int, dict[str, Value]] = {}
    current = dict(values)
    for experiment in history.line(parent):
        found[experiment.n] = current
        turned = changes.read(experiment.what) if experiment.parent is not None else None
        if turned is None or not _fits(turned, values):
            break
        current = {**current, **{name: old for name, (old, _) in turned.items()}}
    for experiment in history.experiments:
        if experiment.n in found or experiment.parent not in found:
            continue
        turned = changes.read(experiment.what)
        if turned is not None and _fits(turned, values):
            found[experiment.n] = {**found[experiment.parent], **{name: new for name, (_, new) in turned.items()}}
    return found


def _fits(turned: Mapping[str, Change], values: Mapping[str, Value]) -> bool:
    """Whether `values` have all constants that were turned, in tuples and lists of the same lengths."""
    shapes = ((_shape(old), _shape(new), _shape(values.get(name, ()))) for name, (old, new) in turned.items())
    return turned.keys() <= values.keys() and all(old == new == ours for old, new, ours in shapes)


def _shape(value: Value) -> list[Any] | None:
    return [_shape(part) for part in value] if isinstance(value, tuple | list) else None


def points(
    history: History,
    known: Mapping[int, Mapping[str, Value]],
    means: Mapping[int, float],
    axes: list[Axis],
    sign: float,
) -> list[Point]:
    """The family's experiments in the box; `means` are their comparable scores, `sign` is -1 where higher is better."""
    found = []
    for experiment in history.experiments:
        if experiment.n not in known:
            continue
        places = [axis.encode(_value(known[experiment.n], axis.dial)) for axis in axes]
        if all(place is not None for place in places):
            kept = tuple(place for place in places if place is not None)
            score = means.get(experiment.n) if _counts(experiment) else None
            found.append(Point(kept, experiment, None if score is None else sign * score, len(experiment.scores)))
    return found


def moved(axes: list[Axis], places: tuple[float, ...], values: Mapping[str, Value]) -> dict[str, Value]:
    """Constants of a place that differ from `values`."""
    new = dict(values)
    for axis, place in zip(axes, places, strict=True):
        new[axis.dial.name] = dials.put(new, axis.dial, axis.decode(place))
    return {name: value for name, value in new.items() if value != values[name]}


def _counts(experiment: Experiment) -> bool:
    """Whether a model learns from its score: not from runs that were not believed, took too long, or crashed."""
    verdict, last = experiment.verdict, experiment.last
    if verdict is None or last is None:
        return False
    return last.outcome not in CODE_FAILED and verdict.reason not in ("overtime", "unverified")


def _value(values: Mapping[str, Value], dial: Dial) -> Value:
    return dict(dials.leaves(values[dial.name])).get(dial.path, "")


def _forward(dial: Dial, value: Value) -> float | None:
    """On the scale on which steps are alike; None where it has no place there."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if dial.kind in ("ratio", "count"):
        return float(value)
    if dial.kind == "beta":
        return -math.log(1 - value) if value < 1 else None
    if value <= 0:
        return None
    return math.log2(value) if dial.kind == "size" else math.log(value)


def _backward(dial: Dial, number: float) -> Value:
    if dial.kind == "ratio":
        return round(min(max(number, 0.0), 1.0), 2)
    if dial.kind == "count":
        return max(1, round(number))
    if dial.kind == "size":
        return int(2 ** max(0, round(number)))
    if dial.kind == "beta":
        return round(1 - float(f"{min(math.exp(-number), 0.99):.2g}"), 8)
    short = float(f"{math.exp(number):.2g}")
    return max(1, round(short)) if isinstance(dial.value, int) else short
