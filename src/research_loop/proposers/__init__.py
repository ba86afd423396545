"""Proposers: who edits. Each is one entry point of the group `research_loop.proposers`, the built-ins included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from research_loop import plugins
from research_loop.errors import ConfigError
from research_loop.proposers.drafting import Drafter
from research_loop.records import Checkout, History, Proposal


class Proposer(Protocol):
    """Edits the champion. `name`, or name/arm where it has several ways, is what the ledger records as the author."""

    name: str

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        """The next proposal, an edit of `checkout.files`; None when nothing is left to propose.

        Called again while earlier experiments are still open (their verdict is None). A proposal's key
        (`edits.key` of its files) must not be in the history, decided or open.
        """


def load(name: str) -> Callable[..., Any]:
    """The proposer's class or factory by its entry-point name; ConfigError names the known ones."""
    factory: Callable[..., Any] = plugins.load("proposer", name)
    return factory


def choose(names: Sequence[str], seed: int) -> tuple[Proposer, list[Drafter], bool]:
    """Of proposers by name, or name:argument: who stands in while drafts are made (the search where nobody is named),
    the drafters, and whether they share the loop with it. Raises ConfigError."""
    found: list[Proposer] = []
    drafters: dict[str, Drafter] = {}
    for name in dict.fromkeys(names):
        if not name.isprintable():  # lone surrogates are not, either
            raise ConfigError(f"proposer {name!r}: it holds characters that cannot be printed: name it without them")
        kind, colon, argument = name.partition(":")
        factory = load(kind)
        if getattr(factory, "drafts", False):
            drafter = factory(argument)
            if drafter.name in drafters:
                raise ConfigError(f"proposer {name!r}: another one is called {drafter.name}, too: name it once")
            drafters[drafter.name] = drafter
        elif colon:
            raise ConfigError(f"proposer {name!r}: {kind} takes nothing behind a colon: leave that out")
        else:
            found.append(factory(seed=seed))
    if len(found) > 1:
        raise ConfigError(f"proposers {found[0].name} and {found[1].name}: both propose at once: name one of them")
    return found[0] if found else load("search")(seed=seed), [*drafters.values()], bool(found)
