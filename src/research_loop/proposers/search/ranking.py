"""Which of the ranked moves are due, in which order, and by how large a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from research_loop.edits import Value
from research_loop.proposers.search import rules
from research_loop.proposers.search.dials import dials
from research_loop.proposers.search.lessons import Lessons, Turn, turns_of
from research_loop.proposers.search.moves import MOVES, Idea, Move
from research_loop.records import Experiment

STEPS: Final = 2
"""At once: what a usual step gains does not show above the noise, and who is far from the best gets there sooner
(docs/decisions.md, 2026-11-30)."""
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
    table: tuple[Move, ...] = MOVES,
) -> Iterator[Idea]:
    """Ideas of the table that were not tried, nor their opposites kept, best first.

    `sequence_length` is in tokens, None where it is not known; `starved`: smaller models before larger ones.
    """
    known = {dial.key: dial for dial in dials(values)}
    for move in _in_order(table) if starved else table:
        for times in range(STEPS, 0, -1):  # fewer where so many do not fit, or would take too much memory
            wanted = move.apply(values, times)
            settled = rules.settle(values, wanted, sequence_length) if wanted else None
            turns = turns_of({name: (values[name], new) for name, new in (settled or {}).items()})
            if settled and _is_due(turns, lessons) and lessons.allows(turns, known):
                yield Idea(settled, move.why, move.risk)


def _is_due(turns: frozenset[Turn], lessons: Lessons) -> bool:
    """Never tried, and its opposite was not kept."""
    opposite = frozenset((key, -direction) for key, direction in turns)
    return bool(turns) and turns not in lessons.ideas and not any(e.kept for e in lessons.ideas.get(opposite, []))


def starved(champion: Experiment, values: Mapping[str, Value]) -> bool:
    """Whether its runs train on few tokens for the size of their model; False where that is not known."""
    batch, last, shape = rules.whole(values.get("TOTAL_BATCH_SIZE")), champion.last, rules.shape(values)
    if not batch or not shape or not last or last.steps_per_second is None or last.training_seconds is None:
        return False
    tokens = last.steps_per_second * last.training_seconds * batch
    return tokens < FEW_TOKENS * LAYER_WEIGHTS * shape[0] * rules.width(*shape) ** 2


def _in_order(table: Iterable[Move]) -> list[Move]:
    """The moves to smaller models before those to larger ones."""
    moves = list(table)
    smaller = [move for move in moves if move.name in SMALLER]
    rest = [move for move in moves if move.name not in SMALLER]
    first = next((i for i, move in enumerate(rest) if move.name in LARGER), len(rest))
    return rest[:first] + smaller + rest[first:]
