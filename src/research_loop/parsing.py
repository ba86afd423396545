"""Python's parser, one thread at a time: drafts are checked beside the loop.

Up to Python 3.12 two threads in `ast.parse` at once may end in a SystemError ("AST constructor recursion depth
mismatch"; CPython's issue 106905): where a collection of garbage runs Python code, one goes on in the other's middle.
"""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOCK = threading.RLock()
"""To be held while anything is parsed."""


@contextmanager
def quietly() -> Iterator[None]:
    """Holds the lock, and nothing warns: what is ignored is of the whole process, so two threads must not change it."""
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(source: str | bytes, mode: str = "exec") -> Any:
    """ast.parse; raises as it does, and warns of nothing."""
    with quietly():
        return ast.parse(source, mode=mode)
