"""Experiments that outlive the command that asked for them: an agent's shell ends a call after a minute or two."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from research_loop.errors import LabError
from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.lock import owner_pid
from research_loop.records import Experiment

RECORDED = "recorded as experiment {n}"
"""What `try` says once nothing can be lost any more."""
LOOKS_A_SECOND = 10


def begin_try(lab: Lab, what: str, why: str, risk: str, *, again: bool = False, unsafe: bool = False) -> int:
    """Starts `research-loop try` on the lab's own files in a session of its own; its experiment's number.

    Returns as soon as that is in the ledger. Raises LabError with the command's own line when it ended before. What it
    says goes on in logs/N.try.log.
    """
    options = [*(["--again"] if again else []), *(["--unsafe"] if unsafe else [])]
    return _begin(lab.state, [f"--what={what}", f"--why={why}", f"--risk={risk}", *options, "--", str(lab.root)])


def _begin(state: Path, arguments: Sequence[str]) -> int:
    state.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=state, prefix="try-", suffix=".log", delete=False) as log:
        command = [sys.executable, "-m", "research_loop", "try", *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    said = Path(log.name)
    pattern = re.compile("^" + RECORDED.format(n=r"(\d+)") + "$", re.MULTILINE)
    while True:
        ended = process.poll() is not None  # asked first: what it said before its end is all there then
        text = said.read_text(errors="replace")
        if found := pattern.search(text):
            (state / "logs").mkdir(exist_ok=True)
            said.rename(state / "logs" / f"{found[1]}.try.log")
            return int(found[1])
        if ended:
            said.unlink()
            raise LabError(text.strip().rpartition("\n")[2].removeprefix("research-loop: ") or "it said nothing")
        time.sleep(1 / LOOKS_A_SECOND)


def wait(lab: Lab, n: int, seconds: float) -> Experiment:
    """Experiment `n`, as soon as it has a verdict, or as it is after so many seconds.

    Raises LabError where no loop is there to decide it, and LedgerError where there is no such experiment or ledger.
    """
    until = time.monotonic() + seconds
    while True:
        alive = _holder(lab.state)  # asked first: it may decide and end in between
        reader = Ledger(lab.ledger_path, read_only=True)
        try:
            experiment = reader.experiment(n)
        finally:
            reader.close()
        if experiment.verdict or time.monotonic() >= until:
            return experiment
        if not alive:
            raise LabError(f"experiment {n}: has no verdict, and nothing runs it: `research-loop run` goes on with it")
        time.sleep(min(1 / LOOKS_A_SECOND, max(0.0, until - time.monotonic())))


def _holder(state: Path) -> bool:
    """Whether some loop holds this lab."""
    pid = owner_pid(state)
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
