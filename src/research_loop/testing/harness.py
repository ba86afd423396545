"""A harness in a process of its own that tests may kill, starve and start again.

It is a fork of the process that asks, so it costs no imports; it then runs the command line as a shell would start it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from research_loop import cli
from research_loop.testing.faults import Fault, install

SECONDS_ALLOWED = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a harness ended: its exit code, or minus the signal; what it said; seconds from its start to the first
    experiment that it told of (None: it told of none) and to its end."""

    code: int
    output: str
    errors: str
    first_experiment_seconds: float | None
    seconds: float


class Hung(AssertionError):
    """A harness did not end in time; it has been killed."""


def run_harness(arguments: Sequence[object], fault: Fault | None = None, trace: Path | None = None) -> Ended:
    """`research-loop ARGUMENTS`, to its end. With `fault`, it meets that; with `trace`, its calls are listed there."""

    def main() -> None:
        if fault is not None or trace is not None:
            install(fault, trace)
        sys.argv = ["research-loop", *map(str, arguments)]
        cli.main()

    return watch(fork(main))


def exec_harness(command: Sequence[object], environment: dict[str, str] | None = None) -> Ended:
    """Any command, started anew: for what must see a process from its first instruction."""
    words = [os.fspath(word) if isinstance(word, Path) else str(word) for word in command]
    return watch(fork(lambda: os.execvpe(words[0], words, environment or dict(os.environ))))


@dataclass(slots=True)
class Forked:
    """A child of this process with its two pipes."""

    pid: int
    output: int
    errors: int
    started: float


def fork(main: Callable[[], object], keep: int = -1) -> Forked:
    """Calls `main` in a fork of this process, in a session of its own; no descriptor but `keep` goes along."""
    out, errors = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become(main, out[1], errors[1], keep)
    os.close(out[1])
    os.close(errors[1])
    return Forked(pid, out[0], errors[0], started)


def _become(main: Callable[[], object], out: int, errors: int, keep: int) -> NoReturn:
    """Never returns into the caller's stack: what that would still do is the parent's to do."""
    code = 70
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(errors, 2)
        for descriptor in _open_descriptors() - {0, 1, 2, keep}:
            os.close(descriptor)
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(n, "w", closefd=False), write_through=True) for n in (1, 2)
        )
        signal.set_wakeup_fd(-1)
        signal.setitimer(signal.ITIMER_REAL, 0)
        code = _exit_code(main)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _open_descriptors() -> set[int]:
    with os.scandir("/dev/fd") as listing:
        names = {int(entry.name) for entry in listing}
    return {number for number in names if _is_open(number)}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:  # the listing's own
        return False
    return True


def _exit_code(main: Callable[[], object]) -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def watch(child: Forked) -> Ended:
    """Reads what a child says until it ends. Its own children may hold the pipes on: they are not waited for."""
    said: dict[int, bytes] = {child.output: b"", child.errors: b""}
    first: float | None = None
    for descriptor in said:
        os.set_blocking(descriptor, False)
    status: int | None = None
    while True:
        for descriptor in said:
            said[descriptor] += _read(descriptor)
        now = time.monotonic() - child.started
        if first is None and (b"\nexperiment " in said[child.output] or said[child.output].startswith(b"experiment ")):
            first = now
        if status is not None:
            break
        status = _status(child.pid)
        if status is None and now > SECONDS_ALLOWED:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise Hung(f"still running after {now:.0f} s: {said[child.output][-500:].decode(errors='replace')}")
        if status is None:
            time.sleep(0.002)
    for descriptor in said:
        os.close(descriptor)
    output, errors = (text.decode(errors="replace") for text in said.values())
    return Ended(os.waitstatus_to_exitcode(status), output, errors, first, now)


def _status(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else None


def _read(descriptor: int) -> bytes:
    parts = []
    while True:
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            break
        if not data:
            break
        parts.append(data)
    return b"".join(parts)
