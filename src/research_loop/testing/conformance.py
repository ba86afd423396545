"""Public conformance tests: what every plug-in must do, the built-ins included. For use from pytest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

from research_loop import edits
from research_loop.errors import ProposalError
from research_loop.proposers import Proposer
from research_loop.records import Checkout, Experiment, Files, History, Proposal, Result, Run, Score, Verdict

Judge = Callable[[Proposal, int], float]


def check_proposer(
    make: Callable[[], Proposer], checkout: Checkout, judge: Judge | None = None, rounds: int = 20
) -> None:
    """Let a proposer propose `rounds` times, with experiments open and decided; AssertionError on a broken promise.

    `judge` gives proposal and experiment number a score, lower is better (nan: a crash); by default an arbitrary
    but fixed one. The champion moves as in the loop. Promised are: only files of the checkout, all of which still
    compile; never a key that the history holds; a `what` of one line; the checkout's parent; its own name; after
    None, None again for the same history; and, where the proposer has `deterministic = True`, the same proposal
    from a fresh one.
    """
    Campaign(make, checkout, judge or _arbitrary).run(rounds)


def _arbitrary(proposal: Proposal, n: int) -> float:
    return hashlib.sha256(edits.key(proposal.files).encode()).digest()[0] / 256


class Campaign:
    """A small loop without runs: every third experiment stays open until the one after it is proposed."""

    def __init__(self, make: Callable[[], Proposer], checkout: Checkout, judge: Judge) -> None:
        self.make = make
        self.judge = judge
        self.proposer = make()
        self.checkout = checkout
        baseline = Proposal(checkout.files, "baseline")
        self.best = judge(baseline, checkout.parent)
        self.experiments = [_scored(_opened(baseline, checkout.parent), self.best, keep=True)]
        self.waiting: list[tuple[int, Proposal]] = []

    @property
    def history(self) -> History:
        return History(tuple(self.experiments))

    def run(self, rounds: int) -> None:
        """Propose and judge; stops early when the proposer has nothing left with nothing open."""
        for turn in range(rounds):
            proposal = self.propose()
            if proposal is None and not self.waiting:
                break
            if proposal is not None:
                self.open(proposal)
            if proposal is None or turn % 3:
                self.close_all()
        self.close_all()

    def propose(self) -> Proposal | None:
        """The next proposal, checked."""
        proposal = self.proposer.propose(self.checkout, self.history)
        if proposal is None:
            again = self.proposer.propose(self.checkout, self.history)
            assert again is None, f"said None, then proposed {again.what!r} with the same history: None means none"
            return None
        self._check(proposal)
        return proposal

    def open(self, proposal: Proposal) -> None:
        n = self.experiments[-1].n + 1
        self.experiments.append(_opened(proposal, n, {**self.checkout.files, **proposal.files}))
        self.waiting.append((n, proposal))

    def close_all(self) -> None:
        for n, proposal in self.waiting:
            score = self.judge(proposal, n)
            keep = score < self.best
            index = next(i for i, experiment in enumerate(self.experiments) if experiment.n == n)
            self.experiments[index] = _scored(self.experiments[index], score, keep)
            if keep:
                self.best = score
                self.checkout = replace(self.checkout, parent=n, files={**self.checkout.files, **proposal.files})
        self.waiting.clear()

    def _check(self, proposal: Proposal) -> None:
        _check_files(proposal, self.checkout.files)
        files = {**self.checkout.files, **proposal.files}
        twin = self.history.by_key(edits.key(files))
        assert twin is None, f"{proposal.what!r} is the same code as experiment {twin.n} ({twin.what!r}): no duplicates"
        one_line = proposal.what.strip() and not set(proposal.what) & set("\n\r\t")
        assert one_line, f"what is {proposal.what!r}: it must be one line of text"
        assert proposal.parent == self.checkout.parent, (
            f"parent is {proposal.parent}, but the checkout is of experiment {self.checkout.parent}"
        )
        assert proposal.proposer.split("/")[0] == self.proposer.name, (
            f"signed {proposal.proposer!r}, but the proposer's name is {self.proposer.name!r}"
        )
        if getattr(self.proposer, "deterministic", False):
            again = self.make().propose(self.checkout, self.history)
            assert again == proposal, f"says it is deterministic, but a fresh one proposed {again!r} for {proposal!r}"


def _check_files(proposal: Proposal, known: Files) -> None:
    foreign = sorted(set(proposal.files) - set(known))
    assert not foreign, f"{proposal.what!r} writes {', '.join(foreign)}: only {', '.join(sorted(known))} may be edited"
    try:
        edits.check(proposal.files)
    except ProposalError as error:
        raise AssertionError(f"{proposal.what!r} is not worth a run: {error}") from error


def _opened(proposal: Proposal, n: int, files: Files | None = None) -> Experiment:
    return Experiment(
        n=n,
        what=proposal.what,
        why=proposal.why,
        risk=proposal.risk,
        proposer=proposal.proposer,
        parent=proposal.parent,
        commit=f"{n:040x}",
        key=edits.key(files or proposal.files),
        created_at=float(n),
    )


def _scored(experiment: Experiment, score: float, keep: bool) -> Experiment:
    crashed = math.isnan(score)
    result = Result("crash", reason="nan") if crashed else Result("scored", score=Score(score))
    kind, reason = ("crash", "nan") if crashed else ("keep", "lower") if keep else ("discard", "not-lower")
    verdict = Verdict(kind, reason, "", float(experiment.n))  # type: ignore[arg-type]
    run = Run(experiment.n, 0, 0, float(experiment.n), result=result)
    return replace(experiment, runs=(run,), verdict=verdict)
