"""The `builtin` data set: a small simulated world of people, places and things, told in simple English.

Every document simulates a state (who is where, who has what, how many are left) and derives its sentences
from it, so whatever is said late follows from what was said early.
"""

from __future__ import annotations

from collections.abc import Callable

from research_loop.data.tales import counting, finding, lost, story, wishing
from research_loop.data.telling import Dice
from research_loop.data.writings import diary, letter, order, recipe, riddles, route, stock, talk

VERSION = "1"
"""Changes whenever any byte of any shard does."""

SHARDS = 12
"""Shards 0 to 10 are for training, the last one, 11, for validation."""

SHARD_BYTES = 3_000_000
VALIDATION_BYTES = 1_500_000

KINDS: tuple[tuple[int, Callable[[Dice], str]], ...] = (
    (6, story),
    (3, finding),
    (2, counting),
    (2, wishing),
    (1, lost),
    (4, talk),
    (3, letter),
    (3, diary),
    (2, riddles),
    (1, order),
    (1, stock),
    (1, recipe),
    (1, route),
)
"""How often, and what: each function makes one document."""

_BAG = tuple(kind for times, kind in KINDS for _ in range(times))
_FIRST_SEED = 1_000


def shard(index: int) -> list[str]:
    """The documents of one shard, about `SHARD_BYTES` (the last: `VALIDATION_BYTES`) of ASCII text in all.

    Shards do not depend on one another, so they can be made in any order and in parallel.
    Raises IndexError for an index outside 0 to SHARDS - 1.
    """
    if not 0 <= index < SHARDS:
        raise IndexError(f"shard {index}: there are shards 0 to {SHARDS - 1}")
    dice = Dice(_FIRST_SEED + index)
    left = VALIDATION_BYTES if index == SHARDS - 1 else SHARD_BYTES
    documents = []
    while left > 0:
        document = dice.pick(_BAG)(dice)
        documents.append(document)
        left -= len(document)
    return documents
