"""An experiment goes on when the command that asked for it has returned; another command waits for its verdict."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from research_loop.detached import begin_try, wait
from research_loop.errors import ConfigError, ProposalError
from research_loop.lab import Lab
from research_loop.lock import Lock, is_held, owner_pid
from runs import edit


def cli(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "research_loop", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_detached_experiment_returns_its_number_at_once_and_wait_its_verdict(begun_lab: Lab) -> None:
    edit(begun_lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25")
    began = cli("try", "-m", 'what "it" does: --why', "--why=because", "--detach", cwd=begun_lab.root)
    assert (began.returncode, began.stderr) == (0, "")
    assert began.stdout == f"experiment 1: begun; `research-loop wait 1 {begun_lab.root}` tells its verdict\n"
    early = cli("wait", 1, begun_lab.root, "--seconds", 0)
    assert early.returncode == 3 and early.stdout.startswith("experiment 1: no verdict yet")
    verdict = cli("wait", 1, begun_lab.root)
    assert verdict.returncode == 0 and verdict.stdout.startswith("experiment 1: discard: ")
    shown = cli("show", 1, begun_lab.root).stdout
    assert 'experiment 1: what "it" does: --why' in shown and "why: because" in shown
    assert "recorded as experiment 1" in (begun_lab.state / "logs" / "1.try.log").read_text()
    assert cli("wait", 1, begun_lab.root, "--seconds", 0).stdout == verdict.stdout, "and again, later"


def test_wait_returns_when_the_champions_code_is_back_in_place(begun_lab: Lab) -> None:
    """A loop of ours is as far as the verdict, and a busy machine keeps it from the files for a moment."""
    champions = (begun_lab.root / "train.py").read_bytes()
    edit(begun_lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25")
    tried = (begun_lab.root / "train.py").read_bytes()
    assert cli("try", "-m", "longer", begun_lab.root).returncode == 0
    assert (begun_lab.root / "train.py").read_bytes() == champions
    begun_lab.write({"train.py": tried})
    lock = Lock(begun_lab.state)
    lock.acquire()
    later = threading.Timer(0.7, begun_lab.write, [{"train.py": champions}])
    later.start()
    assert wait(begun_lab, 1, 10.0).verdict is not None
    assert (begun_lab.root / "train.py").read_bytes() == champions
    later.join()
    begun_lab.write({"train.py": tried})
    began = time.monotonic()
    assert wait(begun_lab, 1, 10.0).verdict is not None
    assert 2.0 < time.monotonic() - began < 8.0, "whoever wrote it again is not waited for"
    lock.release()


def test_what_cannot_be_tried_is_one_line_and_leaves_nothing(begun_lab: Lab) -> None:
    unchanged = cli("try", "-m", "nothing", begun_lab.root, "--detach")
    assert unchanged.returncode == 1 and unchanged.stderr.count("\n") == 1
    assert unchanged.stderr.startswith("research-loop: ") and "is the champion's code unchanged" in unchanged.stderr
    edit(begun_lab, "def score():", "def score(:")
    broken = cli("try", "-m", "a typing error", begun_lab.root, "--detach")
    assert broken.returncode == 1 and broken.stderr.count("\n") == 1 and "train.py" in broken.stderr
    assert not list(begun_lab.state.glob("try-*")) and "  1 " not in cli("status", begun_lab.root).stdout


def test_words_that_no_command_takes_are_refused_in_one_line(begun_lab: Lab) -> None:
    for words, fact in (("a\0b", "holds a NUL"), ("x" * 30_000, "30,000 characters")):
        with pytest.raises(ProposalError, match=fact):
            begin_try(begun_lab, words, "", "")
    assert not list(begun_lab.state.glob("try-*"))


def test_seconds_that_are_none_are_refused(begun_lab: Lab) -> None:
    for seconds in (math.nan, -1.0):
        with pytest.raises(ConfigError, match="give a number from 0 on"):
            wait(begun_lab, 0, seconds)


def test_another_process_with_the_pid_of_a_loop_that_ended_is_not_taken_for_it(begun_lab: Lab) -> None:
    owner, born = begun_lab.state / "owner.json", psutil.Process().create_time()
    owner.write_text(json.dumps({"pid": os.getpid(), "create_time": 1.0}))
    other = is_held(begun_lab.state)
    owner.write_text(json.dumps({"pid": os.getpid(), "create_time": born}))
    ours = is_held(begun_lab.state)
    owner.unlink()
    assert (other, ours, is_held(begun_lab.state)) == (False, True, False)


def test_no_module_of_the_labs_folder_is_taken_for_one_of_ours(begun_lab: Lab) -> None:
    (begun_lab.root / "psutil.py").write_text("raise SystemExit('taken in')")
    edit(begun_lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25")
    command = [sys.executable, "-P", "-m", "research_loop", "try", "-m", "one", "--detach"]
    done = subprocess.run(command, cwd=begun_lab.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_second_one_is_refused_while_the_first_runs_and_the_first_goes_on(begun_lab: Lab) -> None:
    edit(begun_lab, "SECONDS = 1.0", "SECONDS = 4.0")  # the second command takes a while to start
    assert cli("try", "-m", "one", begun_lab.root, "--detach").returncode == 0
    second = cli("try", "-m", "two", begun_lab.root, "--detach")
    assert second.returncode == 1 and "another loop holds this lab" in second.stderr and second.stderr.count("\n") == 1
    assert cli("wait", 1, begun_lab.root).returncode == 0


def test_where_the_loop_was_killed_wait_says_so_and_how_it_goes_on(begun_lab: Lab) -> None:
    edit(begun_lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25")
    assert cli("try", "-m", "one", begun_lab.root, "--detach").returncode == 0
    pid = owner_pid(begun_lab.state)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    for seconds in (0, 45):
        lost = cli("wait", 1, begun_lab.root, "--seconds", seconds)
        assert lost.returncode == 1 and "--experiments 0` goes on with it" in lost.stderr
    assert cli("run", begun_lab.root, "--experiments", 0).returncode == 0
    assert cli("wait", 1, begun_lab.root).returncode == 0
    assert "there is none" in cli("wait", 99, begun_lab.root).stderr
