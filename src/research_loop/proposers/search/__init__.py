"""The built-in search: needs no model and no network. Ranked moves first, then small moves around the champion.

Works on any Python file with constants in capitals. All it knows it reads from the history, so it goes on after
a restart as if nothing had happened.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping

from research_loop import edits
from research_loop.edits import Value, Variants
from research_loop.errors import ProposalError
from research_loop.proposers.search import changes, dials, moves, small
from research_loop.proposers.search.lessons import Lessons, learn
from research_loop.records import Checkout, History, Proposal

__all__ = ["SearchProposer"]

_MOST_TRIES = 2000


class SearchProposer:
    """Same seed and same history, same proposals; never one whose key is in the history, decided or open."""

    name = "search"
    deterministic = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        """The next edit of constants; None when there are no dials or all neighbours were tried."""
        variants = _file_with_most_dials(checkout)
        if variants is None:
            return None
        values = {name: constant.value for name, constant in variants.constants.items()}
        lessons = learn(history, checkout.parent)
        rng = random.Random(f"{self.seed}/{checkout.parent}/{len(history.experiments)}")
        ideas = _ideas(values, lessons, _sequence_length(checkout, values), rng)
        for idea in itertools.islice(ideas, _MOST_TRIES):
            if variants.key(idea.changes) not in lessons.keys:
                return self._proposal(checkout, variants.path, values, idea)
        return None

    def _proposal(self, checkout: Checkout, path: str, values: dict[str, Value], idea: moves.Idea) -> Proposal:
        source = edits.replace(checkout.files[path].decode(), idea.changes, path)
        return Proposal(
            files={**checkout.files, path: source.encode()},
            what=changes.describe(values, idea.changes),
            why=idea.why,
            risk=idea.risk,
            proposer=self.name,
            parent=checkout.parent,
        )


def _ideas(values: dict[str, Value], lessons: Lessons, tokens: int | None, rng: random.Random) -> Iterator[moves.Idea]:
    yield from moves.ranked(values, lessons, tokens)
    yield from small.around(values, lessons, tokens, rng)


def _file_with_most_dials(checkout: Checkout) -> Variants | None:
    """The editable Python file to work on; files that cannot be read are passed over."""
    best, most = None, 0
    for path in sorted(checkout.files):
        if not path.endswith(".py"):
            continue
        try:
            variants = Variants(checkout.files, path)
        except ProposalError:
            continue
        count = len(dials.dials({name: constant.value for name, constant in variants.constants.items()}))
        if count > most:
            best, most = variants, count
    return best


def _sequence_length(checkout: Checkout, values: Mapping[str, Value]) -> int | None:
    """MAX_SEQ_LEN in tokens, from prepare.py or the edited file itself; None when neither has it as a number."""
    locked: dict[str, Value] = {}
    if "prepare.py" in checkout.context:
        try:
            found = edits.constants(checkout.context["prepare.py"].decode(), "prepare.py")
            locked = {name: constant.value for name, constant in found.items()}
        except (ProposalError, UnicodeDecodeError):
            locked = {}
    length = locked.get("MAX_SEQ_LEN", values.get("MAX_SEQ_LEN"))
    return length if isinstance(length, int) and not isinstance(length, bool) and length > 0 else None
