"""Drafts by models and agents, made while runs go on: one at a time, in a thread, checked before they are needed.

The loop asks for a draft when there is room for another experiment and gets one that is ready, or nothing: no GPU
waits for a model. That a draft is begun is recorded, and what it cost, with its proposal, as soon as it is there.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from research_loop import keys
from research_loop.brief import brief
from research_loop.drafts import Asked
from research_loop.errors import LabError, ProposalError
from research_loop.ledger import now
from research_loop.plain import plain
from research_loop.proposers.drafting import Drafter, Request
from research_loop.proposers.search import arms
from research_loop.purse import Purse
from research_loop.records import Checkout, Draft, Files, History, Proposal, Usage
from research_loop.runners.remains import LAB_MARKER, RUN_MARKER, kill_marked
from research_loop.session import Session

DRAFT_SECONDS = 900.0
PATIENCE = 0.1
"""Of a run's budget: so long a machine without work waits for drafts in the making, before the search stands in."""
FAILURES, REST_SECONDS, LONGEST_REST = 3, 600.0, 4 * 3600.0
"""A drafter rests after so many drafts in a row that came to nothing, each time for twice as long."""
CLOSING_SECONDS, MOMENT = 20.0, 0.2
"""An agent's keeper is given 10 s to end everything, and the folder has to go."""
OVERDUE_SECONDS = 300.0
"""Who has not come back so long after the end of a draft's time is waited for no longer; two dry runs may be in it."""
MOST_TOKENS = 2**53


@dataclass(slots=True)
class _Record:
    """What is known of one drafter since the start. `until` is when its rest ends, on time.monotonic's clock."""

    failures: int = 0
    rests: int = 0
    until: float = 0.0


