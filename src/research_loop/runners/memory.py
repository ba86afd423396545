"""The memory of this machine, or of the container when that is less, and whose it is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""A container's, in bytes: cgroup v2 and v1."""
MEMORY_BOUND = 0.9
"""Share of the memory that a run may hold before it is ended: at the end of it the kernel kills whom it likes."""
SCARCE, UNSEEN = 0.1, 0.1
"""Shares of the memory: so little left, and so much more in files of memory (tmpfs, memfd), end a run."""
USED = (("anon", "shmem"), ("total_rss", "total_shmem"))
"""What a container's processes hold and its files of memory, in its memory.stat: cgroup v2 and v1."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In MB: all of it, what is left, and what is in files of memory, which need not be any process's own."""

    total: float
    left: float
    files: float

    def ends(self, held: float, start: Memory) -> bool:
        """Whether the run ends that holds `held` MB, by its processes, and began at `start`.

        With little left, files in memory that grew by much count as the run's, if with them it took most of what went.
        """
        if held > MEMORY_BOUND * self.total:
            return True
        unseen = self.files - start.files
        took_most = held + unseen > (start.left - self.left) / 2
        return self.left < SCARCE * self.total and unseen > UNSEEN * self.total and took_most


def total_mb() -> float:
    """Memory of this machine, or of the container when that is less."""
    total = float(psutil.virtual_memory().total)
    for limit in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such cgroup, or its limit is the word "max"
            total = min(total, float(int(limit.read_text())))
    return total / 2**20


def look() -> Memory:
    """What there is now."""
    machine, total = psutil.virtual_memory(), total_mb()
    left, files = machine.available / 2**20, getattr(machine, "shared", 0) / 2**20
    if total < machine.total / 2**20:
        held, files = next(filter(None, map(_container, MEMORY_LIMITS)), (0.0, 0.0))
        left = min(left, total - held - files)
    return Memory(total, left, files)


def _container(limit: Path) -> tuple[float, float] | None:
    """What a container's processes hold, and its files of memory, in MB; its caches are given up when need be."""
    with contextlib.suppress(OSError, ValueError):
        said = dict(line.split() for line in limit.with_name("memory.stat").read_text().splitlines())
        for held, files in USED:
            if held in said and files in said:
                return int(said[held]) / 2**20, int(said[files]) / 2**20
    return None
