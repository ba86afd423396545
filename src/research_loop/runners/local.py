"""Runs on this machine: one keeper process and one process tree a run.

The harness side is one thread and one selector. It reads what the run prints, samples its memory, and hears from
the keeper (keeper.py) that everything is over. What survives a `kill -9` of keeper or harness is ended by remains.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import psutil

from research_loop.curves import EPOCHS, Gate
from research_loop.errors import RunError
from research_loop.exam import Examiner
from research_loop.gpus import first_gpu, machine
from research_loop.records import Result, Run
from research_loop.runlog import RunLog
from research_loop.runners import Started, memory
from research_loop.runners.remains import KEEPER, LAB_MARKER, RUN_MARKER, carries, end_keeper, kill_marked, sweep
from research_loop.runners.strain import Strain
from research_loop.scoring import Ending, conclude, read_summary, steps_per_second
from research_loop.tasks import Job, Progress

LINUX = sys.platform == "linux"
CHUNK_BYTES = 1024 * 1024
PROGRESS_SECONDS = 0.25
TICK_SECONDS = 1.0
SAMPLE_SHARE = 0.005
"""Share of the harness's time that sampling memory may take on a machine with very many processes."""
OVERDUE_SECONDS = 30.0
"""How long a keeper may take to end a run after its limit or a stop; a GPU frees 80 GB in a few seconds."""
LAST_SHARE, LOST_STEPS, LOST_SECONDS = 0.95, 5, 3.0
"""In a row: a loss that stays NaN or infinite comes to nothing, whatever train.py does about it."""
EXAM_SECONDS = 300.0
"""For questions and answers after a run has committed itself to a score, on top of its limit."""
MEMORY_SHARE = 0.5
"""A run killed while it held more than this share of the memory is taken for one that ran out of it."""


class LocalRunner:
    """Holds up to `slots` runs at once on this machine."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self._selector = selectors.DefaultSelector()
        self._active: list[_Active] = []
        self._ended: list[tuple[Job, Result]] = []
        self._closed = False

    @property
    def running(self) -> int:
        return len(self._active) + len(self._ended)

    def start(self, job: Job) -> Started:
        """Start a run in `job.folder` with `job.environment` as its entire environment.

        Raises RunError when no slot is free or no process can be started there. A command that does not exist is
        a result of the run.
        """
        if self._closed or self.running >= self.slots:
            raise RunError(f"run {job.n}.{job.k}: the runner " + ("is closed" if self._closed else "has no free slot"))
        active = _Active(job)
        self._selector.register(active.control, selectors.EVENT_READ, active.hear)
        self._selector.register(active.output, selectors.EVENT_READ, active.read)
        self._active.append(active)
        return active.started

    def wait(self, timeout: float, on_progress: Callable[[Progress], None] | None = None) -> list[tuple[Job, Result]]:
        """Runs that ended: as soon as there is one, [] after `timeout` seconds, or at once when nothing runs.

        Output is read only in here, so call it again soon. `on_progress` is called for news, at most 4 times a
        second and run.
        """
        deadline = time.monotonic() + timeout
        while self._active and not self._ended:
            left = deadline - time.monotonic()
            self._turn(min(max(left, 0.0), PROGRESS_SECONDS if on_progress else TICK_SECONDS))
            for active in self._active:
                active.tell(on_progress)
            if left <= 0:
                break
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        """Ask every keeper to kill its run; `wait` returns them when nothing of them is left."""
        for active in self._active:
            active.stop()

    def recover(self, runs: Iterable[Run], lab_id: str) -> None:
        """End the recorded keepers, patiently, and then everything that carries the lab's mark."""
        for run in runs:
            pid, create_time = run.keeper_pid, run.keeper_create_time
            if pid is not None and create_time is not None and carries(pid, LAB_MARKER, lab_id):
                end_keeper(pid, create_time)
        sweep(lab_id)

    def close(self) -> None:
        """Stop what still runs, wait until it is gone, and free everything."""
        self.stop()
        while self._active:
            self._turn(TICK_SECONDS)
        self._ended.clear()
        self._selector.close()
        self._closed = True

    def _turn(self, timeout: float) -> None:
        """One round: what can be read, what is due, who is over."""
        for key, _ in self._selector.select(timeout):
            take: Callable[[], bool] = key.data
            if not take():
                self._selector.unregister(key.fileobj)
        for active in list(self._active):
            active.tick()
            if active.over:
                self._finish(active)

    def _finish(self, active: _Active) -> None:
        if active.output in self._selector.get_map():
            self._selector.unregister(active.output)
        self._active.remove(active)
        self._ended.append((active.job, active.finish()))


