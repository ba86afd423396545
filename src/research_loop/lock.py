"""One loop a lab: a lock that the operating system drops when its holder ends, however it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from research_loop.errors import LockedError


class Lock:
    """The lab's lock; beside it a file says who holds it."""

    def __init__(self, state: Path) -> None:
        self._lock = FileLock(state / "lock")
        self._owner = state / "owner.json"

    def acquire(self) -> None:
        """Raises LockedError with the holder's pid when another loop runs in this lab."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            who = owner_pid(self._owner.parent)
            raise LockedError(
                f"{self._owner.parent.parent}: another loop holds this lab (pid {who or 'unknown'}): "
                f"wait for it, or stop it with `kill -INT {who or 'PID'}`"
            ) from error
        self._owner.write_text(json.dumps({"pid": os.getpid(), "create_time": psutil.Process().create_time()}))

    def release(self) -> None:
        self._owner.unlink(missing_ok=True)
        self._lock.release()


def is_held(state: Path) -> bool:
    """Whether a loop that lives holds the lab; pids are given out again, so its birth counts, too."""
    try:
        written = json.loads((state / "owner.json").read_text())
        owner = psutil.Process(int(written["pid"]))
        return owner.create_time() == written["create_time"] and owner.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return False


def owner_pid(state: Path) -> int | None:
    """Pid of the loop that holds the lab, as it wrote it down; None when nobody did."""
    try:
        return int(json.loads((state / "owner.json").read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
