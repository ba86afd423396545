"""live.json: the runs in flight, for `status` and other processes that look on."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from research_loop.records import Experiment, Run
from research_loop.tasks import Progress
from research_loop.views import Quiet

FILE = "live.json"


@dataclass(frozen=True, slots=True)
class Live:
    """A run in flight, as of `at` (seconds since 1970); pid and create time name the loop's process."""

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
        self._running: dict[int, tuple[str, Progress]] = {}
        self._written_at = 0.0
        self._process = (os.getpid(), psutil.Process().create_time())

    def started(self, experiment: Experiment, run: Run) -> None:
        self._running[experiment.n] = experiment.what, Progress(experiment.n, run.k, 0.0)
        self._write()

    def progressed(self, progress: Progress) -> None:
        what, _ = self._running.get(progress.n, ("", None))  # an audit's was not told of before
        self._running[progress.n] = what, progress
        if time.monotonic() - self._written_at >= 1.0:
            self._write()

    def ended(self, experiment: Experiment) -> None:
        self._running.pop(experiment.n, None)
        self._write()

    def closed(self) -> None:
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        self._written_at = time.monotonic()
        if not self._running:
            self._path.unlink(missing_ok=True)
            return
        loop = (*self._process, time.time())
        runs = [(n, what, p.seconds, self._budget, p.share, p.loss) for n, (what, p) in self._running.items()]
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps([[*loop, *run] for run in runs]))
        part.replace(self._path)


def read_live(state: Path) -> list[Live]:
    """The runs in flight; none when the loop that wrote them is gone."""
    try:
        runs = [Live(*run) for run in json.loads((state / FILE).read_text())]
        return [run for run in runs if abs(psutil.Process(run.pid).create_time() - run.create_time) < 2]
    except (OSError, ValueError, TypeError, psutil.Error):
        return []