class Desk:
    """A context manager. `usd` bounds what its drafts may cost together, None for any sum.

    With several drafters, or one that has the proposer named `shared` beside it, a bandit chooses who is asked, by what
    each gained; a drafter alone is always asked. A draft for a champion that is none any more is carried over to the
    new one where it fits. Raises ProposalError where nothing would contain what drafters write; what former ones wrote
    waits, there.
    """

    def __init__(
        self, session: Session, drafters: Sequence[Drafter], *, usd: float | None = None, shared: str = ""
    ) -> None:
        self._session, self._shared = session, shared
        self._drafters = {drafter.name: drafter for drafter in drafters}
        waiting = session.ledger.waiting_drafts()
        if drafters:
            session.admission.refuse_drafts()
        elif waiting and not session.admission.drafts_contained:
            session.note(f"{len(waiting)} drafts of models or agents wait: nothing contains their code here")
            waiting = ()
        self._purse = Purse(usd, session.ledger.dearest_drafts())
        self._records = {name: _Record() for name in self._drafters}
        self._rivals = [*self._drafters, *([shared] if shared else [])]
        for lost in session.ledger.lost_drafts():
            session.record_draft(lost)
        self._ready = list(waiting)
        self._making: _Making | None = None
        self._carrying: _Carrying | None = None
        self._idle_since: float | None = None
        self._chosen: tuple[int, str] = (-1, "")
        self._passed: set[str] = set()
        self._draw = random.Random(session.lab.config.seed)
        session.make_room = self._stop_draft

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nobody waits for the draft in the making any more; what it cost is recorded where it says so in time."""
        self._session.closing = True
        self._session.make_room = lambda: False
        self._stop_draft()
        self._collect()
        if self._carrying is not None:
            self._carrying.thread.join(CLOSING_SECONDS)

    def _stop_draft(self) -> bool:
        """Whether one was in the making, which nobody waits for any more: its agent may have filled the disk."""
        making = self._making
        if making is None or not making.thread.is_alive():
            return False
        making.in_the_way = not self._session.closing
        making.request.stopped.set()
        making.thread.join(CLOSING_SECONDS)
        if making.thread.is_alive():
            kill_marked(RUN_MARKER, making.token, spare={os.getpid()})
            making.thread.join(MOMENT)
        return True

    # ------------------------------------------------------------------------------------------------- the loop's side

    @property
    def broke(self) -> str:
        """Why no other draft can be paid for, where none is there; "" where one can, or is."""
        return "" if self._pending else self._purse.broke(self._drafters)

    @property
    def hopeful(self) -> bool:
        """Whether a draft may still come."""
        return self._pending or any(map(self._purse.affords, self._drafters))

    @property
    def _pending(self) -> bool:
        return bool(self._ready or self._making or self._carrying)

    def expecting(self, last: bool = False) -> bool:
        """Whether the machine may wait for a draft: for a moment, counted from when it had no work; or for as long as
        it takes, where this is the `last` experiment and nobody but one drafter was named."""
        if self._ready or not (self._making or self._carrying):
            return False
        self._idle_since = self._idle_since or time.monotonic()
        patience = PATIENCE * self._session.lab.config.budget_seconds
        return (last and len(self._rivals) == 1) or time.monotonic() - self._idle_since < patience

    def wait(self) -> None:
        """A moment, or until the draft in the making is there."""
        if self._making is not None:
            self._making.thread.join(MOMENT)
        else:
            time.sleep(MOMENT)

    def tend(self, wanted: bool) -> None:
        """Takes in a draft that is there, and begins the next where one is `wanted` and none is ready. Called often."""
        if self._making is not None and self._making.overdue:
            self._stop_draft()
        if self._making is not None and (self._making.overdue or not self._making.thread.is_alive()):
            self._collect()
        self._carry_on()
        if self._session.stopping and self._making is not None:
            self._making.request.stopped.set()
        if wanted and not self._pending and (name := self._choose()) is not None:
            self._making = self._begin(self._drafters[name])

    def take(self, checkout: Checkout) -> Proposal | None:
        """A draft that is ready and fits the champion's files; None where there is none."""
        self._idle_since = None
        while self._ready and self._carrying is None:  # its dry run takes a while
            asked = self._ready.pop(0)
            if asked.parent == checkout.parent:
                return asked.draft.proposal
            self._carrying = _Carrying(self._session, asked, checkout)
            self._carry_on(MOMENT)
        return None

    def left_alone(self) -> None:
        """The stand-in has nothing to propose: until there is another experiment, its turn is the drafters'."""
        self._passed.add(self._shared)

    def give_up(self, number: int, proposer: str, why: str) -> None:
        """Says and records that a draft's proposal is not run, so that no later start takes it up."""
        self._session.note(f"{proposer}: {why}")
        self._session.give_up_draft(number, why)

    # ------------------------------------------------------------------------------------------------------- one draft

    def _begin(self, drafter: Drafter) -> _Making:
        session, checkout = self._session, self._session.open()
        making = _Making(session, drafter, checkout, self._purse.left)
        making.number = session.begin_draft(drafter.name, checkout.parent, making.started_at)
        making.thread.start()
        return making

    def _collect(self) -> None:
        """Records what came of the draft in the making, which is over."""
        making, self._making = self._making, None
        if making is None:
            return
        late = Draft(None, f"had not ended {CLOSING_SECONDS:g} s after nobody waited any more")
        draft, seconds = making.draft or late, making.seconds or time.monotonic() - making.began
        called_off = making.request.stopped.is_set()
        facts = making.drafter.name, making.checkout.parent, making.started_at, seconds
        asked = self._session.record_draft(Asked(*facts, draft, making.number))
        self._purse.pay(asked.proposer, draft, called_off=called_off, late=seconds >= DRAFT_SECONDS)
        self._judge(asked, called_off and not (making.overdue or making.in_the_way))
        if asked.draft.proposal is not None:
            self._ready.append(asked)
            self._session.watchers.planned(f"{asked.proposer}: {asked.draft.proposal.what}")

    def _judge(self, asked: Asked, stopped: bool) -> None:
        """What its drafter's next chances are; a draft that was called off is not its fault."""
        record, draft, note = self._records[asked.proposer], asked.draft, self._session.note
        if draft.detail and not (stopped and draft.detail.endswith("stopped")):
            who = "" if draft.detail.startswith(asked.proposer) else f"{asked.proposer}: "
            note(f"{'' if draft.proposal else 'no proposal: '}{who}{draft.detail}")
        if self._purse.silent(asked.proposer):
            cure = "leave out --cost, or name a model that the extra `prices` knows"
            note(f"{asked.proposer}: does not say what it costs, so --cost cannot be held: asked no more; {cure}")
        if draft.proposal:
            record.failures = record.rests = 0
        elif not stopped:
            self._passed.add(asked.proposer)
            self._count_failure(asked.proposer, record)

    def _count_failure(self, name: str, record: _Record) -> None:
        record.failures += 1
        if record.failures >= FAILURES:
            seconds = min(REST_SECONDS * 2**record.rests, LONGEST_REST)
            record.failures, record.rests, record.until = 0, record.rests + 1, time.monotonic() + seconds
            fact = f"rests for {seconds / 60:.0f} min after {FAILURES} drafts in a row that came to nothing"
            self._session.note(f"{name}: {fact}; others go on")

    # -------------------------------------------------------------------------------------------- to another champion

    def _carry_on(self, seconds: float = 0.0) -> None:
        """Takes in what was carried over, once it is checked. What could not be checked waits for the next start."""
        carrying = self._carrying
        if carrying is None:
            return
        carrying.thread.join(seconds)
        if carrying.thread.is_alive():
            return
        self._carrying, asked = None, carrying.asked
        if carrying.fault:
            self.give_up(asked.id, asked.proposer, f"a draft, made for experiment {asked.parent}: {carrying.fault}")
        elif carrying.proposal is None:
            self._session.note(f"{asked.proposer}: a draft waits for the next start: {carrying.trouble}")
        else:
            draft = replace(asked.draft, proposal=carrying.proposal)
            self._ready.insert(0, replace(asked, parent=carrying.checkout.parent, draft=draft))

    # -------------------------------------------------------------------------------------------------- who is asked

    def _choose(self) -> str | None:
        """Who is asked for the next draft; None where it is the search's turn, or nobody can be asked now."""
        count, awake = len(self._session.history.experiments), [name for name in self._drafters if self._awake(name)]
        if len(self._rivals) == 1 or not awake:
            return next(iter(awake), None)
        if self._chosen[0] != count:
            self._passed.clear()
        chosen = self._chosen[1]
        if self._chosen[0] != count or chosen in self._passed or chosen not in (*awake, self._shared):
            rivals = [*awake, *([self._shared] if self._shared else [])]
            left = [name for name in rivals if name not in self._passed]
            left = left or (awake if self._shared in self._passed else [self._shared])
            history = _by_rival(self._session.history, self._shared)
            self._chosen = count, arms.order(history, left, "", self._draw, least_runs=1.0)[0]
        return self._chosen[1] if self._chosen[1] in awake else None

    def _awake(self, name: str) -> bool:
        return time.monotonic() >= self._records[name].until and self._purse.affords(name)


