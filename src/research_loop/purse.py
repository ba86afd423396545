"""What drafts may cost together in one call of the loop, and who can be asked for one more.

What a draft will cost is known to nobody before; the dearest so far is. So one is begun where one and a half times the
dearest is left, one of unknown cost counts as the dearest, and who never says a cost is asked no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from research_loop.records import Draft

HEADROOM = 1.5
SILENT = 3
"""Drafts of unknown cost, and without an answer, after which a drafter is taken for one that never says it."""


class Purse:
    """`usd` bounds the sum, None for any; `dearest` is what drafts by name cost at most in former calls."""

    def __init__(self, usd: float | None, dearest: Mapping[str, float]) -> None:
        self._usd, self._spent = usd, 0.0
        self._dearest, self._silent = dict(dearest), Counter[str]()

    @property
    def left(self) -> float | None:
        return None if self._usd is None else self._usd - self._spent

    def pay(self, name: str, draft: Draft, *, called_off: bool = False, late: bool = False) -> None:
        """That one which was called off says no cost means nothing, and little of one that was `late`."""
        usd, dearest = draft.usage.usd, self._dearest.get(name, 0.0)
        self._spent += dearest if usd is None else usd
        self._dearest[name] = max(dearest, usd or 0.0)
        if usd is None and not dearest and not called_off:
            self._silent[name] += SILENT if _answered(draft) and not late else 1
        elif usd:
            self._silent[name] = 0

    def silent(self, name: str) -> bool:
        """Whether it never says what it costs, so that no sum can be held by it."""
        return self._usd is not None and self._silent[name] >= SILENT

    def affords(self, name: str) -> bool:
        """One more draft of its, by what it cost so far."""
        left = self.left
        return left is None or (not self.silent(name) and left > HEADROOM * self._dearest.get(name, 0.0))

    def broke(self, names: Iterable[str]) -> str:
        """Why none of them can be paid for, "" where one can, or where that is for their silence alone."""
        asked, left = [name for name in names if not self.silent(name)], self.left
        if not asked or left is None or any(map(self.affords, asked)):
            return ""
        cheapest = min(self._dearest.get(name, 0.0) for name in asked)
        needed = f"a draft that took up to ${cheapest:.2f} needs ${HEADROOM * cheapest:.2f}"
        return f"--cost has ${left:.2f} left, where {needed}" if left > 0 else "the money is spent"


def _answered(draft: Draft) -> bool:
    """Whether somebody worked on it for sure."""
    usage = draft.usage
    return bool(draft.proposal or draft.session or usage.tokens_in or usage.tokens_out)
