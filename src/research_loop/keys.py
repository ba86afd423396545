"""The user's keys, which belong neither into the ledger nor onto the screen, whoever quotes them."""

from __future__ import annotations

import os
import re

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
SHORTEST = 8
"""A shorter value stands for none, and is a word."""
WHOLE = 16
"""From this length on its beginning alone tells it: servers quote keys with their middle masked."""
SHOWN = "[key]"


def known() -> list[str]:
    """Values of the environment's variables that are called like keys, the longest first."""
    values = {value.strip() for name, value in os.environ.items() if NAMES.search(name)}
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)


def hide(text: str) -> str:
    """The text without them."""
    for value in known():
        pattern = re.escape(value[:SHORTEST]) + r"\S*" if len(value) >= WHOLE else re.escape(value)
        text = re.sub(pattern, SHOWN, text)
    return text


def holds(data: bytes) -> bool:
    """Whether one of them is in it, as it is."""
    return any(value.encode(errors="replace") in data for value in known())
