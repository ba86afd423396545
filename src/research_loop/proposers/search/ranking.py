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
"""At once: one does not show above the noise, and who is far from the best gets there sooner."""
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
    table: tuple[Move, ...] = MOVES,
) -> Iterator[Idea]:
    """Ideas of the table that are due, best first.

    `sequence_length` is in tokens, None where it is not known; `starved`: smaller models before larger ones.
    """
    known = {dial.key: dial for dial in dials(values)}
    for move in _in_order(table) if starved else table:
        for times in range(STEPS, 0, -1):
            wanted = move.apply(values, times)
            settled = rules.settle(values, wanted, sequence_length) if wanted else None
            turns = turns_of({name: (values[name], new) for name, new in (settled or {}).items()})
            size = any(key in known and known[key].kind in SIZES for key, _ in turns)
            if settled and turns and lessons.allows(turns, known) and _is_due(turns, lessons, STEPS - times, size):
                yield Idea(settled, _why(move, lessons.ideas.get(turns, []), lessons), move.risk)


def _is_due(turns: frozenset[Turn], lessons: Lessons, shorter: int, size: bool) -> bool:
    """A step `shorter` than the first by so many: where no opposite was kept, and neither this nor a longer one failed.

    A size is tried by a shorter step where the longer failed, and goes on once where one was kept: a rate is not worth
    the runs (benchmarks/search.py).
    """
    opposite = lessons.ideas.get(frozenset((key, -direction) for key, direction in turns), [])
    before = lessons.ideas.get(turns, [])
    kept = sum(experiment.kept for experiment in before)
    failed = len(before) - kept
    if any(e.verdict is None for e in before) or any(e.kept for e in opposite):
        return False
    return kept <= size and failed <= (shorter if size else 0)


def _why(move: Move, before: list[Experiment], lessons: Lessons) -> str:
    kept = next((e for e in before if e.kept), None)
    return f"It helped once ({lessons.difference(kept)}): further. {move.why}" if kept else move.why


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
