"""Drafters of a test's own: they edit constants of the quick lab, at once or after a while."""

from __future__ import annotations

from research_loop import edits
from research_loop.errors import ProposalError
from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.proposers.drafting import Request
from research_loop.records import Checkout, Draft, Experiment, History, Proposal, Usage

CENTS = Usage(1000, 100, 0.25, "reported")


class Pen:
    """Gives constants, one set a draft; None is a draft that comes to nothing. Waits `seconds`, unless stopped."""

    drafts = True

    def __init__(self, turns: list[dict[str, object] | None], seconds: float = 0.0, usage: Usage = CENTS) -> None:
        self.name, self.turns, self.seconds, self.usage = "pen", iter(turns), seconds, usage
        self.requests: list[Request] = []

    def draft(self, request: Request) -> Draft:
        self.requests.append(request)
        if request.stopped.wait(self.seconds):
            return Draft(None, "stopped", self.usage)
        turn = next(self.turns, None)
        if turn is None:
            return Draft(None, "the server is down", self.usage)
        source = edits.replace(request.checkout.files["train.py"].decode(), turn)
        files = {"train.py": source.encode()}
        try:
            request.check(files)
        except ProposalError as error:
            return Draft(None, str(error), self.usage)
        return Draft(
            Proposal(files, f"set {turn}", "a guess", "none", self.name, request.checkout.parent), usage=self.usage
        )


class Mute:
    """A search that has nothing to say."""

    name, deterministic = "mute", True

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        return None


def tried(lab: Lab) -> list[Experiment]:
    return [e for e in Ledger(lab.ledger_path, read_only=True).history.experiments if e.parent is not None]
