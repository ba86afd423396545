"""Drafts by models and agents, made while runs go on: one at a time, in a thread, checked before they are needed.

The loop asks for a draft when there is room for another experiment and gets one that is ready, or nothing: no GPU
waits for a model. What a draft cost is recorded as soon as it is there, with its proposal: a kill loses neither.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from research_loop.brief import brief
from research_loop.drafts import Asked, waiting
from research_loop.errors import LabError
from research_loop.ledger import now
from research_loop.plain import plain
from research_loop.proposers.drafting import Drafter, Request
from research_loop.proposers.search import arms
from research_loop.records import Checkout, Draft, Files, History, Proposal, Usage
from research_loop.runners.remains import LAB_MARKER
from research_loop.session import Session

DRAFT_SECONDS = 900.0
PATIENCE = 0.1
"""Of a run's budget: so long a machine without work waits for a draft in the making, before the search stands in."""
FAILURES, REST_SECONDS, LONGEST_REST = 3, 600.0, 4 * 3600.0
"""A drafter rests after so many drafts in a row that came to nothing, each time for twice as long."""
HEADROOM = 1.5
"""A draft is begun where so many times the dearest one so far may still be spent."""
CLOSING_SECONDS, MOMENT = 10.0, 0.2


@dataclass(slots=True)
class _Record:
    """What is known of one drafter since the start. `until` is when its rest ends, on time.monotonic's clock. A draft
    of unknown cost is taken for its dearest; `unknown` is whose cost was never said."""

    failures: int = 0
    rests: int = 0
    until: float = 0.0
    dearest: float = 0.0
    unknown: bool = False


