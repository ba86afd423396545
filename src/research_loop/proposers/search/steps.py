"""Steps from old values of constants to new ones, which moves.py and field_moves.py name and give reasons for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from research_loop.edits import Value
from research_loop.proposers.search import couplings, rules
from research_loop.proposers.search.dials import tidy

New = tuple[Value, ...]
LEAST_HEAD: Final = 16


def times(factor: float) -> Callable[..., New | None]:
    def change(value: Value) -> New | None:
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            return None
        return (tidy(value, factor),)

    return change


def plus(step: float) -> Callable[..., New | None]:
    """For shares of the run: stays within 0 and 1."""

    def change(value: Value) -> New | None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value + step <= 1:
            return None
        return (round(float(value + step), 6),)

    return change


def plus_whole(step: int) -> Callable[..., New | None]:
    def change(value: Value) -> New | None:
        number = rules.whole(value)
        return (number + step,) if number and number + step > 0 else None

    return change


def nearer_one(factor: float) -> Callable[..., New | None]:
    """For averages: 1 - beta times the factor."""

    def change(value: Value) -> New | None:
        if not isinstance(value, float) or not 0 < value < 1:
            return None
        new = round(1 - tidy(1 - value, factor), 8)
        return (new,) if 0 < new < 1 else None

    return change


def beta(index: int, factor: float) -> Callable[..., New | None]:
    def change(betas: Value) -> New | None:
        if not isinstance(betas, tuple) or len(betas) <= index:
            return None
        new = nearer_one(factor)(betas[index])
        return None if new is None else ((*betas[:index], new[0], *betas[index + 1 :]),)

    return change


def halved(value: Value) -> New | None:
    number = rules.whole(value)
    return (number // 2,) if number and number > 1 and number % 2 == 0 else None


def doubled(value: Value) -> New | None:
    number = rules.whole(value)
    return (number * 2,) if number and number > 0 else None


def reshaped(layers: int, heads: int) -> Callable[..., New | None]:
    """More layers, and a width of so many more heads; the aspect ratio follows from both."""

    def change(depth: Value, aspect: Value, head: Value) -> New | None:
        old = couplings.shape({"DEPTH": depth, "ASPECT_RATIO": aspect, "HEAD_DIM": head})
        if old is None or old[0] + layers < 1:
            return None
        new_depth = old[0] + layers
        new_aspect = couplings.aspect_for(couplings.width(*old) + heads * old[2], new_depth, old[2])
        return None if new_aspect is None else (new_depth, new_aspect, old[2])

    return change


def narrower(depth: Value, aspect: Value, head: Value) -> New | None:
    """By a head; where there is one alone, by half of it."""
    old = couplings.shape({"DEPTH": depth, "ASPECT_RATIO": aspect, "HEAD_DIM": head})
    half = smaller_head(head)
    if old is None or half is None or couplings.width(*old) > old[2]:
        return reshaped(0, -1)(depth, aspect, head)
    new_aspect = couplings.aspect_for(half[0], old[0], half[0])
    return None if new_aspect is None else (old[0], new_aspect, *half)


def smaller_head(head: Value) -> tuple[int] | None:
    """Half of it, as long as that is even: rotations take pairs."""
    number = rules.whole(head)
    return (number // 2,) if number and number % 4 == 0 and number // 2 >= LEAST_HEAD else None


def shorter_windows(pattern: Value, depth: Value) -> New | None:
    """A short layer more in a turn, or as many as it takes for a long one less in all."""
    layers = rules.whole(depth) or 0
    before = rules.long_layers(pattern, layers)
    if before is None or not isinstance(pattern, str) or "L" not in pattern or set(pattern) - {"S", "L"}:
        return None
    longer = ["SSSL", "SSL", "SL"] if pattern == "L" else ["S" * more + pattern for more in range(1, layers)]
    fewer = (new for new in longer if len(new) <= layers and (rules.long_layers(new, layers) or before) < before)
    return next(((new, layers) for new in fewer), None)


def joined(share: Value, *tables: Value) -> New | None:
    """What tables give, whole, where nothing of it is used."""
    return (1.0, *tables) if share == 0 and isinstance(share, float) and all(tables) else None


def averaged(half_life: Value, final: Value) -> New | None:
    """An average that is off, with the last rate that it bears."""
    if isinstance(half_life, bool) or half_life != 0 or not isinstance(final, float) or not 0 <= final < 1:
        return None
    return (0.08, max(final, 0.35))