class _Making:
    """A draft in the making. `draft` is what came of it, once the thread has ended."""

    def __init__(self, session: Session, drafter: Drafter, checkout: Checkout, usd: float | None) -> None:
        self.drafter, self.checkout, self.number, self.in_the_way = drafter, checkout, -1, False
        self.token = f"{session.mark}.draft.{uuid.uuid4().hex}"
        self.draft: Draft | None = None
        self.began, self.started_at, self.seconds = time.monotonic(), now(), 0.0
        self._session, self._history = session, session.history
        marks = {LAB_MARKER: session.mark, RUN_MARKER: self.token}
        self.request = Request(checkout, "", self._check, DRAFT_SECONDS, usd, marks=marks)
        self.thread = threading.Thread(target=self._work, name=f"draft by {drafter.name}", daemon=True)

    @property
    def overdue(self) -> bool:
        return time.monotonic() - self.began > DRAFT_SECONDS + OVERDUE_SECONDS

    def _check(self, files: Files) -> None:
        proposal = Proposal(files, "", proposer=self.drafter.name, parent=self.checkout.parent)
        self._session.admission.admit(proposal, stopped=self.request.stopped.is_set)

    def _brief(self) -> str:
        """Made here, since of a long history it takes a while."""
        ideas = ""
        with contextlib.suppress(LabError, OSError):  # a folder of that name, or just being saved
            ideas = self._session.lab.ideas
        return brief(self._history, self._session.lab.config, ideas=ideas)

    def _work(self) -> None:
        try:
            draft = self.drafter.draft(replace(self.request, brief=self._brief()))
            draft = _harmless(draft, self.checkout, self.drafter.name)
        except Exception as error:  # of somebody's plugin: recorded as what came of it, and the night goes on
            draft = Draft(None, _line(f"{type(error).__name__}: {error}: a fault of this proposer"), Usage())
        self.seconds = time.monotonic() - self.began
        self.draft = draft


