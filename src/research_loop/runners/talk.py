"""A process tree that is talked with: one JSON object a line each way, over its standard input and output.

A Tree in a thread's event loop in place of a loop of its own. Neither a flood of messages, an endless line nor an
agent that does not read fills the memory: what waits is bounded, and nothing more is read before it was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research_loop.errors import RunError
from research_loop.runners.tree import TICK_SECONDS, Ended, Tree

MOST_UNSENT = 4 * 1024 * 1024
"""Bytes that wait for whom we talk with to read; while there are more, nothing of theirs is read."""
MOST_WAITING, MOST_WAITING_BYTES = 1000, 4 * 1024 * 1024
"""Messages that wait to be taken, and their bytes, above those of one chunk."""


class Talk(Tree):
    """A command that was started as a Tree is, to `send` messages to and `receive` them from while `watch` runs.

    Raises RunError where no process can be started there. Whoever made it awaits `watch`. To be used in one event loop.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float) -> None:
        self._told, self._drained, self._paused = threading.Event(), False, False
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._unsent = bytearray()
        self._changed = asyncio.Event()  # something arrived, was sent or ended: all wait for this and look again
        theirs, self._input = os.pipe()
        os.set_blocking(self._input, False)
        try:
            super().__init__(command, folder, environment, seconds, self._take_line, theirs)
        except (OSError, RunError):
            os.close(self._input)
            raise
        finally:
            os.close(theirs)

    @property
    def too_long(self) -> bool:
        """Whether a line came that was too long to be kept; nothing more is received then."""
        return self._lines.too_long

    def end(self) -> None:
        """End it with all that it forked; `watch` returns when that is done."""
        self._told.set()
        self._notify()

    async def watch(self) -> Ended:
        """Until nothing of it is left."""
        loop = asyncio.get_running_loop()
        try:
            self._listen(loop)
            while not self._over:
                await self._change(TICK_SECONDS)
                self._tick(self._told)
        finally:
            for file in (self._stdout, self._stderr, self._control.fileno()):
                loop.remove_reader(file)
            loop.remove_writer(self._input)
            self._drain()
            self._close()
            self._lines.end()
            self._drained = True
            self._notify()
        return self._ended()

    # --------------------------------------------------------------------------------- as a transport of messages

    async def send(self, message: dict[str, Any]) -> None:
        """Never waits; what is sent to one that has ended is lost, and its end is received."""
        if not self._drained:
            self._unsent += json.dumps(message).encode() + b"\n"
            self._write()

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None after the last one. What is no message in JSON-RPC is passed over."""
        while not self.too_long:
            if len(self._unsent) > MOST_UNSENT and not self._drained:
                await self._change()
            elif self._waiting:
                line = self._waiting.popleft()
                self._waiting_bytes -= len(line)
                message = _message(line)
                if message is not None:
                    await asyncio.sleep(0)  # whoever was given the one before has their turn first
                    return message
            elif self._drained:
                return None
            else:
                self._resume()
                await self._change()
        return None

    async def close(self) -> None:
        """Nothing: it ends by `end`, and with `watch`."""

    # ------------------------------------------------------------------------------------------------- in the loop

    @property
    def _stdout(self) -> int:
        assert self._keeper.stdout is not None
        return self._keeper.stdout.fileno()

    @property
    def _stderr(self) -> int:
        assert self._keeper.stderr is not None
        return self._keeper.stderr.fileno()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        for file, take in (
            (self._stdout, self._take_output),
            (self._stderr, self._take_errors),
            (self._control.fileno(), self._take_report),
        ):
            os.set_blocking(file, False)
            loop.add_reader(file, self._read, file, take)

    def _read(self, file: int, take: Callable[[], bytes | None]) -> None:
        if take() == b"":
            asyncio.get_running_loop().remove_reader(file)
        elif file == self._stdout and (len(self._waiting) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES):
            self._paused = True
            asyncio.get_running_loop().remove_reader(file)
        self._notify()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            asyncio.get_running_loop().add_reader(self._stdout, self._read, self._stdout, self._take_output)

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                del self._unsent[: os.write(self._input, self._unsent[:65536])]
        except BlockingIOError:
            loop.add_writer(self._input, self._write)
            return
        except OSError:  # nobody reads any more
            self._unsent.clear()
        loop.remove_writer(self._input)
        self._notify()

    def _take_line(self, line: bytes) -> None:
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _notify(self) -> None:
        """Wake all that wait: each has its own hold of the event, which is a new one from now on."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _change(self, seconds: float | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _close(self) -> None:
        super()._close()
        os.close(self._input)


def _message(line: bytes) -> dict[str, Any] | None:
    """A request, a notification or an answer; None for anything else."""
    try:
        message = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    method, number, error = message.get("method"), message.get("id"), message.get("error")
    right = isinstance(method, str) if "method" in message else isinstance(number, int)
    right = right and isinstance(number, int | str | None) and isinstance(error, dict | None)
    return message if right else None