class _Active:
    """One run in flight."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.over = False
        self._token = job.environment.get(RUN_MARKER) or uuid.uuid4().hex
        self._spawned = time.monotonic()
        seconds = job.limit_seconds + (EXAM_SECONDS if job.exam else 0.0)
        self._examiner = Examiner(job.exam, seconds) if job.exam else None
        environment = {**job.environment, RUN_MARKER: self._token}
        stdin = self._examiner.theirs.fileno() if self._examiner else -1
        self._keeper, self.control, self.output = _start_keeper(job, seconds, environment, stdin)
        if self._examiner:
            self._examiner.theirs.close()  # the run holds it now
        self._process = psutil.Process(self._keeper.pid)
        self.started = Started(self._keeper.pid, self._process.create_time())
        self._log = RunLog(job.log, job.metric, job.memory_metric)
        self._report = b""
        self._overdue_at = seconds + OVERDUE_SECONDS
        self._stopping: Literal["", "stop", "limit", "memory", "curve", "nan"] = ""
        self._gate = Gate(job.pace) if job.pace else None
        self._seen: list[psutil.Process] = []
        self._sample_at = 0.0
        self._peak_mb = 0.0
        self._memory = memory.look()
        self._strain = Strain(job.gpu.number if job.gpu else first_gpu())
        self._told_at, self._told_news = 0.0, 0

    def seconds(self) -> float:
        """Since the spawn, by the harness's clock."""
        return time.monotonic() - self._spawned

    @property
    def _passes(self) -> int:
        """The pass over its text that the run has come to; the first where they are not counted."""
        return self._log.epoch if self.job.counts_passes else 1

    def read(self) -> bool:
        """Take one chunk of output; False at its end."""
        try:
            data = os.read(self.output, CHUNK_BYTES)
        except BlockingIOError:
            return True
        self._log.feed(data, self.seconds())
        return bool(data)

    def hear(self) -> bool:
        """Take the keeper's report; its end, with or without one, is the end of the run."""
        try:
            data = self.control.recv(4096)
        except ConnectionResetError:  # killed before it read our request to stop
            data = b""
        self._report += data
        self.over = not data
        return bool(data)

    def stop(self, cause: Literal["stop", "limit", "memory", "curve", "nan"] = "stop") -> None:
        self._stopping = self._stopping or cause
        self._overdue_at = min(self._overdue_at, self.seconds() + OVERDUE_SECONDS)
        with contextlib.suppress(OSError):  # it has just ended: that is heard in a moment
            self.control.send(b"s")

    def tick(self) -> None:
        """What is due about once a second."""
        now = self.seconds()
        self._log.tick(now)
        if now >= self._sample_at:
            self._sample()
            self._sample_at = now + max(TICK_SECONDS, (self.seconds() - now) / SAMPLE_SHARE)
        if self._examiner and now >= self.job.limit_seconds and not self._examiner.committed.is_set():
            self.stop("limit")
        again = self._passes > 1  # the text
        if self._gate and not again and self._gate.see(self._log.share, self._log.loss) and not self._gate.pace.spared:
            self.stop("curve")
        lost = self._log.steps_lost >= LOST_STEPS and now - self._log.lost_at > LOST_SECONDS
        if lost and (self._log.share or 0.0) < LAST_SHARE:  # at the end its score says it
            self.stop("nan")
        if now >= self._overdue_at and not self.over:
            self._keeper.kill()  # stuck or stopped by its run; its end is heard on the socket

    def tell(self, on_progress: Callable[[Progress], None] | None) -> None:
        now, log = self.seconds(), self._log
        if on_progress is None or log.news == self._told_news or now - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at, self._told_news = now, log.news
        on_progress(Progress(self.job.n, self.job.k, now, log.share, log.loss, log.line))

    def finish(self) -> Result:
        """Everything of the run is dead or dies here; what it printed was readable before its end was, and is read."""
        seconds = self.seconds()
        ending, peak_mb = self._ending(seconds)
        self._peak_mb = max(self._peak_mb, peak_mb)
        self.control.close()
        self._keeper.kill()
        self._keeper.wait()
        if not self._report or not LINUX:
            self._sweep()
        os.close(self.output)
        self._log.finish(seconds)
        return self._result(ending, seconds)

    def _ending(self, seconds: float) -> tuple[Ending, float]:
        """What the keeper said, and the largest process in MB; or why it said nothing."""
        if self._report:
            report = json.loads(self._report)
            error = f"{self.job.command[0]}: {report['error']}"
            cause = self._stopping if self._stopping and report["cause"] == "stop" else report["cause"]
            return Ending(cause, report["code"], error), float(report["peak_mb"])
        late = seconds >= self.job.limit_seconds
        return Ending(self._stopping or ("limit" if late else "lost")), 0.0

    def _result(self, ending: Ending, seconds: float) -> Result:
        log, job = self._log, self.job
        near_limit = self._peak_mb > MEMORY_SHARE * memory.total_mb()
        marks = self._examiner.marks() if self._examiner else None
        result = conclude(ending, log.summary, log.tail(), job.metric, log.loss, near_limit, marks)
        summary = read_summary(log.summary, job.metric, job.memory_metric)
        summary |= {EPOCHS: float(self._passes)} if self._passes > 1 else {}
        return replace(
            result,
            detail="; ".join(part for part in (result.detail, log.trouble) if part),
            seconds=seconds,
            startup_seconds=log.startup_seconds,
            ready_seconds=marks.ready_seconds if marks else None,
            committed_seconds=marks.committed_seconds if marks else None,
            exam_seconds=marks.exam_seconds if marks else None,
            training_seconds=summary.get("training_seconds"),
            steps_per_second=steps_per_second(summary),
            peak_vram_mb=summary.get(job.memory_metric),
            peak_ram_mb=self._peak_mb or None,
            hopeless_at=self._gate.hopeless_at if self._gate else None,
            waited_share=self._strain.waited_share,
            braked_share=self._strain.braked_share,
            machine=job.machine or machine(),
            gpu=job.gpu.uuid if job.gpu else None,
            summary=summary,
            curve=log.curve,
            log_tail="\n".join(log.tail()),
            held_nats=marks.held_nats if marks else b"",
        )

    def _sample(self) -> None:
        """The whole tree, its memory and what slows it; who is in it is remembered in case the keeper is killed."""
        try:
            self._seen = self._process.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        held = 0
        for process in self._seen:
            with contextlib.suppress(psutil.Error):
                held += process.memory_info().rss
        self._peak_mb = max(self._peak_mb, held / 2**20)
        if memory.look().ends(held / 2**20, self._memory):
            self.stop("memory")
        examined = self._examiner is not None and self._examiner.committed.is_set()
        if self._log.startup_seconds is not None and not examined:
            self._strain.sample(process.pid for process in self._seen)

    def _sweep(self) -> None:
        """Kill what a lost keeper left: those seen in its tree, and all that carry the run's marker."""
        for process in self._seen:
            with contextlib.suppress(psutil.Error):
                process.kill()
        kill_marked(RUN_MARKER, self._token, spare={os.getpid()})


