"""Nothing of a run outlives it, its keeper or the harness."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from research_loop.runners import local
from research_loop.runners.local import LocalRunner
from research_loop.runners.remains import LAB_MARKER, end_keeper, sweep
from runs import DAEMONS, finish, first_line, harness, linux, make_job, marked, run, until


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    made = LocalRunner()
    yield made
    made.close()


@pytest.fixture
def lab_token() -> Iterator[str]:
    """A lab's token; what a failed test left alive ends with the test."""
    token = uuid.uuid4().hex
    yield token
    for pid in marked(token):
        os.kill(pid, signal.SIGKILL)


def test_stop_kills_at_once_and_is_no_crash(tmp_path: Path, runner: LocalRunner, lab_token: str) -> None:
    runner.start(make_job(tmp_path, DAEMONS + "time.sleep(60)", **{LAB_MARKER: lab_token}))
    assert until(lambda: not runner.wait(0.05) and "out" in (tmp_path / "run.log").read_text())
    began = time.monotonic()
    runner.stop()
    result = finish(runner)
    assert result.outcome == "stopped" and result.reason == "" and time.monotonic() - began < 1.0
    assert marked(lab_token) == []


def test_a_run_that_has_ended_is_not_called_stopped(tmp_path: Path, runner: LocalRunner) -> None:
    started = runner.start(make_job(tmp_path, "import time; time.sleep(0.5); print('val_bpb: 1.5')"))
    keeper = psutil.Process(started.keeper_pid)
    assert until(lambda: len(keeper.children()) == 1)
    keeper.suspend()  # so that it finds the end and our request together
    assert until(lambda: keeper.children()[0].status() == psutil.STATUS_ZOMBIE)
    runner.stop()
    keeper.resume()
    assert finish(runner).outcome == "scored"


@linux
def test_daemons_that_outlive_their_run_are_gone_with_it(tmp_path: Path, runner: LocalRunner, lab_token: str) -> None:
    result = run(runner, make_job(tmp_path, DAEMONS + "print('val_bpb: 1.5')", **{LAB_MARKER: lab_token}))
    assert result.outcome == "scored" and result.seconds < 5
    assert marked(lab_token) == []


@linux
def test_a_daemon_without_marker_is_gone_too(tmp_path: Path, runner: LocalRunner) -> None:
    code = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open("pid", "w").write(str(os.getpid()))
                os.execve("/bin/sleep", ["sleep", "60"], {})
            os._exit(0)
        os.wait()
        while not os.path.exists("pid") or not open("pid").read():
            time.sleep(0.01)
    """
    run(runner, make_job(tmp_path, code))
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@linux
def test_fifty_children_that_fork_on_are_gone(tmp_path: Path, runner: LocalRunner, lab_token: str) -> None:
    code = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for i in range(50):
            if os.fork() == 0:
                os.setsid()
                if i >= 2:
                    time.sleep(60)
                while True:  # never the same pid for long
                    if os.fork():
                        os._exit(0)
                    os.setsid()
        print("forked", flush=True)
        time.sleep(60)
    """
    result = run(runner, make_job(tmp_path, code, limit=1.0, **{LAB_MARKER: lab_token}))
    assert result.reason == "timeout" and result.seconds < 4
    assert marked(lab_token) == []


@linux
def test_a_killed_keeper_takes_its_run_along(tmp_path: Path, runner: LocalRunner, lab_token: str) -> None:
    started = runner.start(make_job(tmp_path, DAEMONS + "time.sleep(60)", **{LAB_MARKER: lab_token}))
    assert until(lambda: not runner.wait(0.05) and len(marked(lab_token)) == 7)
    os.kill(started.keeper_pid, signal.SIGKILL)
    began = time.monotonic()
    result = finish(runner)
    assert (result.outcome, result.reason) == ("crash", "signal") and "keeper" in result.detail
    assert marked(lab_token) == [] and time.monotonic() - began < 2.0
    assert result.log_tail == "daemons are out"


@linux
def test_a_keeper_that_its_run_has_stopped_is_ended_for_it(
    tmp_path: Path, runner: LocalRunner, lab_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "OVERDUE_SECONDS", 0.5)
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)"
    result = run(runner, make_job(tmp_path, code, limit=0.5, **{LAB_MARKER: lab_token}))
    assert result.reason == "timeout" and result.seconds < 5 and marked(lab_token) == []


def test_a_terminated_keeper_ends_its_run_in_order(tmp_path: Path, runner: LocalRunner) -> None:
    started = runner.start(make_job(tmp_path, "print('up', flush=True); import time; time.sleep(60)"))
    assert until(lambda: not runner.wait(0.05) and "up" in (tmp_path / "run.log").read_text())
    os.kill(started.keeper_pid, signal.SIGTERM)
    assert finish(runner).outcome == "stopped"


@linux
def test_nothing_is_left_two_seconds_after_a_kill_of_the_harness(tmp_path: Path, lab_token: str) -> None:
    with harness(make_job(tmp_path, DAEMONS + "time.sleep(60)", **{LAB_MARKER: lab_token})) as process:
        first_line(process)
        assert until(lambda: len(marked(lab_token)) == 7), "keeper, main process and five daemons"
        process.kill()
    assert until(lambda: marked(lab_token) == [], 2.0)


@linux
def test_what_survives_harness_and_keeper_is_swept_at_the_next_start(tmp_path: Path, lab_token: str) -> None:
    with harness(make_job(tmp_path, DAEMONS + "time.sleep(60)", **{LAB_MARKER: lab_token})) as process:
        pid, _ = first_line(process)
        assert until(lambda: len(marked(lab_token)) == 7)
        os.kill(process.pid, signal.SIGSTOP)  # it must not clean up in between
        os.kill(int(pid), signal.SIGKILL)
        process.kill()
    assert until(lambda: len(marked(lab_token)) == 5), "the main process dies with its keeper, daemons do not"
    assert sweep("another lab") == 0
    assert sweep(lab_token) == 5 and marked(lab_token) == []


def test_a_sweep_spares_the_caller_and_its_ancestors(tmp_path: Path, lab_token: str) -> None:
    code = f"from research_loop.runners.remains import sweep; print(sweep({lab_token!r}))"
    shell = f'sleep 60 & "{sys.executable}" -c "$CODE"; echo "exit $?"'
    environment = {**os.environ, LAB_MARKER: lab_token, "CODE": code}
    done = subprocess.run(["sh", "-c", shell], env=environment, stdout=subprocess.PIPE, text=True, timeout=20)
    assert done.stdout == "1\nexit 0\n"


@linux
def test_a_recorded_keeper_that_hangs_is_ended_with_its_run(tmp_path: Path, lab_token: str) -> None:
    with harness(make_job(tmp_path, DAEMONS + "time.sleep(60)", **{LAB_MARKER: lab_token})) as process:
        pid, create_time = first_line(process)
        assert until(lambda: len(marked(lab_token)) == 7)
        os.kill(int(pid), signal.SIGSTOP)
        process.kill()
    end_keeper(int(pid), create_time + 60, 0.1)
    with subprocess.Popen(["sleep", "60"]) as other:
        end_keeper(other.pid, psutil.Process(other.pid).create_time(), 0.1)
        assert other.poll() is None
        other.kill()
    assert len(marked(lab_token)) == 7, "not the keeper that was recorded, or no keeper at all"
    end_keeper(int(pid), create_time, 0.1)
    assert until(lambda: marked(lab_token) == [], 2.0)
    end_keeper(int(pid), create_time, 0.1)
