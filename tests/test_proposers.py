"""Proposers are found by name, and the public conformance test notices every broken promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from research_loop.errors import ConfigError
from research_loop.proposers import choose, load
from research_loop.proposers.search import SearchProposer
from research_loop.records import Checkout, History, Proposal
from research_loop.testing.conformance import check_proposer

START = Checkout(0, {"train.py": b"MATRIX_LR = 0.1\n"})


def worse(_: Proposal, n: int) -> float:
    return 1.0 + n


class Careless:
    """Proposes what it is told to, to show that the conformance test notices."""

    name = "careless"
    deterministic = True

    def __init__(self, propose: Callable[[Checkout, History], Proposal | None]) -> None:
        self._propose = propose

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        return self._propose(checkout, history)


def _edited(checkout: Checkout, history: History) -> Proposal:
    source = f"MATRIX_LR = {len(history.experiments)}.5\n"
    return Proposal({"train.py": source.encode()}, "another rate", proposer="careless", parent=checkout.parent)


def test_a_careful_proposer_passes() -> None:
    check_proposer(lambda: Careless(_edited), START)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": {"train.py": b"MATRIX_LR = 0.10  # the same\n"}}, "same code as experiment 0"),
        ({"files": {"prepare.py": b""}}, "writes prepare.py"),
        ({"files": {"train.py": b"X = (\n"}}, "not worth a run: train.py:1: invalid syntax"),
        ({"what": " "}, "one line of text"),
        ({"what": "two\nlines"}, "one line of text"),
        ({"parent": 7}, "parent is 7"),
        ({"proposer": "someone"}, "signed 'someone'"),
    ],
)
def test_the_conformance_test_names_the_broken_promise(change: dict[str, object], words: str) -> None:
    def propose(checkout: Checkout, history: History) -> Proposal:
        return replace(_edited(checkout, history), **change)  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match=words):
        check_proposer(lambda: Careless(propose), START)


def test_the_conformance_test_notices_duplicates_of_open_experiments() -> None:
    def propose(checkout: Checkout, history: History) -> Proposal:
        return replace(_edited(checkout, history), files={"train.py": b"MATRIX_LR = 9.0\n"})

    with pytest.raises(AssertionError, match="same code as experiment 1"):
        check_proposer(lambda: Careless(propose), START, judge=worse)


def test_the_conformance_test_notices_chance_and_second_thoughts() -> None:
    counter = iter(range(1, 10_000))

    def fickle(checkout: Checkout, history: History) -> Proposal:
        source = f"MATRIX_LR = {next(counter)}.25\n"
        return replace(_edited(checkout, history), files={"train.py": source.encode()})

    def hesitant(checkout: Checkout, history: History) -> Proposal | None:
        return None if next(counter) % 2 else _edited(checkout, history)

    with pytest.raises(AssertionError, match="says it is deterministic"):
        check_proposer(lambda: Careless(fickle), START)
    counter = iter(range(1, 10_000))
    with pytest.raises(AssertionError, match="None means none"):
        check_proposer(lambda: Careless(hesitant), START)


def test_proposers_are_found_by_name() -> None:
    assert load("search") is SearchProposer
    with pytest.raises(ConfigError, match=r"^no proposer named 'serach': choose one of .*search"):
        load("serach")


@pytest.mark.parametrize("name", ["openai:m\udc80", "openai:m\x1b[2J", "openai:m\nn", "openai:m\u202e"])
def test_a_name_that_cannot_be_printed_is_refused_in_one_line_that_can(name: str) -> None:
    with pytest.raises(ConfigError, match="characters that cannot be printed: name it without them") as caught:
        choose([name], 0)
    assert str(caught.value).isprintable()


def test_two_drafters_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy-0123456789abcdef")
    with pytest.raises(ConfigError, match=r"^proposer 'openai: m': another one is called openai:m, too: name it once$"):
        choose(["openai:m", "openai: m"], 0)
    _, drafters, _ = choose(["openai:m", "openai:n", "openai:m"], 0)
    assert [drafter.name for drafter in drafters] == ["openai:m", "openai:n"]
