"""What a killed keeper or harness left of a run: found by the marks that all its processes carry, and ended.

Every process of a run carries RESEARCH_LOOP_RUN=<token> in its environment, and RESEARCH_LOOP_LAB=<token> where the
loop sets it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

RUN_MARKER = "RESEARCH_LOOP_RUN"
LAB_MARKER = "RESEARCH_LOOP_LAB"
KEEPER = Path(__file__).with_name("keeper.py")


def carries(pid: int, marker: str, value: str) -> bool:
    """Whether a living process of which this user may know has the mark in its environment."""
    with contextlib.suppress(psutil.Error, OSError):
        return bool(psutil.Process(pid).environ().get(marker) == value)
    return False


def sweep(lab_token: str) -> int:
    """Kill all processes of this user that carry RESEARCH_LOOP_LAB=<lab_token>: what a killed harness left.

    Returns how many. The calling process and its ancestors are spared.
    """
    ancestors = {process.pid for process in psutil.Process().parents()}
    return kill_marked(LAB_MARKER, lab_token, spare={os.getpid(), *ancestors})


def end_keeper(pid: int, create_time: float, patience_seconds: float = 5.0) -> None:
    """Wait for a recorded keeper that is still cleaning up; then kill it with its descendants.

    Does nothing when the keeper is gone, or when its pid belongs to another process by now.
    """
    try:
        keeper = psutil.Process(pid)
        # the boot time behind a create time moves by a second when the machine's clock is set
        if abs(keeper.create_time() - create_time) > 2.0 or str(KEEPER) not in keeper.cmdline():
            return
        keeper.wait(patience_seconds)
    except psutil.TimeoutExpired:
        _kill_tree(keeper)
    except psutil.Error:  # gone, or a zombie that its parent has yet to collect
        return


def kill_marked(marker: str, value: str, spare: set[int], patience_seconds: float = 5.0) -> int:
    """Kill until no process with the marker lives (a fork may slip past one round); how many there were."""
    killed: set[int] = set()
    deadline = time.monotonic() + patience_seconds
    while found := [process for process in _marked(marker, value) if process.pid not in spare]:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                killed.add(process.pid)
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    return len(killed)


def _marked(marker: str, value: str) -> list[psutil.Process]:
    """Living processes of this user with the marker in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.uids().real == os.getuid() and process.environ().get(marker) == value:
                found.append(process)
    return found


def _kill_tree(keeper: psutil.Process, patience_seconds: float = 5.0) -> None:
    """Kill descendants first: as long as the keeper is there, their orphans still become its children."""
    deadline = time.monotonic() + patience_seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while time.monotonic() < deadline:
            living = [child for child in keeper.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
            for child in living:
                child.kill()
            if not living:
                break
            time.sleep(0.002)
    with contextlib.suppress(psutil.NoSuchProcess):
        keeper.kill()
