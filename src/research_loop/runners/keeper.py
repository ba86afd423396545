"""Stands between the harness and one run, and leaves no process of the run behind.

    python -I -S keeper.py LIMIT_SECONDS LC_CTYPE STDIN_FD COMMAND...

Standard library only and nothing of ours, so that it starts in some 15 ms. Its standard input is a socket from the
harness: a byte on it asks for a stop, and its end (the harness was killed) means the same. Its standard output
and error are the run's, and STDIN_FD becomes the run's standard input (-1: none). It ends the run when the main
process ends, when asked, or at the limit, and then says on the socket, in one line of JSON, what happened:
{"cause": "end" | "stop" | "limit" | "unstarted",
"code": exit code or minus the signal, "peak_mb": largest resident set of one process, "error": why not started}.

On Linux it is a child subreaper: whatever the run forks, setsid or double fork included, becomes its
child in the end, and "no child left" is the kernel's proof that all are gone. Elsewhere there is no such thing:
only the process group is killed here, the harness sweeps by the environment marker, and what left the group lives
on until the next start's sweep when the harness was killed, the whole run when the keeper was killed with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
HARNESS = 0
RSS_PER_MB = 1024.0 if LINUX else 1024.0 * 1024.0


def prctl(option: int, value: int) -> None:
    if LINUX and ctypes.CDLL(None).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(f"prctl({option}) was refused")


def listen() -> int:
    """A descriptor that gets one byte a signal, so that one select waits for children, harness and limit at once."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return read


def restore(locale: str) -> None:
    """Undo what Python's start may have done to the environment: a C locale is coerced to UTF-8 (PEP 538)."""
    os.environ.pop("LC_CTYPE", None)
    if locale:
        os.environ["LC_CTYPE"] = locale


def spawn(command: list[str], stdin: int) -> tuple[int, str]:
    """Start the run in a session of its own: its pid, and why it could not be started ("" when it was)."""
    keeper = os.getpid()
    read, write = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        try:
            become(command, stdin, keeper)
        except (OSError, ValueError) as error:
            os.write(write, (getattr(error, "strerror", None) or str(error)).encode())
        finally:
            os._exit(127)
    os.close(write)
    if stdin >= 0:
        os.close(stdin)  # its end is the run's alone: when the run is gone, the harness reads that
    trouble = os.read(read, 1000).decode()
    os.close(read)
    return pid, trouble


def become(command: list[str], stdin: int, keeper: int) -> None:
    """Turn this fork into the run."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:  # it died before the line above could hold
        os._exit(1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # an ignored signal would stay ignored through exec
    given = stdin if stdin >= 0 else os.open(os.devnull, os.O_RDONLY)
    os.dup2(given, 0)
    os.close(given)
    os.execvp(command[0], command)


def children() -> list[int]:
    """Pids of our direct children; an orphaned grandchild is one of them."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as listing:
            return [int(pid) for pid in listing.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(name) == me]  # noqa: PTH208


def parent_of(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


class Run:
    """The run's main process and, on Linux, all that came of it."""

    def __init__(self, command: list[str], stdin: int) -> None:
        self.signals = listen()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.pid, self.error = spawn(command, stdin)
        self.code: int | None = None
        self.peak_mb = 0.0

    def reap(self) -> bool:
        """Collect the dead; False when no child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.peak_mb = max(self.peak_mb, usage.ru_maxrss / RSS_PER_MB)
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)

    def watch(self, limit_seconds: float) -> str:
        """Sleep until the run is over, should be or must be; say which."""
        deadline = time.monotonic() + limit_seconds
        told = False
        while True:
            self.reap()
            left = deadline - time.monotonic()
            if self.code is not None:
                return "end"
            if told or left <= 0:
                return "stop" if told else "limit"
            ready, _, _ = select.select([HARNESS, self.signals], [], [], min(left, 3600.0))
            told = self.told_to_end() or HARNESS in ready

    def told_to_end(self) -> bool:
        """Whether a signal other than a child's death came since the last call."""
        try:
            return any(number != signal.SIGCHLD for number in os.read(self.signals, 4096))
        except BlockingIOError:
            return False

    def kill(self) -> None:
        """SIGKILL until nothing is left: a killed process cannot fork, and its children become ours."""
        if self.code is None or not LINUX:  # at once for the whole group: a fork in it cannot slip through
            self.signal_group()
        while self.reap():
            for pid in children() if LINUX else ():
                os.kill(pid, signal.SIGKILL)  # ours and not reaped, so the number cannot be another's
            if not self.reap():
                return
            select.select([self.signals], [], [], 0.005)
            self.told_to_end()

    def signal_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # gone; on macOS a dead leader gives the latter
            return


def main() -> None:
    limit_seconds, locale, stdin, command = float(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    restore(locale)
    run = Run(command, stdin)
    cause = run.watch(limit_seconds)
    run.kill()
    cause = "unstarted" if run.error else cause
    report = {"cause": cause, "code": run.code, "peak_mb": run.peak_mb, "error": run.error}
    try:
        os.write(HARNESS, json.dumps(report).encode())
    except OSError:  # the harness is gone; nobody is left to tell
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
