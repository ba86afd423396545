"""An open lab and the two calls that everything goes through.

`open` gives the champion's files to whoever edits; `close` takes edited files, checks, runs, judges and records them.
`close` is `submit` and then `pump` until decided; the unattended loop calls those two, so that several experiments
can be open at once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol, Self

from research_loop import edits, noise
from research_loop.branch import Branch
from research_loop.errors import LabError, LedgerError, ProposalError
from research_loop.jobs import JobMaker
from research_loop.lab import Lab, repository_of
from research_loop.ledger import Ledger, now
from research_loop.lock import Lock
from research_loop.pins import check_pins, pin
from research_loop.plain import plain
from research_loop.records import (
    Audit,
    Checkout,
    Experiment,
    History,
    Job,
    Progress,
    Proposal,
    Result,
    Rival,
    Run,
    Verdict,
)
from research_loop.runners import Runner

BASE_SEED = 42
LOST_RUNS_ALLOWED = 3
OWN_EDITS = ("baseline", "search")
"""Proposers whose code is the user's own, or that with other constants."""
AUDITS = 100_000
"""Audits count on from here where runs count from 0: their folders and logs lie side by side."""
MIN_FREE_MB = 100
RESERVE_BYTES = 2**20


class Watcher(Protocol):
    """Is told what happens and decides nothing: a view."""

    def opened(self, history: History) -> None: ...
    def note(self, text: str) -> None: ...
    def started(self, experiment: Experiment, run: Run) -> None: ...
    def progressed(self, progress: Progress) -> None: ...
    def planned(self, what: str) -> None: ...
    def decided(self, experiment: Experiment, history: History) -> None: ...
    def closed(self) -> None: ...


