"""What must hold between constants, whoever turned them: the model's width, the batch, the schedule, the betas."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from research_loop.edits import Value
from research_loop.proposers.search import couplings, dials
from research_loop.proposers.search.couplings import SHAPE, aspect_for, shape, width

_MOST_LAYERS: Final = 1000


def settle(
    values: Mapping[str, Value], changes: Mapping[str, Value], sequence_length: int | None
) -> dict[str, Value] | None:
    """The changes with what must follow them, or None when they cannot hold or would do nothing.

    `values` are the constants before; `sequence_length` is in tokens, None when it is not known.
    """
    settled = {name: value for name, value in changes.items() if value != values[name]}
    if not settled or not _keep_width(values, settled):
        return None
    if not couplings.fit(values, settled, sequence_length):
        return None
    if not all(dials.limits_hold(name, values[name], new) for name, new in settled.items()):
        return None
    return settled if _within_limits(values, settled, sequence_length) else None


def whole(value: Value | None) -> int | None:
    """The value if it is a whole number (a boolean is not)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _keep_width(values: Mapping[str, Value], settled: dict[str, Value]) -> bool:
    before, after = shape(values), shape({**values, **settled})
    touched = {name for name in SHAPE if name in settled}
    if before is None or after is None or not touched:
        return True
    same = width(*before) == width(*after)
    if "ASPECT_RATIO" in touched:
        settled["ASPECT_RATIO"] = aspect_for(width(*after), after[0], after[2]) or after[1]  # one for all of a width
        if settled["ASPECT_RATIO"] == before[1]:
            del settled["ASPECT_RATIO"]
    if touched == {"ASPECT_RATIO"}:
        return not same  # rounded away: the same model again
    if touched == {"HEAD_DIM"} and not same:
        aspect = aspect_for(width(*before), before[0], after[2])
        if aspect is None:
            return False
        settled["ASPECT_RATIO"] = aspect
    return True


def _within_limits(before: Mapping[str, Value], settled: Mapping[str, Value], sequence_length: int | None) -> bool:
    """Only for what was changed: a champion that breaks a rule may still be improved elsewhere."""
    values = {**before, **settled}
    depth, pattern = values.get("DEPTH"), values.get("WINDOW_PATTERN")
    if "DEPTH" in settled and isinstance(depth, int | float) and depth < 1:
        return False
    if "WINDOW_PATTERN" in settled and isinstance(pattern, str) and isinstance(depth, int) and len(pattern) > depth:
        return False  # letters beyond the last layer do nothing
    if _misses_its_layers(before, values):
        return False
    if (window := whole(settled.get("SHORT_WINDOW"))) is not None:
        unused = isinstance(pattern, str) and "S" not in pattern
        if unused or not 0 < window < (sequence_length or math.inf):
            return False
    shares = [values.get(name) for name in ("WARMUP_RATIO", "WARMDOWN_RATIO")]
    too_long = sum(min(share, 2) for share in shares if isinstance(share, int | float)) > 1 + 1e-9
    return not (too_long and settled.keys() & {"WARMUP_RATIO", "WARMDOWN_RATIO"})


def _misses_its_layers(before: Mapping[str, Value], after: Mapping[str, Value]) -> bool:
    """Whether another pattern, of a larger or smaller share of long windows, has not more or fewer layers with them."""
    old, new = (values.get("WINDOW_PATTERN") for values in (before, after))
    depth = next((name for name in after if re.fullmatch(f"DEPTH|{couplings.LAYERS}", name)), "DEPTH")
    if old is None or new is None or old == new or before.get(depth) != after.get(depth):
        return False
    layers = whole(after.get(depth))
    was, is_now = long_layers(old, layers), long_layers(new, layers)
    wanted = dials.directions("WINDOW_PATTERN", old, new).get("WINDOW_PATTERN")
    return was is not None and is_now is not None and (is_now > was) - (is_now < was) != wanted


def long_layers(pattern: Value | None, depth: int | None) -> int | None:
    """How many layers see the whole row: the pattern is repeated, and the last is one, as in upstream's; None where
    they do not say."""
    if not isinstance(pattern, str) or not pattern or depth is None or not 1 <= depth <= _MOST_LAYERS:
        return None
    return (pattern * depth)[: depth - 1].count("L") + 1
