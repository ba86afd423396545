"""What keeps a run from its work that is not its own doing: other programs on its cores, and a GPU that is held back.

A time budget turns either into a worse score. On Linux the kernel counts for every thread how long it ran and how long
it was ready to run and waited (Documentation/scheduler/sched-stats.rst). Of that only as much counts as others used of
the machine: a run with more threads than cores waits for itself, and could have itself run again by it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from research_loop.gpus import Brakes

NANOSECONDS = 1e9


class Strain:
    """Of one run, from the first sample on; take one about every second."""

    def __init__(self, gpu: int | None) -> None:
        self._brakes = Brakes(gpu) if gpu is not None else None
        self._braked: list[bool] = []
        self._threads: dict[str, tuple[float, float]] = {}
        self._began: tuple[float, float, float, float] | None = None
        self._now = (0.0, 0.0, 0.0, 0.0)

    def sample(self, pids: Iterable[int]) -> None:
        """`pids` are the run's processes."""
        for pid in pids:
            self._threads.update(_threads(pid))
        ran, waited = (sum(times[i] for times in self._threads.values()) for i in (0, 1))
        if (machine := _machine()) is not None:
            self._now = (ran, waited, *machine)
            self._began = self._began or self._now
        if self._brakes is not None and (on := self._brakes.on()) is not None:
            self._braked.append(on)

    @property
    def waited_share(self) -> float | None:
        """Of the time that its threads ran or wanted to, what other programs or the machine's host took; None where
        that cannot be measured."""
        if self._began is None or self._began is self._now or not self._threads:
            return None  # nothing lies between two samples
        ran, waited, busy, stolen = (now - began for now, began in zip(self._now, self._began, strict=True))
        others = max(0.0, busy - ran) / max(busy, ran, 1e-9)
        return max(min(waited / max(ran + waited, 1e-9), others), stolen / max(busy + stolen, 1e-9))

    @property
    def braked_share(self) -> float | None:
        """Of the samples, those at which heat or the power supply held the GPU back; None without such a GPU."""
        return sum(self._braked) / len(self._braked) if self._braked else None


def _threads(pid: int) -> dict[str, tuple[float, float]]:
    """Seconds that each thread of a process ran and waited; empty where it has ended, or on another system."""
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            ran, waited, _ = (task / "schedstat").read_text().split()
            found[f"{pid}/{task.name}"] = int(ran) / NANOSECONDS, int(waited) / NANOSECONDS
    return found


def _machine() -> tuple[float, float] | None:
    """Seconds since it started that the cores which we may use were busy, in sum, and that the machine's host took;
    None where the system does not say.

    Without the harness's own: what a run prints keeps that busy.
    """
    try:
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.split()[0] in cores]
    except (OSError, AttributeError, IndexError):
        return None
    if len(lines) < len(cores) or any(len(line) < 9 for line in lines):
        return None  # a container's own idea of the file
    busy = sum(int(line[i]) for line in lines for i in (1, 2, 3, 6, 7))  # user, nice, system, interrupts hard and soft
    ticks = os.sysconf("SC_CLK_TCK")
    return busy / ticks - time.process_time(), sum(int(line[8]) for line in lines) / ticks
