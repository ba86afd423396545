"""A small file system that is filled while a loop is at work on it, and freed again."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from research_loop.lab import Lab
from research_loop.testing.harness import Ended, run_harness
from research_loop.testing.points import Scene, Tried, try_point

SIZE_MB = 120
"""Little more than a loop wants to see free before it starts an experiment."""
PAGE = 4096


def missing() -> str:
    """Why there can be no small disk here; "" when there can."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    with tempfile.TemporaryDirectory() as place:
        done = _mount(Path(place))
        if done.returncode == 0:
            _unmount(Path(place))
    return done.stderr.strip()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own at `folder`, in memory. Raises OSError where it cannot be mounted."""
    folder.mkdir()
    done = _mount(folder)
    if done.returncode:
        raise OSError(f"{folder}: cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        _unmount(folder)
        folder.rmdir()


def _mount(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Takes every page that is free, down to the last."""
    with ballast.open("ab", buffering=0) as file:
        size = 2**20
        while size >= PAGE:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def try_moment(scene: Scene, seconds: float, folder: Path) -> Tried:
    """Fills the disk `seconds` after a loop began and keeps it full until that ends; then frees it and starts again."""
    with small_disk(folder) as disk:

        def disturbed(lab: Lab) -> Ended:
            over = threading.Event()
            keeper = threading.Thread(target=_keep_full, args=(disk / "ballast", seconds, over))
            keeper.start()
            try:
                return run_harness(scene.command(lab))
            finally:
                over.set()
                keeper.join()
                (disk / "ballast").unlink(missing_ok=True)

        return try_point(scene, f"full after {seconds:.2f} s", disk / "lab", disturbed)


def _keep_full(ballast: Path, seconds: float, over: threading.Event) -> None:
    """Whatever the loop frees is taken as well."""
    time.sleep(seconds)
    while not over.is_set():
        fill(ballast)
        over.wait(0.001)