class Desk:
    """A context manager. `usd` bounds what its drafts may cost together, None for any sum.

    With several drafters, or one and the search `shared`, a bandit chooses who is asked, by what each gained; a drafter
    alone is always asked. A draft for a champion that is none any more is carried over to the new one where it fits.
    """

    def __init__(
        self, session: Session, drafters: Sequence[Drafter], *, usd: float | None = None, shared: bool = False
    ) -> None:
        self._session, self._usd, self._spent = session, usd, 0.0
        self._drafters = {drafter.name: drafter for drafter in drafters}
        self._records = {name: _Record() for name in self._drafters}
        self._rivals = [*self._drafters, *(["search"] if shared else [])]
        self._ready = waiting(session.ledger.drafts(), session.history)
        self._making: _Making | None = None
        self._chosen: tuple[int, str | None] = (-1, None)
        self._draw = random.Random(session.lab.config.seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nobody waits for the draft in the making any more; what it cost is recorded where it says so in time."""
        if self._making is not None:
            self._making.request.stopped.set()
            self._making.thread.join(CLOSING_SECONDS)
            self._collect()

    # ------------------------------------------------------------------------------------------------- the loop's side

    @property
    def broke(self) -> bool:
        """Whether no other draft can be paid for, and none is there."""
        idle = self._usd is not None and not self._ready and self._making is None
        return idle and not any(map(self._affordable, self._drafters))

    @property
    def hopeful(self) -> bool:
        """Whether a draft may still come."""
        return bool(self._drafters) and not self.broke

    @property
    def expecting(self) -> bool:
        """Whether a draft is due so soon that the machine may wait for it."""
        patience = PATIENCE * self._session.lab.config.budget_seconds
        return not self._ready and self._making is not None and time.monotonic() - self._making.began < patience

    def wait(self) -> None:
        """A moment, or until the draft in the making is there."""
        if self._making is not None:
            self._making.thread.join(MOMENT)
        else:
            time.sleep(MOMENT)

    def tend(self, wanted: bool) -> None:
        """Takes in a draft that is there, and begins the next where one is `wanted` and none is ready. Called often."""
        if self._making is not None and not self._making.thread.is_alive():
            self._collect()
        if self._session.stopping and self._making is not None:
            self._making.request.stopped.set()
        if wanted and self._making is None and not self._ready and (name := self._choose()) is not None:
            self._making = self._begin(self._drafters[name])

    def take(self, checkout: Checkout) -> Proposal | None:
        """A draft that is ready and fits the champion's files; None where there is none."""
        while self._ready:
            asked = self._ready.pop(0)
            proposal = asked.draft.proposal
            if proposal is not None and asked.parent != checkout.parent:
                proposal = self._carried(proposal, asked.parent, checkout)
            if proposal is not None:
                return proposal
            fact = f"made for experiment {asked.parent}, does not fit the new champion's code"
            self._session.note(f"{asked.proposer}: a draft, {fact}: it stays in the ledger")
        return None

    # ------------------------------------------------------------------------------------------------------- one draft

    def _begin(self, drafter: Drafter) -> _Making:
        session, checkout = self._session, self._session.open()
        ideas = ""
        with contextlib.suppress(LabError):  # a folder of that name: `brief` says it to who asks
            ideas = session.lab.ideas

        def check(files: Files) -> None:
            session.admission.admit(Proposal(files, "", proposer=drafter.name, parent=checkout.parent))

        left = None if self._usd is None else self._usd - self._spent
        text = brief(session.history, session.lab.config, ideas=ideas)
        return _Making(
            drafter, Request(checkout, text, check, DRAFT_SECONDS, left, marks={LAB_MARKER: session.mark})
        ).start()

    def _collect(self) -> None:
        """Records what came of the draft in the making, which is over."""
        making, self._making = self._making, None
        if making is None or making.draft is None:
            return
        facts = making.drafter.name, making.request.checkout.parent, making.started_at, making.seconds
        asked = self._session.record_draft(Asked(*facts, _harmless(making.draft)))
        self._count(asked)
        if asked.draft.proposal is not None:
            self._ready.append(asked)
            self._session.watchers.planned(f"{asked.proposer}: {asked.draft.proposal.what}")

    def _count(self, asked: Asked) -> None:
        """Money, failures and rest."""
        record, draft = self._records[asked.proposer], asked.draft
        known = draft.usage.usd is not None
        record.unknown = record.unknown or not (known or record.dearest)
        self._spent += draft.usage.usd or (0.0 if known else record.dearest)
        record.dearest = max(record.dearest, draft.usage.usd or 0.0)
        if draft.detail and not self._session.stopping:
            who = "" if draft.detail.startswith(asked.proposer) else f"{asked.proposer}: "
            self._session.note(f"{'' if draft.proposal else 'no proposal: '}{who}{draft.detail}")
        record.failures = 0 if draft.proposal else record.failures + 1
        if record.failures >= FAILURES and not self._session.stopping:
            seconds = min(REST_SECONDS * 2**record.rests, LONGEST_REST)
            record.failures, record.rests, record.until = 0, record.rests + 1, time.monotonic() + seconds
            fact = f"rests for {seconds / 60:.0f} min after {FAILURES} drafts in a row that came to nothing"
            self._session.note(f"{asked.proposer}: {fact}; others go on")
        elif draft.proposal:
            record.rests = 0

    def _carried(self, proposal: Proposal, parent: int, checkout: Checkout) -> Proposal | None:
        """The same edit on the new champion's files; None where they conflict."""
        repository, known = self._session.repository, self._session.ledger
        base = repository.files(known.experiment(parent).commit, proposal.files)
        merged = {
            path: repository.merged(base.get(path, b""), checkout.files.get(path, b""), data)
            for path, data in proposal.files.items()
        }
        files = {path: data for path, data in merged.items() if data is not None}
        if len(files) < len(merged) or all(checkout.files.get(path) == data for path, data in files.items()):
            return None
        return replace(proposal, files=files, parent=checkout.parent)

    # -------------------------------------------------------------------------------------------------- who is asked

    def _choose(self) -> str | None:
        """Who is asked for the next draft; None where it is the search's turn, or nobody can be asked now."""
        count = len(self._session.history.experiments)
        awake = [name for name in self._rivals if name == "search" or self._awake(name)]
        if len(self._rivals) == 1 or not awake:
            return next((name for name in awake if name in self._drafters), None)
        if self._chosen[0] != count:
            first = arms.order(_by_rival(self._session.history), awake, "", self._draw)[0]
            self._chosen = count, first if first in self._drafters else None
        return self._chosen[1] if self._chosen[1] in awake else None

    def _awake(self, name: str) -> bool:
        return time.monotonic() >= self._records[name].until and self._affordable(name)

    def _affordable(self, name: str) -> bool:
        """Whether one more draft of its is sure to stay within the sum, by what it cost so far."""
        if self._usd is None:
            return True
        record = self._records[name]
        return not record.unknown and self._usd - self._spent > HEADROOM * record.dearest


class _Making:
    """A draft in the making. `draft` is what came of it, once the thread has ended."""

    def __init__(self, drafter: Drafter, request: Request) -> None:
        self.drafter, self.request = drafter, request
        self.draft: Draft | None = None
        self.began, self.started_at, self.seconds = time.monotonic(), now(), 0.0
        self.thread = threading.Thread(target=self._work, name=f"draft by {drafter.name}", daemon=True)

    def start(self) -> Self:
        self.thread.start()
        return self

    def _work(self) -> None:
        try:
            draft = self.drafter.draft(self.request)
        except Exception as error:  # of somebody's plugin: recorded as what came of it, and the night goes on
            draft = Draft(None, f"{type(error).__name__}: {error}: a fault of this proposer", Usage())
        self.seconds = time.monotonic() - self.began
        self.draft = draft


def _harmless(draft: Draft) -> Draft:
    """One line of detail, and words that fit one."""
    proposal = draft.proposal
    if proposal is not None:
        what, why, risk = (
            " ".join(plain(text[:2000]).split()) for text in (proposal.what, proposal.why, proposal.risk)
        )
        proposal = replace(proposal, what=what, why=why, risk=risk)
    return replace(draft, proposal=proposal, detail=" ".join(plain(draft.detail[:2000]).split()))


def _by_rival(history: History) -> History:
    """With the search's arms as one."""
    merged = (replace(e, proposer="search") if e.proposer.startswith("search/") else e for e in history.experiments)
    return replace(history, experiments=tuple(merged))
