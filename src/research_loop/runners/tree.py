"""One command with all that it forks, ended together: for coding agents, which are no training runs.

A keeper process (keeper.py) stands between the harness and the command, as with runs. Output is read as it comes: its
end is kept, and every line that looks like a JSON object is given to whoever listens, so neither a flood nor an
endless line fills the memory or blocks the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from research_loop.errors import RunError
from research_loop.runners.remains import KEEPER, RUN_MARKER, kill_marked

LINUX = sys.platform == "linux"
CHUNK_BYTES = 1024 * 1024
KEPT_BYTES = 256 * 1024
"""Of the end of each of the two outputs."""
LONGEST_LINE = 1024 * 1024
"""In bytes; a longer one is dropped."""
TICK_SECONDS = 0.2
OVERDUE_SECONDS = 10.0
"""How long a keeper may take to end everything after the limit or a stop."""

Popen = subprocess.Popen[bytes]
Cause = Literal["end", "limit", "stop", "unstarted", "lost"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went: lost is a keeper that was killed. `error` says why it could not be started.

    `proven` is whether the keeper said that nothing is left: something of one that was killed or stuck may live on.
    """

    cause: Cause
    code: int | None = None
    error: str = ""
    output: str = ""
    errors: str = ""
    proven: bool = True


class Tail:
    """The end of what it is fed."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > 2 * KEPT_BYTES:
            del self._held[:-KEPT_BYTES]

    def text(self) -> str:
        return self._held[-KEPT_BYTES:].decode(errors="replace")


class Lines:
    """Gives every whole line that begins with a brace to `hear`; the others are passed over at the speed of memory.

    `too_long` is whether there was one that was dropped for its length.
    """

    too_long = False

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self._held, self._dropped = bytearray(), False

    def feed(self, data: bytes) -> None:
        first, last = data.find(b"\n"), data.rfind(b"\n")
        if first < 0:
            self._add(data)
            return
        self._add(data[:first])
        self.end()
        at = first
        while (at := data.find(b"\n{", at, last)) >= 0:
            end = data.index(b"\n", at + 1)
            self._hear(data[at + 1 : end])  # no longer than a chunk
            at = end
        self._add(data[last + 1 :])

    def end(self) -> None:
        """The line that is held is whole."""
        line, dropped = bytes(self._held), self._dropped
        self._held.clear()
        self._dropped = False
        if line.startswith(b"{") and not dropped:
            self._hear(line)

    def _add(self, data: bytes) -> None:
        self._dropped = self._dropped or len(self._held) + len(data) > LONGEST_LINE
        if self._dropped:
            self._held.clear()
            self.too_long = True
        else:
            self._held += data


class Tree:
    """A command that was started in `folder`, with `environment` as its entire environment.

    `stdin` is the descriptor that becomes its standard input, -1 for none.
    Raises RunError where no process can be started there. Whoever made it calls `wait`.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        limit_seconds: float,
        hear: Callable[[bytes], None],
        stdin: int = -1,
    ) -> None:
        self._token = environment.get(RUN_MARKER) or uuid.uuid4().hex
        self._output, self._errors, self._lines = Tail(), Tail(), Lines(hear)
        self._report, self._over, self._stopping = b"", False, False
        self._overdue_at = time.monotonic() + limit_seconds + OVERDUE_SECONDS
        words = [str(KEEPER), str(limit_seconds), environment.get("LC_CTYPE", ""), str(stdin), *command]
        self._control, theirs = socket.socketpair()
        try:
            with theirs:
                self._keeper = _spawn(words, theirs, stdin, folder, {**environment, RUN_MARKER: self._token})
        except (OSError, ValueError) as error:
            self._control.close()
            why = getattr(error, "strerror", None) or str(error)
            raise RunError(f"{command[0]}: cannot be started in {folder}: {why}") from error

    def wait(self, stopped: threading.Event) -> Ended:
        """Read until everything of it is gone, which `stopped` brings about in a moment."""
        try:
            with selectors.DefaultSelector() as selector:
                self._register(selector)
                while not self._over:
                    for key, _ in selector.select(TICK_SECONDS):
                        if key.data() == b"":
                            selector.unregister(key.fileobj)
                    self._tick(stopped)
            self._drain()
        finally:
            self._close()
        self._lines.end()
        return self._ended()

    def _register(self, selector: selectors.BaseSelector) -> None:
        for pipe, take in ((self._keeper.stdout, self._take_output), (self._keeper.stderr, self._take_errors)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, take)
        self._control.setblocking(False)
        selector.register(self._control, selectors.EVENT_READ, self._take_report)

    def _take_output(self) -> bytes | None:
        data = _read(self._keeper.stdout)
        self._output.feed(data or b"")
        self._lines.feed(data or b"")
        return data

    def _take_errors(self) -> bytes | None:
        data = _read(self._keeper.stderr)
        self._errors.feed(data or b"")
        return data

    def _take_report(self) -> bytes:
        """What the keeper says; its end, with or without that, is the end of everything."""
        try:
            data = self._control.recv(4096)
        except ConnectionResetError:  # killed before it read our request to stop
            data = b""
        self._report += data
        self._over = not data
        return data

    def _tick(self, stopped: threading.Event) -> None:
        if stopped.is_set() and not self._stopping:
            self._stopping = True
            self._overdue_at = min(self._overdue_at, time.monotonic() + OVERDUE_SECONDS)
            with contextlib.suppress(OSError):  # it has just ended: that is heard in a moment
                self._control.send(b"s")
        if time.monotonic() > self._overdue_at and not self._over:
            self._keeper.kill()  # stuck or stopped by what it keeps; its end is heard on the socket

    def _drain(self) -> None:
        """What was printed before the end, and no more than a second of what escaped a killed keeper."""
        until = time.monotonic() + 1.0
        for take in (self._take_output, self._take_errors):
            while take() and time.monotonic() < until:
                pass

    def _close(self) -> None:
        """Nothing of it is left after this, whatever happened before."""
        self._control.close()  # which asks a keeper that still lives to end everything
        try:
            self._keeper.wait(OVERDUE_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        if not self._report or not LINUX:
            kill_marked(RUN_MARKER, self._token, spare={os.getpid()})
        for pipe in (self._keeper.stdout, self._keeper.stderr):
            assert pipe is not None
            pipe.close()

    def _ended(self) -> Ended:
        output, errors = self._output.text(), self._errors.text()
        if not self._report:
            late = time.monotonic() >= self._overdue_at
            cause: Cause = "stop" if self._stopping else "limit" if late else "lost"
            return Ended(cause, None, "", output, errors, proven=False)
        report = json.loads(self._report)
        return Ended(report["cause"], report["code"], report["error"], output, errors)


def _spawn(words: list[str], control: socket.socket, given: int, folder: Path, environment: dict[str, str]) -> Popen:
    """The keeper in a session of its own, so that Ctrl-C on the terminal reaches the harness alone; it gets `given`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", *words],
        stdin=control.fileno(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=folder,
        env=environment,
        pass_fds=(given,) if given >= 0 else (),
        start_new_session=True,
    )


def _read(pipe: Any) -> bytes | None:
    """A chunk; None where there is none yet, b"" at the end."""
    try:
        return os.read(pipe.fileno(), CHUNK_BYTES)
    except BlockingIOError:
        return None
