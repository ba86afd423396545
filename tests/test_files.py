"""Files that are there whole or not at all, and what a kill in between leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from research_loop.files import remove_leftovers, write_whole


def pid_of_the_dead() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_beside_a_file_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "train[1].py"
    dead, alive = tmp_path / f".train[1].py.{pid_of_the_dead()}.tmp", tmp_path / f".train[1].py.{os.getppid()}.tmp"
    own, users = tmp_path / f".train[1].py.{os.getpid()}.tmp", tmp_path / ".train[1].py.mine.tmp"
    other = tmp_path / f".prepare.py.{pid_of_the_dead()}.tmp"
    for left in (dead, alive, own, users, other):
        left.touch()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, users, other])


def test_leftovers_are_looked_for_where_a_link_points(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "train.py").symlink_to(tmp_path / "real" / "train.py")
    left = tmp_path / "real" / f".train.py.{pid_of_the_dead()}.tmp"
    left.touch()
    remove_leftovers(tmp_path / "train.py")
    assert not left.exists()
