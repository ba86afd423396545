"""Messages between the harness and a run: a line of JSON, and as many raw bytes as it says.

The other end is `answer_harness` in the lab's prepare.py, in a process that nobody vouches for.
"""

from __future__ import annotations

import json
import socket
from typing import Any

LONGEST_HEADER = 4096


class Broken(Exception):
    """The run ended, stalled or said something else than the protocol."""


class Channel:
    """The harness's end of a stream socket."""

    def __init__(self, end: socket.socket, timeout_seconds: float) -> None:
        end.settimeout(timeout_seconds)
        self._end, self._held = end, b""

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            self._end.sendall(json.dumps({**header, "bytes": len(payload)}).encode() + b"\n" + payload)
        except OSError as error:
            raise Broken(f"the run stopped listening ({error})") from error

    def receive(self, most_bytes: int = 0) -> tuple[dict[str, Any], bytes]:
        """The next message; Broken when it is none, or holds more than `most_bytes`."""
        while b"\n" not in self._held:
            if len(self._held) > LONGEST_HEADER:
                raise Broken("the run sent something else than an answer")
            self._held += self._some()
        line, self._held = self._held.split(b"\n", 1)
        try:
            header = json.loads(line)
            size = int(header.get("bytes", 0))
        except (ValueError, AttributeError, TypeError, RecursionError, OverflowError) as error:
            raise Broken("the run sent something else than an answer") from error
        if not 0 <= size <= most_bytes:
            raise Broken(f"the run sent {size} bytes where {most_bytes} at most were asked for")
        parts, missing = [self._held[:size]], size - len(self._held[:size])
        self._held = self._held[size:]
        while missing:
            parts.append(self._some(missing))
            missing -= len(parts[-1])
        return header, b"".join(parts)

    def _some(self, most: int = 65536) -> bytes:
        try:
            data = self._end.recv(min(most, 2**20))
        except OSError as error:
            raise Broken(f"the run did not answer in time ({error})") from error
        if not data:
            raise Broken("the run ended before it had answered")
        return data