class _Carrying:
    """A draft that goes over to the new champion's files: the same edit on them, checked.

    Once the thread has ended there is either the `proposal`, or a `fault` of it, or some `trouble` in between.
    """

    def __init__(self, session: Session, asked: Asked, checkout: Checkout) -> None:
        self.asked, self.checkout, self.fault, self.trouble = asked, checkout, "", ""
        self.proposal: Proposal | None = None
        self._session, self._base = session, session.ledger.experiment(asked.parent).commit
        self.thread = threading.Thread(target=self._work, name=f"carry over by {asked.proposer}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            merged = self._merged()
            self._session.admission.admit(merged)
            self.proposal = merged
        except ProposalError as error:
            self.fault = str(error)
        except Exception as error:  # a full disk, say: what nobody has checked is not run, and not lost
            self.trouble = _line(f"it could not be checked ({type(error).__name__}: {error})")

    def _merged(self) -> Proposal:
        """Raises ProposalError where the two changes conflict, or nothing is left of one."""
        repository, proposal, ours = self._session.repository, self.asked.draft.proposal, self.checkout.files
        assert proposal is not None
        base = repository.files(self._base, proposal.files)
        merged = {
            path: repository.merged(base.get(path, b""), ours.get(path, b""), data)
            for path, data in proposal.files.items()
        }
        files = {path: data for path, data in merged.items() if data is not None}
        if len(files) < len(merged) or all(ours.get(path) == data for path, data in files.items()):
            raise ProposalError("it does not fit the new champion's code, and stays in the ledger")
        return replace(proposal, files=files, parent=self.checkout.parent)


def _harmless(draft: Draft, checkout: Checkout, name: str) -> Draft:
    """Texts of one line without control characters or the user's keys, numbers that the ledger can hold, and of the
    files those that changed."""
    before, proposal, detail = checkout.files, draft.proposal, _line(draft.detail)
    if proposal is not None:
        files = {path: bytes(data) for path, data in proposal.files.items() if before.get(path) != data}
        leaky = next((path for path, data in files.items() if keys.holds(data, before.get(path, b""))), None)
        detail = f"{leaky} holds one of the keys in the environment: it is not kept" if leaky else detail
        what, why, risk = map(_line, (proposal.what, proposal.why, proposal.risk))
        proposal = None if leaky else Proposal(files, what, why, risk, proposer=name, parent=checkout.parent)
    usage, usd = draft.usage, draft.usage.usd
    tokens = _count(usage.tokens_in), _count(usage.tokens_out)
    if usd is None or not 0 <= usd < math.inf:
        return Draft(proposal, detail, Usage(*tokens), _line(draft.session))
    cost = "reported" if usage.cost == "unknown" else usage.cost
    return Draft(proposal, detail, Usage(*tokens, float(usd), cost), _line(draft.session))


def _count(tokens: int | None) -> int | None:
    return None if tokens is None else max(0, min(int(tokens), MOST_TOKENS))


def _line(text: str) -> str:
    return " ".join(keys.hide(plain(text[:2000])).split())


def _by_rival(history: History, shared: str) -> History:
    """With the arms of the one who shares the loop as one."""
    ours = f"{shared}/"
    merged = (replace(e, proposer=shared) if e.proposer.startswith(ours) else e for e in history.experiments)
    return replace(history, experiments=tuple(merged)) if shared else history
