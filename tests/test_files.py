"""Files that are there whole or not at all, what a kill in between leaves, and folders that go whatever is in them."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from research_loop.files import remove_leftovers, remove_tree, write_whole
from research_loop.jobs import JobMaker
from research_loop.lab import Lab, repository_of


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


NOBODY = 65534


def nest(folder: Path, levels: int) -> None:
    """Folders in one another, far deeper than a path may be long, with a file at the bottom."""
    folder.mkdir(parents=True)
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def as_an_ordinary_user(work: Callable[[], None]) -> None:
    """Root is asked for no right: in its place a child does the work that gave itself up."""
    if os.getuid() != 0:
        work()
        return
    child = os.fork()
    if child == 0:
        worked = 1
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            worked = 0
        os._exit(worked)
    assert os.waitpid(child, 0)[1] == 0


def test_folders_of_any_depth_are_removed_with_few_open_files(tmp_path: Path) -> None:
    nest(tmp_path / "run", 3000)
    (tmp_path / "run" / "deep" / "beside").mkdir()
    gc.collect()  # what earlier tests left open may be closed at any time
    before = psutil.Process().num_fds()
    remove_tree(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert psutil.Process().num_fds() <= before


def test_a_folder_that_says_nobody_may_enter_is_removed_with_what_is_in_it() -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        run = Path(place, "run")

        def work() -> None:
            (run / "closed" / "within").mkdir(parents=True)
            (run / "closed" / "file").touch()
            for folder, mode in ((run / "closed" / "within", 0), (run / "closed", 0), (run, 0o500)):
                folder.chmod(mode)
            with pytest.raises(PermissionError):
                shutil.rmtree(run)
            remove_tree(run)

        as_an_ordinary_user(work)
        assert list(Path(place).iterdir()) == []


def test_a_link_is_removed_and_what_it_points_to_stays_as_it_is(tmp_path: Path) -> None:
    home, run = tmp_path / "home", tmp_path / "run"
    (home / "keys").mkdir(parents=True)
    (home / "keys").chmod(0o500)
    (home / "keys" / "id").touch()
    (run / "sub").mkdir(parents=True)
    (run / "sub" / "out").symlink_to(home)
    (run / "keys").symlink_to(home / "keys")
    (tmp_path / "other").symlink_to(home)
    remove_tree(run)
    remove_tree(tmp_path / "other")
    remove_tree(tmp_path / "was never there")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["home", "id", "keys"]
    assert (home / "keys").stat().st_mode & 0o777 == 0o500


def test_what_cannot_be_removed_stays_and_stops_nothing() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make what an ordinary user cannot remove")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        (Path(place) / "file").touch()
        as_an_ordinary_user(lambda: remove_tree(Path(place)))
        assert (Path(place) / "file").exists()


def test_what_a_run_left_in_its_folder_does_not_stop_the_lab(lab: Lab) -> None:
    nest(lab.state / "runs" / "0.0.scratch", 3000)
    JobMaker(lab, repository_of(lab), "mark", 0, print).clear()
    assert list((lab.state / "runs").iterdir()) == []
