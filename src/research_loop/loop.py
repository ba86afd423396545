"""The unattended loop: baseline first, then propose -> run -> judge -> record, until the limits or a stop."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from research_loop.curves import text_again
from research_loop.desk import Desk
from research_loop.errors import LabError, ProposalError
from research_loop.proposers import Proposer
from research_loop.records import Experiment, History, Proposal, Verdict
from research_loop.session import Session

PROPOSAL_TRIES = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """When the loop ends by itself: after so many experiments or seconds of this call; None for never."""

    experiments: int | None = None
    seconds: float | None = None


def run_loop(session: Session, proposer: Proposer, limits: Limits, desk: Desk | None = None) -> str:
    """Loops; the reason why it ended: "done", "stopped", "nothing left to propose", or what is left of the money.

    `desk` has drafts; where none is ready, `proposer` stands in. Experiments that a former session left open are
    finished first and count. Raises LabError when the baseline gets no score.
    """
    until = None if limits.seconds is None else time.monotonic() + limits.seconds
    if not ensure_baseline(session):
        return "stopped"
    desk = desk or Desk(session, [])
    decided, ended, planned_after, dry_at = 0, "", -1, -1

    def wanted() -> bool:
        """Whether another experiment is to be begun."""
        late = until is not None and time.monotonic() >= until
        return not (session.stopping or late or ended) and _more(session, limits, decided) > 0

    while True:
        ended = ended or desk.broke
        desk.tend(wanted())
        while wanted() and session.room and dry_at != decided:
            if desk.expecting(_more(session, limits, decided) == 1):
                break
            if not _propose(session, proposer, desk):
                desk.left_alone()
                if session.history.open:  # what comes of these may leave something
                    dry_at = decided
                else:
                    ended = "" if desk.hopeful else "nothing left to propose"
                break
            desk.tend(wanted())
        if session.stopping and not session.runner.running:
            return "stopped"
        if session.history.open:
            decided += len(session.pump(timeout=1.0))
        elif wanted():
            desk.wait()
        else:
            return ended or "done"
        newest = session.history.experiments[-1].n
        if session.runner.running and newest != planned_after:
            planned_after = newest
            _tell_plan(session, proposer, desk)


def _propose(session: Session, proposer: Proposer, desk: Desk) -> bool:
    """Submits a draft where one is ready, else the next proposal; False when there is none. A useless one is said and
    asked again, a few times."""
    for attempt in range(1, PROPOSAL_TRIES + 1):
        checkout = session.open()
        proposal = desk.take(checkout) or proposer.propose(checkout, session.history)
        if proposal is None:
            return False
        try:
            session.submit(proposal)
            return True
        except ProposalError as error:
            if proposal.draft is not None:
                desk.give_up(proposal.draft, proposal.proposer, str(error))
            elif attempt == PROPOSAL_TRIES:
                raise
            else:
                session.note(f"{proposal.proposer}: {error}")
    return True


def _tell_plan(session: Session, proposer: Proposer, desk: Desk) -> None:
    """What would come next if the open experiments are discarded: for the views; it is proposed anew when due."""
    if desk.hopeful or not getattr(proposer, "deterministic", False):
        return  # a draft says so by itself; and asking twice would tell nothing
    proposal = proposer.propose(session.open(), _as_if_discarded(session.history))
    if proposal is not None:
        session.watchers.planned(" ".join(proposal.what.split()))


def _as_if_discarded(history: History) -> History:
    discard = Verdict("discard", "not-better", "", 0.0)
    return replace(
        history, experiments=tuple(e if e.verdict else replace(e, verdict=discard) for e in history.experiments)
    )


def _more(session: Session, limits: Limits, decided: int) -> float:
    """How many experiments are left to begin."""
    return math.inf if limits.experiments is None else limits.experiments - decided - len(session.history.open)


def ensure_baseline(session: Session) -> Experiment | None:
    """The baseline, run first where the lab has none; None when stopped before its verdict.

    Raises LabError when it gets no score: nothing can be compared with it.
    """
    if session.history.baseline is not None:
        return session.history.baseline
    pending = [e for e in session.history.open if e.parent is None]
    files = session.lab.read(session.lab.config.editable)
    first = Proposal(files, "baseline", "the code as it is, to compare with", proposer="baseline")
    n = pending[0].n if pending else session.submit(first).n
    while (baseline := session.ledger.experiment(n)).verdict is None:
        if session.stopping and not session.runner.running:
            return None
        session.pump(timeout=1.0)
    if not baseline.kept:
        fact, limit = f"{baseline.verdict.reason}: {baseline.verdict.detail}", session.lab.config.limit_seconds
        slow = f"on a slow or busy machine raise limit_seconds in lab.toml, which is {limit:g}; else "
        cure = f"{slow if baseline.verdict.reason == 'timeout' else ''}`research-loop show {n}` has its log; mend it"
        raise LabError(f"the baseline has no score ({fact}): {cure}, start again")
    if again := text_again(session.ledger.summary(n, run.k) for run in baseline.runs):
        session.note(again)
    return baseline
