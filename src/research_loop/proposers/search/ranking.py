"""Which of the ranked moves are due, in which order, and by how large a step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from research_loop.edits import Value
from research_loop.proposers.search import changes, couplings, rules, words
from research_loop.proposers.search.dials import dials
from research_loop.proposers.search.field_moves import table as table_for
from research_loop.proposers.search.lessons import Lessons, Turn, turns_of
from research_loop.proposers.search.moves import Idea, Move
from research_loop.records import Experiment

STEPS: Final = 2
"""At once: one does not show above the noise, and who is far from the best gets there sooner."""
NOISY, NOISY_STEPS = 0.005, 3
"""Where runs differ by that share of the score or more, what two steps gain does not show either."""
SIZES: Final = frozenset({"size", "count", "width", "pattern"})
"""Kinds of dial whose single step is a large one."""
FEW_TOKENS: Final = 10.0
"""A weight. Twice as many are the best use of a training budget (Hoffmann et al., arXiv 2203.15556)."""
LAYER_WEIGHTS: Final = 12
"""Of a transformer block, in squares of the model's width."""
SMALLER: Final = ("shallower, same width", "narrower")
LARGER: Final = ("wider", "deeper and wider", "deeper, same width")


def ranked(
    values: Mapping[str, Value],
    lessons: Lessons,
    sequence_length: int | None,
    starved: bool = False,
    table: tuple[Move, ...] | None = None,
    most: int = STEPS,
) -> Iterator[Idea]:
    """Ideas of the table that are due, best first; without one, of that for these constants.

    `sequence_length` is in tokens, None where it is not known; `starved`: smaller models before larger ones; `most`:
    steps at once.
    """
    known = {dial.key: dial for dial in dials(values)}
    every = table_for(values) if table is None else table
    moves = _in_order(every) if starved else every
    for move, steps in itertools.product(moves, (most, 1)):
        settled = _settled(move, values, steps, sequence_length)
        turned = {name: (values[name], new) for name, new in settled.items()}
        turns = turns_of(turned)
        size = any(key in known and known[key].kind in SIZES for key, _ in turns)
        if turns and (size or steps == most) and lessons.allows(turns, known) and _is_due(turned, turns, size, lessons):
            why, risk = (move.why, move.risk) if move.why else words.told(values, settled)
            yield Idea(settled, _before(lessons.ideas.get(turns, []), lessons) + why, risk)


def _settled(move: Move, values: Mapping[str, Value], steps: int, sequence_length: int | None) -> dict[str, Value]:
    """Changes of so many steps, or of as many as the constants bear; empty where they bear none."""
    for times in range(steps, 0, -1):
        wanted = move.apply(values, times)
        if wanted and (settled := rules.settle(values, wanted, sequence_length)):
            return settled
    return {}


def _is_due(turned: Mapping[str, changes.Change], turns: frozenset[Turn], size: bool, lessons: Lessons) -> bool:
    """Where the opposite was not kept, none of both is open, and it did not fail; once more where it was kept.

    A size is due as well where only longer steps failed: a rate is not worth the runs (benchmarks/search.py).
    """
    opposite = lessons.ideas.get(frozenset((key, -direction) for key, direction in turns), [])
    before = lessons.ideas.get(turns, [])
    if any(e.verdict is None for e in before) or any(e.verdict is None or e.kept for e in opposite):
        return False
    longer = [_length(changes.read(e.what) or {}) > 1.01 * _length(turned) for e in before if not e.kept]
    return len(before) - len(longer) <= 1 and (size or not longer) and all(longer)


def _length(turned: Mapping[str, changes.Change]) -> float:
    """Of a step, in powers of two of all numbers together, and letters of a pattern."""
    letters = sum(
        abs(len(new) - len(old)) for old, new in turned.values() if isinstance(old, str) and isinstance(new, str)
    )
    pairs = [
        (old, new) for old, new in turned.values() if isinstance(old, int | float) and isinstance(new, int | float)
    ]
    return letters + sum(abs(math.log2(new) - math.log2(old)) for old, new in pairs if old > 0 and new > 0)


def _before(before: list[Experiment], lessons: Lessons) -> str:
    kept, last = next((e for e in before if e.kept), None), before[-1] if before else None
    helped = f"It helped once ({lessons.difference(kept)}). " if kept else ""
    too_far = f"A longer step did not help ({lessons.difference(last)}). " if last and not last.kept else ""
    return helped + too_far


def noisy(champion: Experiment, sigma: float) -> bool:
    """Whether the standard deviation `sigma`, of runs of the same code or of pairs of two, is large for its score; 0
    is that it is not known."""
    return champion.score is not None and 0 < sigma >= NOISY * abs(champion.score.value)


def starved(champion: Experiment, values: Mapping[str, Value]) -> bool:
    """Whether its runs train on few tokens for the size of their model; False where that is not known."""
    batch, shape = rules.whole(values.get("TOTAL_BATCH_SIZE")), couplings.shape(values)
    last = champion.scored[-1] if champion.scored else None
    if not batch or not shape or not last or last.steps_per_second is None or last.training_seconds is None:
        return False
    tokens = last.steps_per_second * last.training_seconds * batch
    return tokens < FEW_TOKENS * LAYER_WEIGHTS * shape[0] * couplings.width(*shape) ** 2


def _in_order(table: Iterable[Move]) -> list[Move]:
    """The moves to smaller models before those to larger ones."""
    moves = list(table)
    smaller = [move for move in moves if move.name in SMALLER]
    rest = [move for move in moves if move.name not in SMALLER]
    first = next((i for i, move in enumerate(rest) if move.name in LARGER), len(rest))
    return rest[:first] + smaller + rest[first:]
