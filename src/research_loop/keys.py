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
PLACE = re.compile(r"[/~.]|\w+://")
"""How the path of a file with a key begins, or a server's address: many others begin alike."""
MARKS = "\"',:;()[]{}"
"""Around the values of a key that is JSON."""
SHOWN = "[key]"


def known() -> list[str]:
    """Values of the environment's variables that are called like keys, the longest first."""
    values = {value.strip() for name, value in os.environ.items() if NAMES.search(name)}
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)


def hide(text: str) -> str:
    """The text without them; of one that is several words, or lines, also without its longer words."""
    for value in known():
        for pattern in _patterns(value):
            text = re.sub(pattern, SHOWN, text)
    return text


def _patterns(value: str) -> Iterator[str]:
    words = value.split()
    if len(words) > 1:
        yield r"\s+".join(map(re.escape, words))
    for word in (word.strip(MARKS) for word in words):
        if len(word) >= WHOLE and not PLACE.match(word):
            yield re.escape(word[:SHORTEST]) + r"\S*"
        elif len(word) >= SHORTEST and re.search(r"\w", word):
            yield rf"(?<!\w){re.escape(word)}(?!\w)"


def holds(data: bytes, before: bytes = b"") -> bool:
    """Whether one of them is in it, as it is, that was not there `before`."""
    values = [value.encode(errors="replace") for value in known()]
    return any(value in data and value not in before for value in values)
