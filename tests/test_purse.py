"""Money: who says no cost is asked no more, and the sum ends what it may end."""

from __future__ import annotations

import pytest

from research_loop.purse import SILENT, Purse
from research_loop.records import Draft, Proposal, Usage

GIVEN = Draft(Proposal({}, "what"), usage=Usage())
NOTHING = Draft(None, "the server is down", Usage())


def paid(draft: Draft, times: int, **how: bool) -> Purse:
    purse = Purse(5.0, {})
    for _ in range(times):
        purse.pay("pen", draft, **how)
    return purse


@pytest.mark.parametrize(
    ("draft", "how", "times"),
    [(GIVEN, {}, 1), (NOTHING, {}, SILENT), (GIVEN, {"late": True}, SILENT), (GIVEN, {"called_off": True}, None)],
)
def test_who_never_says_a_cost_is_asked_no_more(draft: Draft, how: dict[str, bool], times: int | None) -> None:
    if times is None:
        assert paid(draft, 100, **how).affords("pen")
    else:
        assert paid(draft, times - 1, **how).affords("pen") and not paid(draft, times, **how).affords("pen")


def test_what_is_left_is_said_with_what_a_draft_needs() -> None:
    purse = Purse(1.0, {"pen": 0.5})
    assert purse.broke(["pen"]) == "" and purse.left == 1.0
    purse.pay("pen", Draft(None, "", Usage(1, 1, 0.4, "reported")))
    assert purse.broke(["pen"]) == "--cost has $0.60 left, where a draft that took up to $0.50 needs $0.75"
    purse.pay("pen", Draft(None, "", Usage(1, 1, 0.6, "reported")))
    assert purse.broke(["pen"]) == "the money is spent"