def _start_keeper(
    job: Job, limit_seconds: float, environment: dict[str, str], stdin: int
) -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    """The keeper, our end of its socket and the read end of the run's output; all of it or nothing."""
    locale = environment.get("LC_CTYPE", "")
    command = [sys.executable, "-I", "-S", str(KEEPER), str(limit_seconds), locale, str(stdin), *job.command]
    with contextlib.ExitStack() as undo:
        try:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                read, write = os.pipe()
                undo.callback(os.close, read)
                with open(write, "wb") as output:
                    _widen(read)
                    keeper = _spawn(command, theirs, output, stdin, job.folder, environment)
        except (OSError, ValueError) as error:
            raise RunError(f"run {job.n}.{job.k} in {job.folder}: cannot start a process there: {error}") from error
        undo.pop_all()
    ours.setblocking(False)
    os.set_blocking(read, False)
    return keeper, ours, read


def _spawn(
    command: list[str],
    control: socket.socket,
    output: BinaryIO,
    stdin: int,
    folder: Path,
    environment: dict[str, str],
) -> subprocess.Popen[bytes]:
    """The keeper in a session of its own, so that Ctrl-C on the terminal reaches the harness alone."""
    return subprocess.Popen(
        command,
        stdin=control.fileno(),
        pass_fds=[stdin] if stdin >= 0 else [],
        stdout=output,
        stderr=output,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def _widen(pipe: int) -> None:
    """A megabyte of pipe instead of 64 KB: fewer rounds when a run floods. A user may be over the system's quota."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
