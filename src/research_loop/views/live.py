"""live.json: what the loop is doing right now, for `status` and other processes that look on."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from research_loop.records import Experiment, History, Progress, Run
from research_loop.views import Quiet

FILE = "live.json"


@dataclass(frozen=True, slots=True)
class Live:
    """The run in flight, as of `at` (seconds since 1970); pid and create time name the loop's process."""

    pid: int
    create_time: float
    at: float
    n: int
    what: str
    seconds: float
    budget_seconds: float
    share: float | None = None
    loss: float | None = None


class LiveFile(Quiet):
    """Writes live.json about once a second; it is a courtesy and not synced to disk."""

    def __init__(self, state: Path, budget_seconds: float) -> None:
        self._path, self._budget = state / FILE, budget_seconds
        self._what: dict[int, str] = {}
        self._written_at = 0.0
        self._process = (os.getpid(), psutil.Process().create_time())

    def started(self, experiment: Experiment, run: Run) -> None:
        self._what[experiment.n] = experiment.what
        self._write(Progress(experiment.n, run.k, 0.0))

    def progressed(self, progress: Progress) -> None:
        if time.monotonic() - self._written_at >= 1.0:
            self._write(progress)

    def decided(self, experiment: Experiment, history: History) -> None:
        self._what.pop(experiment.n, None)
        self._path.unlink(missing_ok=True)

    def closed(self) -> None:
        self._path.unlink(missing_ok=True)

    def _write(self, progress: Progress) -> None:
        self._written_at = time.monotonic()
        loop = (*self._process, time.time())
        what = self._what.get(progress.n, "")
        run = (progress.n, what, progress.seconds, self._budget, progress.share, progress.loss)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps([*loop, *run]))
        part.replace(self._path)


def read_live(state: Path) -> Live | None:
    """The run in flight; None when nothing runs or the loop that wrote it is gone."""
    try:
        live = Live(*json.loads((state / FILE).read_text()))
        return live if abs(psutil.Process(live.pid).create_time() - live.create_time) < 2 else None
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
