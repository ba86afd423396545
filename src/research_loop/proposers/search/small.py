"""Small moves around the champion: one constant or two at a time, steps that adapt to what was kept.

Every neighbour of every dial comes up once, in an order drawn by weight: dials that gave keeps more often, those
whose directions both failed less often. When all of them were tried, several dials turn at once, by any step.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from research_loop.edits import Value
from research_loop.proposers.search import couplings, rules, words
from research_loop.proposers.search.dials import Dial, Kind, dials, neighbours, put
from research_loop.proposers.search.lessons import Lessons, Turn
from research_loop.proposers.search.moves import Idea

_PRIOR: Final[Mapping[Kind, float]] = {
    "rate": 1.0,
    "size": 0.8,
    "width": 0.8,
    "count": 0.8,
    "ratio": 0.7,
    "scale": 0.6,
    "beta": 0.5,
    "pattern": 0.4,
    "switch": 0.05,
}
_FIXED_STEPS: Final = frozenset({"size", "width", "count", "pattern", "switch"})
_BUSY: Final = 0.2
_PAIRS: Final = 0.2
"""Share of proposals that turn two dials at once."""
_PARTNERS: Final = 4
_MOST_AT_ONCE: Final = 4
_FAR_TRIES: Final = 2000
_MOST_MIXES: Final = 100
_WORDS: Final = {1: "up", -1: "down"}


def around(
    values: Mapping[str, Value], lessons: Lessons, sequence_length: int | None, rng: random.Random
) -> Iterator[Idea]:
    """Ideas near the champion's values, in the order to try them, and then some hundreds farther away."""
    known = {dial.key: dial for dial in dials(values)}
    turns = _ordered(list(known.values()), lessons, rng)
    pairs = _pairs(turns) if rng.random() < _PAIRS else iter(())
    for group in itertools.chain(pairs, ((turn,) for turn in turns)):
        if lessons.allows(frozenset(group), known):
            dials_turned = [(known[key], direction) for key, direction in group]
            yield from _ideas(values, dials_turned, lessons, sequence_length, rng)
    yield from _afar(values, known, lessons, sequence_length, rng)


def _afar(
    values: Mapping[str, Value],
    known: Mapping[str, Dial],
    lessons: Lessons,
    sequence_length: int | None,
    rng: random.Random,
) -> Iterator[Idea]:
    """One to four dials at once, each by a step from a quarter of the usual one to three of it."""
    for _ in range(_FAR_TRIES if known else 0):
        chosen = rng.sample(list(known.values()), rng.randint(1, min(_MOST_AT_ONCE, len(known))))
        group = [(dial, rng.choice((1, -1))) for dial in chosen]
        if lessons.allows(frozenset((dial.key, direction) for dial, direction in group), known):
            stretched = replace(lessons, scale={key: rng.uniform(0.25, 3.0) for key in known})
            yield from itertools.islice(_ideas(values, group, stretched, sequence_length, rng), 1)


def _ordered(found: list[Dial], lessons: Lessons, rng: random.Random) -> list[Turn]:
    """All turns: first those not failed since the dial's step changed, then, as a last resort, the others, and what
    takes a kept step back."""
    # Weighted order without replacement, after Efraimidis and Spirakis (2006).
    by_weight = sorted(found, key=lambda dial: rng.random() ** (1 / _weight(dial, lessons)), reverse=True)
    fresh: list[Turn] = []
    stale: list[Turn] = []
    for dial in by_weight:
        failed = lessons.failed.get(dial.key, set())
        for direction in rng.sample((1, -1), 2):
            back = dial.kind in _FIXED_STEPS and (dial.key, -direction) in lessons.kept
            (stale if direction in failed or back else fresh).append((dial.key, direction))
    return fresh + stale


def _weight(dial: Dial, lessons: Lessons) -> float:
    success = (1 + 2 * lessons.keeps[dial.key]) / (2 + lessons.tries[dial.key])
    narrowed = min(1.0, lessons.scale.get(dial.key, 1.0))
    # A step that cannot become smaller is not worth repeating nearly as soon.
    weight = _PRIOR[dial.kind] * success * (narrowed**3 if dial.kind in _FIXED_STEPS else narrowed)
    return weight * (_BUSY if dial.key in lessons.busy else 1.0)


def _pairs(turns: list[Turn]) -> Iterator[tuple[Turn, Turn]]:
    """The first turns with each other, never two of the same constant."""
    first = turns[: 2 * _PARTNERS]
    return ((a, b) for a, b in itertools.combinations(first, 2) if a[0].split("[")[0] != b[0].split("[")[0])


def _ideas(
    values: Mapping[str, Value],
    group: list[tuple[Dial, int]],
    lessons: Lessons,
    sequence_length: int | None,
    rng: random.Random,
) -> Iterator[Idea]:
    options = [_options(values, dial, direction, lessons, rng) for dial, direction in group]
    why = " ".join(_why(dial, direction, lessons) for dial, direction in group)
    risk = words.risk(group)
    for new in itertools.islice(itertools.product(*options), _MOST_MIXES):
        changes = {dial.name: put(values, dial, value) for (dial, _), value in zip(group, new, strict=True)}
        settled = rules.settle(values, changes, sequence_length)
        if settled:
            yield Idea(settled, why, risk)


def _options(
    values: Mapping[str, Value], dial: Dial, direction: int, lessons: Lessons, rng: random.Random
) -> list[Value]:
    shape = couplings.shape(values)
    if dial.kind == "width" and shape is not None:
        depth, _, head = shape
        aspect = couplings.aspect_for(couplings.width(*shape) + direction * head, depth, head)
        return [aspect] if aspect is not None else []
    return neighbours(dial, direction, lessons.scale.get(dial.key, 1.0), rng)


def _why(dial: Dial, direction: int, lessons: Lessons) -> str:
    """What the history says about this turn; the newest word on it counts."""
    key, here, other = dial.key, _WORDS[direction], _WORDS[-direction]
    kept, lost = lessons.kept.get((key, direction)), lessons.lost.get((key, direction))
    lost_other = lessons.lost.get((key, -direction))
    if kept is not None and (lost is None or kept.n > lost.n):
        return f"{key} {here} was kept ({lessons.difference(kept)}): a step further."
    if lost is None and (left := lessons.kept.get((key, -direction))) is not None:
        return f"{key} {other} was kept ({lessons.difference(left)}): is that still so, from another champion?"
    if lost is None and lost_other is not None:
        return f"{key} {other} did not help ({lessons.difference(lost_other)}); {here}: {words.reason(dial, direction)}"
    if lost is None:
        return f"{key} {here}: {words.reason(dial, direction)}"
    smaller = dial.kind not in _FIXED_STEPS and lessons.scale.get(key, 1.0) < 1
    again = "a smaller step." if smaller else "once more, from another champion."
    if lost_other is not None:
        return f"{key} did not help either way ({lessons.difference(lost)}, {lessons.difference(lost_other)}): {again}"
    return f"{key} {here} did not help ({lessons.difference(lost)}): {again}"
