"""The one text format of a change of constants: `NAME old -> new; NAME2 old -> new`.

A history carries no source, so an experiment's `what` is where the search reads what was changed. Anything
that is not in this format, such as a person's free words, reads as None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from research_loop.edits import Value, literal, render
from research_loop.errors import ProposalError

Change = tuple[Value, Value]
"""(old, new)"""

_PIECE: Final = re.compile(r"([A-Z][A-Z0-9_]*) (.+?) -> (.+)")
_SEPARATOR: Final = "; "


def describe(old: Mapping[str, Value], new: Mapping[str, Value]) -> str:
    """Text of the changes `new` to the constants `old`."""
    return _SEPARATOR.join(f"{name} {render(old[name])} -> {render(value)}" for name, value in new.items())


@lru_cache(maxsize=16384)
def _parsed(what: str) -> tuple[tuple[str, Change], ...] | None:
    found = []
    for piece in what.split(_SEPARATOR):
        match = _PIECE.fullmatch(piece)
        if match is None:
            return None
        try:
            found.append((match[1], (_value(match[2]), _value(match[3]))))
        except ProposalError:
            return None
    return tuple(found)


def read(what: str) -> dict[str, Change] | None:
    """Changes by name, or None for a text in no or another format."""
    found = _parsed(what)
    return None if found is None else dict(found)


def _value(text: str) -> Value:
    """literal(), with a short cut for plain numbers: ten thousand of them are read for one proposal."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return literal(text)
