"""The user's keys, which belong neither into the ledger nor onto the screen, whoever quotes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
SHORTEST = 8
"""A shorter value stands for none, and is a word."""
WHOLE = 16
"""From this length on its beginning alone tells it: servers quote keys with their middle masked."""
PLACE = re.compile(r"[/~.]\S*/|\w+://[^@]*$")
"""How the path of a file with a key begins, or a server's address without one in it: many others begin alike."""
MARKS = re.compile(r"[\s\"',:;()\[\]{}]+")
"""Between the parts of a key that is JSON, an address or several lines."""
SHOWN = "[key]"


def known() -> list[str]:
    """Values of the environment's variables that are called like keys, the longest first."""
    values = {value.strip() for name, value in os.environ.items() if NAMES.search(name)}
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)


def hide(text: str) -> str:
    """The text without them; of one that has several parts also without the long ones."""
    for value in known():
        for pattern in _patterns(value):
            text = re.sub(pattern, SHOWN, text)
    return text


def holds(data: bytes, before: bytes = b"") -> bool:
    """Whether one of them is in it, or a long part of one, that was not there `before`."""
    wanted = [part.encode(errors="replace") for value in known() for part in (value, *_parts(value))]
    return any(part in data and part not in before for part in wanted)


def _parts(value: str) -> list[str]:
    return [part for part in MARKS.split(value) if len(part) >= WHOLE and not PLACE.match(part)]


def _patterns(value: str) -> Iterator[str]:
    yield _whole(r"\s+".join(map(re.escape, value.split())), value)
    for part in _parts(value):
        start = part[:SHORTEST]
        if not (start.isalpha() and start.islower()):  # else it is a word that somebody took for a key
            yield _whole(re.escape(start) + r"\S*", start)
        yield re.escape(part)


def _whole(pattern: str, value: str) -> str:
    """Not in the middle of another word, where the value begins and ends as one."""
    ahead, behind = (r"\b" if re.match(r"\w", letter) else "" for letter in (value[0], value[-1]))
    return f"{ahead}{pattern}{'' if pattern.endswith('*') else behind}"
