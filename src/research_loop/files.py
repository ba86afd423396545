"""Files that are there whole or not at all."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and move it over `path`, both synced, when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # the name that somebody knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(place: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk. Raises OSError."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file (what a link points to) in one step, keeping its mode. Raises OSError, and leaves the old one."""
    path = path.resolve()
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        if path.exists():
            temporary.chmod(path.stat().st_mode)


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process left beside `path` while it replaced it; a living one's is its own to remove."""
    path = path.resolve()
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        pid = left.name.split(".")[-2]
        if pid.isdigit() and (int(pid) == os.getpid() or not _lives(int(pid))):
            left.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
