"""Files that are there whole or not at all, and folders that go whatever is in them."""

from __future__ import annotations

import glob
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and move it over `path`, both synced, when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}.{os.getpid()}.tmp")
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


def remove_tree(path: Path) -> None:
    """Remove a folder that anybody may have filled: of any depth and any modes; a link goes, not what it points to.

    Never raises; what cannot be removed stays. Folders are moved up into `path` before they are emptied, so that
    neither Python's stack, nor a path's length, nor the number of open files bounds the depth.
    """
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        path.chmod(0o700)
    with suppress(OSError), _opened(path) as top:
        waiting = _flatten(top, top)
        while waiting:
            name = waiting.pop()
            with suppress(OSError):
                with _opened(name, top) as folder:
                    waiting += _flatten(folder, top)
                os.rmdir(name, dir_fd=top)
    with suppress(OSError):
        path.rmdir()


@contextmanager
def _opened(name: str | Path, within: int | None = None) -> Iterator[int]:
    """A folder's descriptor. Raises OSError, for a link too."""
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield folder
    finally:
        os.close(folder)


def _flatten(folder: int, top: int) -> list[str]:
    """Remove a folder's files and move its folders to `top`: their names there."""
    moved = []
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        with suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            with suppress(OSError):  # another user's, that we may move all the same
                os.chmod(entry.name, 0o700, dir_fd=folder)
            name = uuid.uuid4().hex
            os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
            moved.append(name)
    return moved


def size_mb(folder: Path) -> float:
    """Of all files in a folder, in MB; 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
