"""Messages between the harness and a run: a line of JSON, and as many raw bytes as it says.

The other end is `answer_harness` in the lab's prepare.py, in a process that nobody vouches for.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

LONGEST_HEADER = 4096


class Broken(Exception):
    """The run ended, stalled or said something else than the protocol."""


class Channel:
    """The harness's end of a stream socket."""

    def __init__(self, end: socket.socket, timeout_seconds: float) -> None:
        """The timeout is of a whole message, either way."""
        end.settimeout(timeout_seconds)
        self._end, self._timeout, self._held = end, timeout_seconds, b""

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            self._end.sendall(json.dumps({**header, "bytes": len(payload)}).encode() + b"\n" + payload)
        except OSError as error:
            raise Broken(f"the run stopped listening ({error})") from error

    def receive(self, most_bytes: int = 0) -> tuple[dict[str, Any], bytes]:
        """The next message; Broken when it is none, or holds more than `most_bytes`."""
        deadline = time.monotonic() + self._timeout
        while b"\n" not in self._held:
            if len(self._held) > LONGEST_HEADER:
                raise Broken("the run sent something else than an answer")
            piece = bytearray(LONGEST_HEADER)
            self._held += piece[: self._fill(memoryview(piece), deadline)]
        line, self._held = self._held.split(b"\n", 1)
        try:
            header = json.loads(line)
            size = int(header.get("bytes", 0))
        except (ValueError, AttributeError, TypeError, RecursionError, OverflowError) as error:
            raise Broken("the run sent something else than an answer") from error
        if not 0 <= size <= most_bytes:
            raise Broken(f"the run sent {min(size, 10**15)} bytes where {most_bytes} at most were asked for")
        data = bytearray(size)  # filled in place: a run may send it byte by byte
        there = min(size, len(self._held))
        data[:there], self._held = self._held[:there], self._held[there:]
        while there < size:
            there += self._fill(memoryview(data)[there:], deadline)
        return header, bytes(data)

    def _fill(self, room: memoryview, deadline: float) -> int:
        """Bytes that came into `room`, one or more."""
        try:
            self._end.settimeout(max(0.001, deadline - time.monotonic()))
            count = self._end.recv_into(room)
        except OSError as error:
            raise Broken(f"the run did not answer in time ({error})") from error
        finally:
            self._end.settimeout(self._timeout)
        if not count:
            raise Broken("the run ended before it had answered")
        return count
