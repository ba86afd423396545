"""Proposers that take their time and may cost money: models behind an API, coding agents.

They are asked for one draft at a time, in a thread of their own, while runs go on. A drafter is an entry point of the
group `research_loop.proposers` like any other, with `drafts = True`; what stands behind its name and a colon is its
argument: `anthropic:MODEL`, `claude:MODEL`, `agent:COMMAND`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from research_loop.records import Checkout, Draft, Files


@dataclass(frozen=True, slots=True)
class Request:
    """What a drafter is asked for: an edit of `checkout.files`.

    `brief` is what it is told. `check` raises ProposalError, one line that the drafter may be told, for files that
    would not be run; it may take seconds. The draft has `seconds` of wall clock and may cost `usd` at most, None for
    any sum. When `stopped` is set nobody waits for it any more. `marks` belong into the environment of every process
    that is started for it.
    """

    checkout: Checkout
    brief: str
    check: Callable[[Files], None]
    seconds: float
    usd: float | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    marks: Mapping[str, str] = field(default_factory=dict)


class Drafter(Protocol):
    """Made of its argument, the text behind the colon; raises ConfigError where that cannot be."""

    name: str
    drafts: bool

    def draft(self, request: Request) -> Draft:
        """A proposal whose files passed `request.check`, by `name` and on `request.checkout.parent`; or why there is
        none. Leaves no process behind. Never raises for what a server, an agent or a model does."""
