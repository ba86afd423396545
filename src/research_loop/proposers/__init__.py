"""Proposers: who edits. Each is one entry point of the group `research_loop.proposers`, the built-ins included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from research_loop import plugins
from research_loop.records import Checkout, History, Proposal


class Proposer(Protocol):
    """Edits the champion. `name`, or name/arm where it has several ways, is what the ledger records as the author."""

    name: str

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        """The next proposal, an edit of `checkout.files`; None when nothing is left to propose.

        Called again while earlier experiments are still open (their verdict is None). A proposal's key
        (`edits.key` of its files) must not be in the history, decided or open.
        """


def load(name: str) -> Callable[..., Proposer]:
    """The proposer's class or factory by its entry-point name; ConfigError names the known ones."""
    factory: Callable[..., Proposer] = plugins.load("proposer", name)
    return factory
