"""The built-in search: needs no language model and no network.

Ranked moves first; then a bandit draws between them, small moves around the champion, mixes of what nearly helped,
two models of the scores so far, and moves of the code itself. Works on any Python file with constants in capitals. All
it knows it reads from the history, so it goes on after a restart as if nothing had happened.

A verdict is strict, so a change that helps a little is discarded as noise, and its score still counts here: the models
start from the most promising constants, not from the champion's, and what they add up to is compared with the champion.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from research_loop import edits, parsing
from research_loop.edits import Value, Variants
from research_loop.errors import ProposalError
from research_loop.proposers.search import arms, changes, dials, guesses, ranking, small
from research_loop.proposers.search.code_moves import RECIPES, code_moves
from research_loop.proposers.search.guesses import Family
from research_loop.proposers.search.lessons import Lessons, every_turn, learn
from research_loop.proposers.search.moves import Idea
from research_loop.records import Checkout, History, Proposal

__all__ = ["SearchProposer"]

_MOST_TRIES = 2000


@dataclass(frozen=True, slots=True)
class _Edit:
    """An edited file, with its words."""

    source: str
    what: str
    why: str
    risk: str


class SearchProposer:
    """Same seed and same history, same proposals; never one whose key is in the history, decided or open."""

    name = "search"
    deterministic = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        """The next edit, by one of the arms; None when there is nothing to turn or all neighbours were tried."""
        variants = _file_with_most_dials(checkout)
        if variants is None:
            return None
        lessons = learn(history, checkout.parent)
        rng = random.Random(f"{self.seed}/{checkout.parent}/{len(history.experiments)}")
        known = _arms(checkout, history, variants, lessons, rng)
        for arm in arms.order(history, list(known), self.name, rng):
            for edit in itertools.islice(known[arm](), _MOST_TRIES):
                return self._proposal(checkout, variants.path, arm, edit)
        return None

    def _proposal(self, checkout: Checkout, path: str, arm: str, edit: _Edit) -> Proposal:
        return Proposal(
            files={**checkout.files, path: edit.source.encode()},
            what=edit.what,
            why=edit.why,
            risk=edit.risk,
            proposer=f"{self.name}/{arm}",
            parent=checkout.parent,
        )


def _arms(
    checkout: Checkout, history: History, variants: Variants, lessons: Lessons, rng: random.Random
) -> dict[str, Callable[[], Iterator[_Edit]]]:
    """Each yields edits that are not in the history, best first."""
    source = checkout.files[variants.path].decode()
    every = {name: constant.value for name, constant in variants.constants.items()}
    values, tokens = _used(every, checkout), _sequence_length(checkout, every)
    turnable = {dial.key: dial for dial in dials.dials(values)}
    near = Family.of(history, checkout.parent, values, tokens)
    champion = history.line(checkout.parent)[0]
    starved, noisy = ranking.starved(champion, values), ranking.noisy(champion, near.sigma)
    most = ranking.NOISY_STEPS if noisy else ranking.STEPS

    def new(ideas: Iterator[Idea]) -> Iterator[_Edit]:
        for idea in ideas:
            turned = {name: (values[name], value) for name, value in idea.changes.items()}
            if not lessons.allows(every_turn(turned), turnable) or near.too_large(idea.changes):
                continue
            if variants.key(idea.changes) not in lessons.keys:
                text = edits.replace(source, idea.changes, variants.path)
                yield _Edit(text, changes.describe(values, idea.changes), idea.why, idea.risk)

    def code() -> Iterator[_Edit]:
        tried = {experiment.what for experiment in history.experiments}  # another champion seldom changes its worth
        for move in code_moves(source, [recipe for recipe in RECIPES if recipe.name not in tried]):
            if edits.key({**checkout.files, variants.path: move.source.encode()}) not in lessons.keys:
                yield _Edit(move.source, move.name, move.why, move.risk)

    found: dict[str, Callable[[], Iterator[_Edit]]] = {
        "ranked": lambda: new(ranking.ranked(values, lessons, tokens, starved, most=most)),
        "near": lambda: new(small.around(values, lessons, tokens, rng)),
        "mixed": lambda: new(guesses.mixed(near, rng)),
        "ablate": lambda: new(guesses.ablations(near)),
        "code": code,
    }
    if near.knows >= guesses.LEAST_FOR_PARZEN:
        found["parzen"] = lambda: new(guesses.parzen(near, rng))
    if not noisy and near.knows >= guesses.LEAST_FOR_PROCESS:
        found["process"] = lambda: new(guesses.process(near, rng))
    if noisy and near.knows >= guesses.LEAST_FOR_QUADRATIC:
        found["quadratic"] = lambda: new(guesses.quadratic(near, rng))
    return found


def _used(values: dict[str, Value], checkout: Checkout) -> dict[str, Value]:
    """Without constants that nothing reads; all of them where nothing reads any, for others may import them."""
    read: set[str] = set()
    for path, data in checkout.files.items():
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            nodes = list(ast.walk(parsing.parse(data))) if path.endswith(".py") else []
            read |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
            read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used = {name: value for name, value in values.items() if name in read}
    return used or values


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