class Session:
    """An open lab: lock, ledger, repository and runner. A context manager; raises LockedError on a second one.

    `unsafe` lets code that a model may have written run where no sandbox works.
    """

    def __init__(self, lab: Lab, runner: Runner, watchers: Iterable[Watcher] = (), *, unsafe: bool = False) -> None:
        self.lab, self.runner, self.watchers = lab, runner, tuple(watchers)
        self._unsafe = unsafe
        self.stopping = False  # start nothing more
        self.halted = False  # and end what runs
        self._stop_said = False
        self._queue: deque[int] = deque()
        lab.state.mkdir(exist_ok=True)
        (lab.state / ".gitignore").write_text("*\n")
        self._lock = Lock(lab.state)
        self._lock.acquire()
        try:
            self._reserve()
            self.repository = repository_of(lab)
            self.ledger = Ledger(lab.ledger_path)
            self.branch = Branch(lab, self.repository, self.ledger, self.note)
            check_pins(self.ledger, lab, self.repository, data=False)
            self.jobs = JobMaker(lab, self.repository, self._mark(), self._held_seed(), self.note)
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Ends what still runs; its experiment stays open and goes on at the next start."""
        with ExitStack() as last:
            last.callback(self._lock.release)
            last.callback(self.ledger.close)
            last.callback(self._tell, lambda watcher: watcher.closed())
            last.callback(self.jobs.clear)
            last.callback(self.runner.close)
            self.runner.stop()
            while self.runner.running:
                for job, result in self.runner.wait(timeout=1.0):
                    if job.k < len(self.ledger.experiment(job.n).runs):  # not where recording its start failed
                        self.ledger.finish_run(job.n, job.k, result)

    @property
    def history(self) -> History:
        return self.ledger.history

    # ----------------------------------------------------------------------------------------------- the two calls

    def open(self) -> Checkout:
        """The champion's editable files, and the locked ones to read. Raises LabError before there is a baseline."""
        champion = self.history.champion
        if champion is None:
            raise LabError(f"{self.lab.root}: has no baseline yet: `research-loop run` makes it first")
        files = self.repository.files(champion.commit, self.lab.config.editable)
        return Checkout(champion.n, files, self.lab.read(self.lab.config.locked))

    def close(self, proposal: Proposal, *, again: bool = False) -> Experiment:
        """Runs, judges and records a proposal; the decided experiment.

        Raises ProposalError, before any run, when it is not worth one. Without a verdict when the session was
        stopped before: the experiment stays open.
        """
        experiment = self.submit(proposal, again=again)
        while (current := self.ledger.experiment(experiment.n)).verdict is None:
            if self.stopping and not self.runner.running:
                break
            self.pump(timeout=1.0)
        return current

    def audit(self, experiment: Experiment) -> Audit | None:
        """Trains an experiment's code anew, with a seed that no run had, and scores it on text kept for audits.

        None when it was stopped. It decides nothing and is recorded by itself.
        """
        self.check_pins()
        seed, started_at, number = secrets.randbits(31), now(), len(self.ledger.audits())
        job = self.jobs.make(experiment, AUDITS + number, seed, audit=True)
        self.runner.start(job)
        while not (ended := self.runner.wait(1.0, self._progressed)):
            self._heed_stop()
        result = self._believed(ended[0][1])
        self.jobs.clear(job)
        if result.outcome == "stopped":
            return None
        audit = Audit(experiment.n, seed, started_at, result)
        self.ledger.record_audit(audit)
        return audit

    # --------------------------------------------------------------------------------------------- submit and pump

    def check_pins(self) -> None:
        """Raises PinError when the task, a locked file or the data is not the baseline's any more."""
        check_pins(self.ledger, self.lab, self.repository)

    @property
    def data_pin(self) -> str | None:
        """The digest of the baseline's data; None before there is a baseline."""
        baseline = self.history.baseline
        return None if baseline is None else self.ledger.noted(f"data:{baseline.n}")

    @property
    def room(self) -> bool:
        """Whether another experiment could start now."""
        return len(self._queue) + self.runner.running < self.runner.slots

    def submit(self, proposal: Proposal, *, again: bool = False) -> Experiment:
        """Checks a proposal, commits its code, records it and queues its first run. `again` allows a known code."""
        files = self._whole(proposal)
        edits.check(files)
        self._refuse_uncontained(proposal)
        key = edits.key(files)
        if proposal.parent is not None and not again:
            self._refuse_known(key)
        self.check_pins()
        self._check_space()
        commit = self._commit(proposal, files)
        what, why, risk = (" ".join(plain(text).split()) for text in (proposal.what, proposal.why, proposal.risk))
        new = Experiment(-1, what or "(no words)", why, risk, proposal.proposer, proposal.parent, commit, key, now())
        experiment = self._recorded(lambda: self.ledger.propose(new))
        self.branch.mark(experiment)
        self._queue.append(experiment.n)
        return experiment

    def pump(self, timeout: float) -> list[Experiment]:
        """Starts queued runs where there is room, waits up to `timeout` seconds for one to end, records and judges
        it; the newly decided."""
        self._heed_stop()
        while self._queue and self.runner.running < self.runner.slots and not self.stopping:
            self._start(self._queue.popleft())
        return [e for job, result in self.runner.wait(timeout, self._progressed) for e in self._finish(job, result)]

    def _heed_stop(self) -> None:
        """Signal handlers only set flags; what they ask for is done and said here."""
        if self.halted:
            self.runner.stop()
        elif self.stopping and not self._stop_said and self.runner.running:
            self._stop_said = True
            self.note("finishing this experiment; a second Ctrl-C stops it at once")

    # ------------------------------------------------------------------------------------------------------ submit

    def _whole(self, proposal: Proposal) -> dict[str, bytes]:
        """All editable files: the proposal's, and its parent's where it has none. Nothing else may be in it."""
        editable = self.lab.config.editable
        foreign = sorted(set(proposal.files) - set(editable))
        if foreign:
            raise ProposalError(f"{foreign[0]}: is not editable in this lab: only {', '.join(editable)} may change")
        if proposal.parent is None:
            return dict(proposal.files)
        return {**self.repository.files(self.ledger.experiment(proposal.parent).commit, editable), **proposal.files}

    def _refuse_uncontained(self, proposal: Proposal) -> None:
        if self.jobs.fallen_back and not self._unsafe and proposal.proposer not in OWN_EDITS:
            raise ProposalError(
                "no sandbox works here, so code that a model may have written is not run: `research-loop doctor` says "
                "how to mend that, `--unsafe` runs it with all your rights"
            )

    def _refuse_known(self, key: str) -> None:
        twin = self.history.by_key(key)
        champion = self.history.champion
        if twin is None:
            return
        if champion is not None and key == champion.key:
            raise ProposalError(
                f"{', '.join(self.lab.config.editable)}: is the champion's code unchanged: edit it first"
            )
        outcome = twin.verdict.kind if twin.verdict else "still open"
        raise ProposalError(f"this code was tried as experiment {twin.n} ({outcome}): `--again` tries it once more")

    def _commit(self, proposal: Proposal, files: dict[str, bytes]) -> str:
        """A baseline's commit holds the lab's locked files as they are now; the others inherit them."""
        message = "\n\n".join(plain(part) for part in (proposal.what, proposal.why, proposal.risk) if part) + "\n"
        if proposal.parent is not None:
            base = self.ledger.experiment(proposal.parent).commit
            return self.repository.commit(base, files, message)
        with_locked = {**self.lab.read(self.lab.config.locked), **files}
        return self.repository.commit(self.repository.head(), with_locked, message)

    def _check_space(self) -> None:
        free_mb = shutil.disk_usage(self.lab.root).free / 2**20
        if free_mb < MIN_FREE_MB:
            raise LabError(f"{self.lab.root}: the disk has {free_mb:.0f} MB left: free some and start again")

    # --------------------------------------------------------------------------------------------------------- run

    def _start(self, n: int) -> None:
        experiment = self.ledger.experiment(n)
        if experiment.parent is None:
            pin(self.ledger, self.lab, experiment)
        rivals = self._rival(self.history.champion), self._rival(self.history.baseline)
        job = self.jobs.make(experiment, len(experiment.runs), BASE_SEED, *rivals)
        started = self.runner.start(job)
        run = Run(n, job.k, BASE_SEED, now(), started.keeper_pid, started.keeper_create_time)
        self._recorded(lambda: self.ledger.start_run(run))
        self._tell(lambda watcher: watcher.started(experiment, run))

    def _rival(self, other: Experiment | None) -> Rival | None:
        """Somebody to compare a run with; None where there is nobody, or nobody that the harness scored."""
        if other is None or other.score is None:
            return None
        held = self.ledger.held_nats(other.n)
        return Rival(other.score.value, held) if held or other.score.verified != "unverified" else None

    def _progressed(self, progress: Progress) -> None:
        self._tell(lambda watcher: watcher.progressed(progress))

    def _finish(self, job: Job, result: Result) -> list[Experiment]:
        result = self._believed(result)
        experiment = self._recorded(lambda: self.ledger.finish_run(job.n, job.k, result))
        self.jobs.clear(job)
        self._show_log(job)
        return [] if result.outcome == "stopped" else self._judge(experiment)

    def _believed(self, result: Result) -> Result:
        """What a run without a sandbox says to the harness proves little: it can read the validation text."""
        if result.score is None or self.jobs.contained or result.score.verified == "unverified":
            return result
        return replace(result, score=replace(result.score, verified="unverified"))

    def _show_log(self, job: Job) -> None:
        """run.log in the lab is a copy of the newest log: `> run.log` by hand must not reach the stored one."""
        part = self.lab.root / "run.log.part"
        try:
            shutil.copyfile(job.log, part)
            part.replace(self.lab.root / "run.log")
        except OSError as error:
            part.unlink(missing_ok=True)
            self.note(f"run.log: not written ({error.strerror}); the log is {job.log}")

    # ------------------------------------------------------------------------------------------------------- judge

    def _judge(self, experiment: Experiment) -> list[Experiment]:
        config = self.lab.config
        baseline, seconds = self.history.baseline, config.budget_seconds
        exam_seconds = noise.allowed_exam_seconds(baseline, experiment.last, seconds)
        allowed = noise.allowed_seconds(baseline, seconds), exam_seconds
        champion = self.history.champion
        verdict = noise.judge(experiment, champion, config.metric, config.direction, now(), *allowed)
        if verdict is None:
            self._queue.append(experiment.n)
            return []
        return [self._decide(experiment, verdict)]

    def _decide(self, experiment: Experiment, verdict: Verdict) -> Experiment:
        """The decision is recorded first; branch, files and views follow it, now or at the next start."""
        decided = self._recorded(lambda: self.ledger.decide(experiment.n, verdict))
        if decided.kept:
            self.branch.follow()
        else:
            self.branch.put_back(decided)
        self._tell(lambda watcher: watcher.decided(decided, self.history))
        return decided

    # -------------------------------------------------------------------------------------------------- durability

    def _recover(self) -> None:
        """Brings everything in line with the ledger, however the last session ended."""
        self._end_lost_runs()
        self.jobs.clear()
        self.branch.recover(self.history.experiments)
        self._tell(lambda watcher: watcher.opened(self.history))
        self.branch.warn_of_uncommitted_work()
        for experiment in self.history.open:
            self._take_up(experiment)

    def _mark(self) -> str:
        """In the environment of every process of this lab; a copy of the lab in another folder has its own."""
        if self.ledger.noted("lab_id") is None:
            self.ledger.note("lab_id", uuid.uuid4().hex)
        return hashlib.sha256(f"{self.ledger.noted('lab_id')} {self.lab.root}".encode(errors="replace")).hexdigest()

    def _held_seed(self) -> int:
        """Chooses the places of the held rows; drawn once a lab, and known to no run."""
        if self.ledger.noted("held_seed") is None:
            self.ledger.note("held_seed", str(secrets.randbits(63)))
        return int(self.ledger.noted("held_seed") or 0)

    def _end_lost_runs(self) -> None:
        unfinished = [run for e in self.history.open for run in e.runs if run.result is None]
        self.runner.recover(unfinished, self._mark())
        for run in unfinished:
            lost = Result("lost", "lost", "the harness ended before the run did", seconds=now() - run.started_at)
            self.ledger.finish_run(run.n, run.k, lost)

    def _take_up(self, experiment: Experiment) -> None:
        """Judges what was measured but not decided; runs again what was lost, a few times at most."""
        lost = sum(run.result is not None and run.result.outcome == "lost" for run in experiment.runs)
        if lost >= LOST_RUNS_ALLOWED and experiment.last is not None and experiment.last.outcome == "lost":
            self._decide(experiment, Verdict("crash", "lost", f"the harness ended {lost} times during its runs", now()))
        elif experiment.last is None:
            self._queue.append(experiment.n)
        else:
            self._judge(experiment)

    def _reserve(self) -> None:
        """A megabyte that a full disk cannot take, given up for the row of the run that filled it."""
        path = self.lab.state / "reserve"
        whole = path.exists() and path.stat().st_size == RESERVE_BYTES  # a kill may have cut it short
        if not whole and shutil.disk_usage(self.lab.root).free > MIN_FREE_MB * 2**20:
            path.write_bytes(os.urandom(RESERVE_BYTES))

    def _recorded(self, append: Callable[[], Experiment]) -> Experiment:
        """Appends to the ledger; on a full disk once more, after giving up the reserve and the ended runs' folders."""
        try:
            return append()
        except LedgerError as error:
            if not error.full:
                raise
            (self.lab.state / "reserve").unlink(missing_ok=True)
            if self.runner.running == 0:
                self.jobs.clear()
            return append()

    def note(self, text: str) -> None:
        """Says something to whoever watches."""
        for watcher in self.watchers:
            watcher.note(text)

    def _tell(self, event: Callable[[Watcher], None]) -> None:
        """A view's file that cannot be written is said and does not end the night; the next start writes it."""
        for watcher in self.watchers:
            try:
                event(watcher)
            except OSError as error:
                self.note(f"{error.filename or type(watcher).__name__}: not written ({error.strerror})")
