"""Signals of a running loop, as flags that the session heeds."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from research_loop.session import Session


class Signals:
    """Ctrl-C finishes the experiment in flight, a second one ends it; SIGTERM and a closed terminal end it at once.

    The handler only sets flags: the loop may be in the middle of a print or of a spawn.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup says: stay
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._session.halted = self._session.stopping or number != signal.SIGINT
        self._session.stopping = True
