"""Writes checkpoints to /tmp and /dev/shm until it is refused, 1,200 MB each at most, and removes them (L2, D3)."""

from pathlib import Path

import spy
import tiny

EXPECT = "contained"


def fill(folder):
    path = Path(folder) / f"{spy.MARK}-checkpoints"
    try:
        with path.open("wb", buffering=0) as file:
            return all(file.write(bytes(2**24)) == 2**24 for _ in range(75))
    finally:
        path.unlink(missing_ok=True)


spy.attempt(spy.each, fill, ["/tmp", "/dev/shm"])
tiny.main()
