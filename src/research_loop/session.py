"""An open lab and the two calls that everything goes through.

`open` gives the champion's files to whoever edits; `close` takes edited files, checks, runs, judges and records them.
`close` is `submit` and then `pump` until decided; the unattended loop calls those two, so that several experiments
can be open at once.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from research_loop import edits
from research_loop.admission import Admission
from research_loop.branch import Branch
from research_loop.drafts import GIVEN_UP, Asked
from research_loop.dry_run import DryRuns
from research_loop.errors import GitError, LabError, LedgerError
from research_loop.gpus import Gpu, Pool, vram_mb
from research_loop.jobs import AUDITS, JobMaker
from research_loop.judging import Judge
from research_loop.lab import Lab, repository_of
from research_loop.ledger import Ledger, now
from research_loop.lock import Lock
from research_loop.pairs import same_seeds
from research_loop.pins import check_pins, pin
from research_loop.plain import plain
from research_loop.records import Audit, Checkout, Experiment, History, Proposal, Result, Run, Verdict
from research_loop.reserve import Reserve
from research_loop.runners import Runner
from research_loop.tasks import Job, Rival
from research_loop.verdict import Again
from research_loop.watchers import Watcher, Watchers

Appended = TypeVar("Appended")
LOST_RUNS_ALLOWED = 3


class Session:
    """An open lab: lock, ledger, repository and runner. A context manager; raises LockedError on a second one.

    `unsafe` lets code that a model may have written run where no sandbox works; `seed_of` draws the seeds of runs; each
    run gets one of the `gpus`, where there are several.
    """

    def __init__(
        self,
        lab: Lab,
        runner: Runner,
        watchers: Iterable[Watcher] = (),
        *,
        unsafe: bool = False,
        seed_of: Callable[[Experiment], int] = same_seeds,
        gpus: Sequence[Gpu] = (),
    ) -> None:
        self.lab, self.runner, self.watchers, self.gpus = lab, runner, Watchers(watchers), Pool(gpus)
        self._seed_of, self._vram_mb = seed_of, vram_mb()
        self.stopping = False  # start nothing more
        self.halted = False  # and end what runs
        self.closing = False  # nobody waits for dry runs any more
        self.make_room: Callable[[], bool] = lambda: False  # ends who may have filled the disk; whether there was one
        self._stop_said = False
        self._queue, self._audits = deque[int](), dict[int, Audit]()
        lab.state.mkdir(exist_ok=True)
        (lab.state / ".gitignore").write_text("*\n")
        self._lock, self._reserve = Lock(lab.state), Reserve(lab.root, lab.state)
        self._lock.acquire()
        try:
            self._reserve.fill()
            self.repository = repository_of(lab)
            self.ledger = Ledger(lab.ledger_path)
            self.branch = Branch(lab, self.repository, self.ledger, self.note)
            self._judge = Judge(lab, self.ledger, self.repository)
            check_pins(self.ledger, lab, self.repository, data=False)
            self.mark = self._mark()
            self.jobs = JobMaker(lab, self.repository, self.mark, self._held_seed(), self.note)
            dry_runs = DryRuns(lab, self.jobs, lambda: self.halted or self.closing)
            self.admission = Admission(lab, self.repository, self.jobs, lambda: self.history, dry_runs)
            self.admission.unsafe = unsafe
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
            last.callback(self.watchers.closed)
            last.callback(self.jobs.clear)
            last.callback(self.runner.close)
            self.runner.stop()
            while self.runner.running:
                for job, result in self.runner.wait(timeout=1.0):
                    if job.k < len(self.ledger.experiment(job.n).runs):  # not where recording its start failed
                        self.ledger.finish_run(job.n, job.k, self._judge.heed(job.n, self._believed(result)))

    @property
    def history(self) -> History:
        return replace(self.ledger.history, higher=self.lab.config.direction == "higher", vram_mb=self._vram_mb)

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

        Raises ProposalError, before any run, when it is not worth one. Without a verdict when stopped before: it
        stays open.
        """
        return self.finish(self.submit(proposal, again=again).n)

    def finish(self, n: int) -> Experiment:
        """Waits until an open experiment is decided, or the session stopped."""
        while (current := self.ledger.experiment(n)).verdict is None:
            if self.stopping and not self.runner.running:
                break
            self.pump(timeout=1.0)
        return current

    def start_audit(self, experiment: Experiment, before: Sequence[str | None] = ()) -> Job:
        """Begins to train an experiment's code anew, with a seed that no run had, for a score on text kept for audits;
        `before` are the GPUs that earlier ones had. It decides nothing and is recorded by itself."""
        self.check_pins()
        self.admission.refuse_uncontained(experiment.proposer, experiment.parent)
        seed, ks = secrets.randbits(31), itertools.count(AUDITS + len(self.ledger.audits()))
        # one that was killed has left its log, which an error may have named
        k = next(k for k in ks if k not in self._audits and not self.lab.log_path(experiment.n, k).exists())
        job = self.jobs.make(experiment, k, seed, audit=True, gpu=self.gpus.take(experiment.n, k, before))
        self.runner.start(replace(job, machine=self.gpus.machine))
        self._audits[k] = Audit(experiment.n, seed, now(), Result("lost"))
        return job

    def ended_audits(self) -> list[tuple[Audit, Path]]:
        """Those that ended in the next second, recorded, and their logs; not those that were stopped."""
        self._heed_stop()
        found = []
        for job, result in self.runner.wait(1.0, self.watchers.progressed):
            self._clear(job)
            self.watchers.ended(self.ledger.experiment(job.n))
            audit = replace(self._audits.pop(job.k), result=self._believed(result))
            if result.outcome != "stopped":
                self.ledger.record_audit(audit)
                found.append((audit, job.log))
        return found

    # --------------------------------------------------------------------------------------------- submit and pump

    def check_pins(self) -> None:
        """Raises PinError when the task, a locked file or the data is not the baseline's any more."""
        check_pins(self.ledger, self.lab, self.repository)

    @property
    def data_pin(self) -> str | None:
        """The digest of the baseline's data; None before there is a baseline."""
        return self.ledger.noted(f"data:{baseline.n}") if (baseline := self.history.baseline) else None

    @property
    def room(self) -> bool:
        """Whether another experiment could start now: what is queued may wait for another GPU than the free one."""
        due = sum(self.gpus.suits(self._gpus_of(n)) for n in self._queue)
        taken = bool(self.runner.running) and self._reserve.scarce  # by one that runs, who gives it back
        return due + self.runner.running < self.runner.slots and not taken

    def submit(self, proposal: Proposal, *, again: bool = False) -> Experiment:
        """Checks a proposal, commits its code, records it and queues its first run. `again` allows a known code."""
        self.check_pins()
        files = self._with_room(lambda: self.admission.admit(proposal, again=again))
        self._with_room(self._reserve.check_space)
        key, commit = edits.key(files), self._with_room(lambda: self._commit(proposal, files))
        what, why, risk = (" ".join(plain(text).split()) for text in (proposal.what, proposal.why, proposal.risk))
        new = Experiment(-1, what or "(no words)", why, risk, proposal.proposer, proposal.parent, commit, key, now())
        experiment = self._recorded(lambda: self.ledger.propose(replace(new, draft=proposal.draft)))
        self._with_room(lambda: self.branch.mark(experiment))
        self._queue += [*(due.n for due in self._judge.due() if not self._awaited(due)), experiment.n]
        return experiment

    def pump(self, timeout: float) -> list[Experiment]:
        """Starts queued runs where there is room, waits up to `timeout` seconds for one to end, records it and judges
        what waited for it; the newly decided."""
        self._heed_stop()
        while self._queue and self.runner.running < self.runner.slots and not self.stopping:
            first = next((n for n in self._queue if self.gpus.suits(self._gpus_of(n))), self._queue[0])
            self._start(first)
            self._queue.remove(first)
        ended = self.runner.wait(timeout, self.watchers.progressed)
        recorded = [self._take(job, result) for job, result in ended]  # all, before a verdict can fail
        return [decided for experiment in recorded for decided in self._follow_up(experiment)]

    def _heed_stop(self) -> None:
        """Signal handlers only set flags; what they ask for is done and said here."""
        if self.halted:
            self.runner.stop()
        elif self.stopping and not self._stop_said and self.runner.running:
            self._stop_said = True
            self.note("finishing this experiment; a second Ctrl-C stops it at once")

    def _commit(self, proposal: Proposal, files: dict[str, bytes]) -> str:
        """A baseline's commit holds the lab's locked files as they are now; the others inherit them."""
        message = "\n\n".join(plain(part) for part in (proposal.what, proposal.why, proposal.risk) if part) + "\n"
        if proposal.parent is not None:
            base = self.ledger.experiment(proposal.parent).commit
            return self.repository.commit(base, files, message)
        with_locked = {**self.lab.read(self.lab.config.locked), **files}
        return self.repository.commit(self.repository.head(), with_locked, message)

    # --------------------------------------------------------------------------------------------------------- run

    def _start(self, n: int) -> None:
        experiment = self.ledger.experiment(n)
        self.admission.refuse_uncontained(experiment.proposer, experiment.parent)
        if experiment.parent is None:
            pin(self.ledger, self.lab, experiment)
        rivals = self._rival(self.history.champion), self._rival(self.history.baseline)
        seed = self._seed_of(experiment)
        ours, k = self.history.ours(experiment.proposer, experiment.parent), len(experiment.runs)
        gpu = self.gpus.take(n, k, self._gpus_of(n))
        job = self._with_room(lambda: self.jobs.make(experiment, k, seed, *rivals, ours=ours, gpu=gpu))
        started = self.runner.start(replace(self._judge.against(job, experiment), machine=self.gpus.machine))
        run = Run(n, job.k, seed, now(), started.keeper_pid, started.keeper_create_time)
        self._recorded(lambda: self.ledger.start_run(run))
        self.watchers.started(experiment, run)

    def _gpus_of(self, n: int) -> list[str | None]:
        """Which GPUs its runs had, on this machine or another."""
        return [run.result.gpu for run in self.ledger.experiment(n).runs if run.result]

    def _rival(self, other: Experiment | None) -> Rival | None:
        """Somebody to compare a run with; None where there is nobody, or nobody that the harness scored."""
        if other is None or other.score is None:
            return None
        if held := self.ledger.held_nats(other.n):
            return Rival(other.score.value, held[1], held[0])
        return Rival(other.score.value) if other.score.verified != "unverified" else None

    def _take(self, job: Job, result: Result) -> Experiment:
        """Writes down what came of a run; its folder goes first, since it may have filled the disk."""
        self._clear(job)
        result = self._judge.heed(job.n, self._believed(result))
        experiment = self._recorded(lambda: self.ledger.finish_run(job.n, job.k, result))
        self.jobs.show_log(job)
        self.watchers.ended(experiment)
        return experiment

    def _follow_up(self, experiment: Experiment) -> list[Experiment]:
        """Verdicts, after a run of it; the newly decided."""
        if experiment.verdict is not None:
            self.jobs.kernels.decided(experiment, experiment == self.history.champion)
            self.watchers.changed(experiment, self.history)
            self._reconsider()
        return self._settle()

    def _clear(self, job: Job) -> None:
        """Of a run that has ended: its GPU is free, its folder goes."""
        self.gpus.give_back(job.n, job.k)
        self.jobs.clear(job)

    def _believed(self, result: Result) -> Result:
        """What a run without a sandbox says to the harness proves little: it can read the validation text."""
        if result.score is None or self.jobs.contained or result.score.verified == "unverified":
            return result
        return replace(result, score=replace(result.score, verified="unverified"))

    # ------------------------------------------------------------------------------------------------------- judge

    def _settle(self) -> list[Experiment]:
        """Judges every open experiment that waits for no run, and queues the runs that it asks for; the decided."""
        found = [self._rule(e) for e in self.history.open if e.last is not None and not self._awaited(e)]
        return [experiment for experiment in found if experiment is not None]

    def _awaited(self, experiment: Experiment) -> bool:
        """Whether a run of it is queued, goes on, or was stopped by the user."""
        newest = experiment.runs[-1].result if experiment.runs else None
        return experiment.n in self._queue or newest is None or (self.stopping and newest.outcome == "stopped")

    def _rule(self, experiment: Experiment) -> Experiment | None:
        """The experiment, decided; None where another run is needed first, its own or the champion's."""
        verdict = self._judge.judge(experiment)
        if not isinstance(verdict, Again):
            return self._decide(experiment, verdict)
        champion = self.history.champion
        wanted = champion if verdict.who == "champion" and champion else experiment
        if wanted is experiment or not self._awaited(wanted):
            self.note(f"  {verdict.why}: experiment {wanted.n} is run again")
            self._queue.append(wanted.n)
        return None

    def _reconsider(self) -> None:
        """A champion that was run again and is none after all gives way to the one before it, with all made of it."""
        while found := self._judge.revise():
            revised = self._recorded(partial(self.ledger.revise, found[0].n, found[1]))
            self._with_room(self.branch.follow)
            self.watchers.changed(revised, self.history)

    def _decide(self, experiment: Experiment, verdict: Verdict) -> Experiment:
        """The decision is recorded first; branch, files and views follow it, now or at the next start."""
        decided = self._recorded(lambda: self.ledger.decide(experiment.n, verdict))
        self.jobs.kernels.decided(decided, decided.kept)
        self._with_room(self.branch.follow if decided.kept else lambda: self.branch.put_back(decided))
        self.watchers.decided(decided, self.history)
        return decided

    # -------------------------------------------------------------------------------------------------- durability

    def _recover(self) -> None:
        """Brings everything in line with the ledger, however the last session ended."""
        self._end_lost_runs()
        self.jobs.clear()
        self.jobs.clear_dry()
        self.branch.recover(self.history.experiments)
        self.watchers.opened(self.history)
        self.branch.warn_of_uncommitted_work()
        for experiment in self.history.open:
            self._take_up(experiment)
        self._reconsider()
        self._settle()
        if self._queue:  # else the next proposal brings it
            self._queue.extendleft(due.n for due in self._judge.due() if not self._awaited(due))

    def _mark(self) -> str:
        """In the environment of every process of this lab; a copy of the lab in another folder has its own."""
        lab_id = self.ledger.note_once("lab_id", lambda: uuid.uuid4().hex)
        return hashlib.sha256(f"{lab_id} {self.lab.root}".encode(errors="replace")).hexdigest()

    def _held_seed(self) -> int:
        """Chooses the places of the held rows; drawn once a lab, and known to no run."""
        return int(self.ledger.note_once("held_seed", lambda: str(secrets.randbits(63))))

    def _end_lost_runs(self) -> None:
        unfinished = [run for e in self.history.experiments for run in e.runs if run.result is None]
        self.runner.recover(unfinished, self.mark)
        for run in unfinished:
            lost = Result("lost", "lost", "the harness ended before the run did", seconds=now() - run.started_at)
            self.ledger.finish_run(run.n, run.k, lost)

    def _take_up(self, experiment: Experiment) -> None:
        """Runs again what was not measured; what was lost, a few times at most."""
        lost = sum(run.result is not None and run.result.outcome == "lost" for run in experiment.runs)
        if lost >= LOST_RUNS_ALLOWED and experiment.last is not None and experiment.last.outcome == "lost":
            self._decide(experiment, Verdict("crash", "lost", f"the harness ended {lost} times during its runs", now()))
        elif experiment.last is None:
            self._queue.append(experiment.n)

    def begin_draft(self, proposer: str, parent: int, started_at: float) -> int:
        """Writes down that a draft is asked for; its number."""
        return self._recorded(lambda: self.ledger.begin_draft(proposer, parent, started_at))

    def record_draft(self, asked: Asked) -> Asked:
        """Writes down what came of what a model or an agent was asked for."""
        return self._recorded(lambda: self.ledger.record_draft(asked))

    def give_up_draft(self, number: int, why: str) -> None:
        """Writes down why a draft's proposal is not run, so that no later start takes it up."""
        self._recorded(lambda: self.ledger.note_once(f"{GIVEN_UP}{number}", lambda: why))

    def _with_room(self, step: Callable[[], Appended]) -> Appended:
        """Where a step fails for want of room, once more without who may have taken that."""
        try:
            return step()
        except (GitError, LabError, OSError):
            if not (self._reserve.scarce and self.make_room()):
                raise
            return step()

    def _recorded(self, append: Callable[[], Appended]) -> Appended:
        """Appends to the ledger; on a full disk once more, after giving up the reserve and the ended runs' folders."""
        try:
            return append()
        except LedgerError as error:
            if not error.full:
                raise
            self.make_room()  # first, or the reserve goes the same way
            self._reserve.give_up()
            if self.runner.running == 0:
                self.jobs.clear()
            return append()

    def note(self, text: str) -> None:
        """Says something to whoever watches."""
        self.watchers.note(text)
