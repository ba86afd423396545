"""Runs as real process trees: how they end and what is measured."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from research_loop.errors import RunError
from research_loop.records import Result
from research_loop.runners import memory
from research_loop.runners.local import LocalRunner
from research_loop.runners.memory import Memory
from research_loop.runners.remains import RUN_MARKER
from research_loop.tasks import Job, Progress
from runs import finish, first_line, harness, linux, make_job, run


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    made = LocalRunner()
    yield made
    made.close()


def test_a_good_run_is_scored(tmp_path: Path, runner: LocalRunner) -> None:
    code = """
        import time
        print("step 00000 (0.0%) | loss: 9.000000 | x", flush=True)
        time.sleep(0.1)
        print("step 00001 (50.0%) | loss: 4.000000 | x", flush=True)
        print("---\\nval_bpb:          0.997900\\ntraining_seconds: 0.1\\npeak_vram_mb:     45060.2\\ndepth: 8")
    """
    job = make_job(tmp_path, code)
    started = runner.start(job)
    assert psutil.Process(started.keeper_pid).create_time() == started.keeper_create_time
    assert os.getsid(started.keeper_pid) == started.keeper_pid, "Ctrl-C on our terminal is not for it"
    [(same_job, result)] = runner.wait(20.0)
    assert same_job is job and runner.running == 0
    assert (result.outcome, result.reason, result.detail, result.exit_code) == ("scored", "", "", 0)
    assert result.score is not None and result.score.value == 0.9979 and result.score.verified == "unverified"
    assert result.peak_vram_mb == 45060.2 and result.training_seconds == 0.1 and result.summary["depth"] == 8
    assert [point.loss for point in result.curve] == [9.0, 4.0]
    assert result.startup_seconds is not None and 0 < result.startup_seconds < result.seconds - 0.09
    assert result.peak_ram_mb is not None and 3 < result.peak_ram_mb < 60 and result.machine
    assert result.log_tail.splitlines()[-1] == "depth: 8"
    assert job.log.read_text().splitlines()[-1] == "depth: 8"


def test_a_run_whose_loss_stays_nan_is_ended(tmp_path: Path, runner: LocalRunner) -> None:
    code = """
        import time
        for step in range(10_000):
            loss = "inf" if step < 4 else "4.0" if step == 4 else "nan"
            print(f"step {step:05d} ({step / 100:.2f}%) | loss: {loss} | x", flush=True)
            time.sleep(0.9 if step < 5 else 0.05)
    """
    runner.start(make_job(tmp_path, code))
    result = finish(runner)
    assert (result.outcome, result.reason) == ("crash", "nan") and "stayed NaN" in result.detail
    assert 4.5 + 3 < result.seconds < 20 and len(result.curve) == 1


@pytest.mark.parametrize("share", ["10.0", "100.0"])
def test_one_loss_that_is_not_finite_ends_no_run(tmp_path: Path, runner: LocalRunner, share: str) -> None:
    code = f"""
        import time
        for step in range(4 if {share} < 100 else 40):
            print(f"step {{step:05d}} ({share}%) | loss: nan | x", flush=True)
        time.sleep(4.5)
        print("---\\nval_bpb:          0.9")
    """
    runner.start(make_job(tmp_path, code))
    assert finish(runner).outcome == "scored"


def test_progress_is_told_four_times_a_second_at_most(tmp_path: Path, runner: LocalRunner) -> None:
    code = """
        import time
        for i in range(120):
            print(f"\\rstep {i:05d} ({i / 1.2:.1f}%) | loss: {5 - i / 100:.6f} | lrm: 1.00    ", end="", flush=True)
            time.sleep(0.01)
    """
    told: list[Progress] = []
    runner.start(make_job(tmp_path, code))
    result = finish(runner, told.append)
    assert 3 <= len(told) <= 4 * result.seconds + 1
    assert (told[-1].n, told[-1].k) == (3, 1)
    assert told[-1].share is not None and told[-1].share > 0.5 and told[-1].line.startswith("step 0")
    losses = [progress.loss for progress in told if progress.loss is not None]
    assert losses == sorted(losses, reverse=True) and len(losses) >= 3
    assert len(result.curve) == 120


@pytest.mark.parametrize(
    ("code", "reason", "detail"),
    [
        ("import sys; print('FAIL: loss is nan'); sys.exit(1)", "nan", "FAIL: loss is nan"),
        ("print('val_bpb: nan')", "nan", "val_bpb is nan"),
        ("raise MemoryError('CUDA out of memory. Tried 2 GiB')", "oom", "MemoryError: CUDA out of memory"),
        ("import sys; print('step one'); sys.exit(3)", "exit", 'exit code 3; the run said "step one"'),
        ("{}['depth']", "exit", "exit code 1; the run said \"KeyError: 'depth'\""),
        ("import os; os.kill(os.getpid(), 11)", "signal", "killed by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", "signal", "killed by SIGKILL"),
        ("print('val_bpb: 1.5\\nval_bpb: 1.5')", "no-score", "more than once"),
        ("print('hello')", "no-score", "without a line 'val_bpb: VALUE'"),
        ("import os; os.close(1); os.close(2)", "no-score", "without a line"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe bad\\n'); sys.exit(4)", "exit", "\ufffd\ufffd bad"),
    ],
)
def test_crashes_are_told_apart(tmp_path: Path, runner: LocalRunner, code: str, reason: str, detail: str) -> None:
    result = run(runner, make_job(tmp_path, code))
    assert (result.outcome, result.reason) == ("crash", reason) and detail in result.detail
    assert result.score is None and "\n" not in result.detail


def test_a_command_that_does_not_exist_is_a_crash(tmp_path: Path, runner: LocalRunner) -> None:
    result = run(runner, dataclasses.replace(make_job(tmp_path, ""), command=("no-such-program", "--x")))
    assert (result.outcome, result.reason) == ("crash", "exit")
    assert result.detail == "could not start no-such-program: No such file or directory"


def test_a_run_that_cannot_be_set_up_is_an_error_and_leaks_nothing(tmp_path: Path, runner: LocalRunner) -> None:
    before = psutil.Process().num_fds()
    for broken in ({"folder": tmp_path / "missing"}, {"command": ("a\0b",)}):
        with pytest.raises(RunError, match=r"run 3\.1"):
            runner.start(dataclasses.replace(make_job(tmp_path, ""), **broken))
    assert runner.running == 0 and psutil.Process().num_fds() == before


def test_a_runner_refuses_more_than_its_slots_and_anything_once_closed(tmp_path: Path) -> None:
    runner = LocalRunner(slots=2)
    job = make_job(tmp_path, "import time; time.sleep(30)")
    runner.start(job)
    runner.start(job)
    with pytest.raises(RunError, match="no free slot"):
        runner.start(job)
    runner.close()
    assert runner.running == 0
    with pytest.raises(RunError, match="closed"):
        runner.start(job)


def test_runs_side_by_side_keep_their_output_apart(tmp_path: Path) -> None:
    runner = LocalRunner(slots=3)
    jobs = []
    for k in range(3):
        code = f"import time; time.sleep({0.1 * (3 - k)}); print('val_bpb: {k + 1}')"
        jobs.append(dataclasses.replace(make_job(tmp_path, code), k=k, log=tmp_path / f"{k}.log"))
        runner.start(jobs[-1])
    ended: list[tuple[Job, Result]] = []
    while runner.running:
        ended += runner.wait(5.0)
    runner.close()
    assert [job.k for job, _ in ended] == [2, 1, 0]
    assert all(result.score and result.score.value == job.k + 1 for job, result in ended)


def test_the_environment_of_a_run_is_the_jobs_and_a_marker(tmp_path: Path, runner: LocalRunner) -> None:
    job = dataclasses.replace(make_job(tmp_path, "", A="b c"), command=("env",))
    lines = run(runner, job).log_tail.splitlines()
    assert sorted(line.split("=")[0] for line in lines) == ["A", "PATH", RUN_MARKER] and "A=b c" in lines
    given = dataclasses.replace(job, environment={**job.environment, RUN_MARKER: "mine", "LC_CTYPE": "C"})
    lines = run(runner, given).log_tail.splitlines()
    assert f"{RUN_MARKER}=mine" in lines and "LC_CTYPE=C" in lines


@linux
def test_a_run_ignores_no_signal(tmp_path: Path, runner: LocalRunner) -> None:
    grep = dataclasses.replace(make_job(tmp_path, ""), command=("grep", "SigIgn", "/proc/self/status"))
    assert run(runner, grep).log_tail.split() == ["SigIgn:", "0" * 16]


def test_a_run_starts_clean(tmp_path: Path, runner: LocalRunner) -> None:
    """No descriptor of ours, a session of its own, its folder, an empty input."""
    code = """
        import os, sys
        print(sorted(int(fd) for fd in os.listdir("/dev/fd"))[:4], os.getsid(0) == os.getpid())
        print(os.getcwd(), repr(sys.stdin.read()))
        print("err", file=sys.stderr)
    """
    tail = run(runner, make_job(tmp_path, code)).log_tail
    assert f"[0, 1, 2, 3] True\n{tmp_path} ''" in tail and "err" in tail


def test_a_run_over_its_limit_is_a_timeout(tmp_path: Path, runner: LocalRunner) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on and on', flush=True); time.sleep(60)"
    result = run(runner, make_job(tmp_path, code, limit=0.4))
    assert (result.outcome, result.reason, result.exit_code) == ("crash", "timeout", -9)
    assert 0.4 <= result.seconds < 1.5 and result.log_tail == "on and on"


@linux
def test_hundreds_of_megabytes_cost_little(tmp_path: Path) -> None:
    flood(tmp_path, megabytes=200)


@linux
def test_a_gigabyte_costs_little(tmp_path: Path) -> None:
    flood(tmp_path, megabytes=1000)


def flood(tmp_path: Path, megabytes: int) -> None:
    code = f"""
        import os
        block = b"".join(b"line %07d of a flood of words\\n" % i for i in range(30000))
        for _ in range({megabytes} * 1000000 // len(block)):
            os.write(1, block)
        print("val_bpb: 1.5")
    """
    with harness(make_job(tmp_path, code)) as process:
        first_line(process)
        outcome, value, seconds, peak_mb = first_line(process)
    assert (outcome, value) == ("scored", 1.5)
    assert peak_mb < 80 and megabytes / seconds > 40, f"{peak_mb:.0f} MB, {megabytes / seconds:.0f} MB/s"
    assert (tmp_path / "run.log").stat().st_size < 1_050_000


def test_a_log_on_a_full_disk_is_noted_and_the_run_goes_on(tmp_path: Path, runner: LocalRunner) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    job = dataclasses.replace(make_job(tmp_path, "print('hello'); print('val_bpb: 1.5')"), log=Path("/dev/full"))
    result = run(runner, job)
    assert result.outcome == "scored" and result.log_tail == "hello\nval_bpb: 1.5"
    assert result.detail == "the log stopped: No space left on device"


def test_waiting_for_a_run_that_closed_its_output_costs_no_time(tmp_path: Path, runner: LocalRunner) -> None:
    code = "import os, time; print('val_bpb: 1.5', flush=True); os.close(1); os.close(2); time.sleep(1.0)"
    began = time.process_time()
    assert run(runner, make_job(tmp_path, code)).outcome == "scored"
    assert time.process_time() - began < 0.25


def test_memory_of_the_whole_tree_is_measured(tmp_path: Path, runner: LocalRunner) -> None:
    code = """
        import os, time
        for _ in range(2):
            if os.fork() == 0:
                held = b"x" * 60_000_000
                time.sleep(2.4)
                os._exit(0)
        os.wait(); os.wait()
    """
    peak = run(runner, make_job(tmp_path, code)).peak_ram_mb
    assert peak is not None and 115 < peak < 250, "two processes of 57 MB beside a small one"


def test_waiting_returns_when_time_is_up_or_nothing_runs(tmp_path: Path, runner: LocalRunner) -> None:
    began = time.monotonic()
    assert runner.wait(5.0) == []
    assert time.monotonic() - began < 1.0
    runner.start(make_job(tmp_path, "import time; time.sleep(30)"))
    began = time.monotonic()
    assert runner.wait(0.3) == []
    assert 0.3 <= time.monotonic() - began < 0.8 and runner.running == 1


def test_a_hundred_runs_leak_nothing_and_cost_milliseconds(tmp_path: Path, runner: LocalRunner) -> None:
    job = dataclasses.replace(make_job(tmp_path, ""), command=("echo", "val_bpb: 1.5"))
    me = psutil.Process()
    run(runner, job)
    before = (me.num_fds(), me.num_threads(), len(me.children()))
    costs = sorted(run(runner, job).seconds for _ in range(100))
    assert (me.num_fds(), me.num_threads(), len(me.children())) == before
    assert costs[50] < 0.1, "start, keeper and end of a run that does nothing"


def test_a_run_that_takes_the_machines_memory_is_ended_before_it_has_it(
    tmp_path: Path, runner: LocalRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import time; held = b'x' * 400_000_000; time.sleep(60)"
    monkeypatch.setattr(memory, "MEMORY_BOUND", 300 / memory.total_mb())
    result = run(runner, make_job(tmp_path, code))
    assert (result.outcome, result.reason) == ("crash", "oom") and "all of the machine's memory" in result.detail
    assert result.seconds < 20


@linux
def test_memory_that_no_process_holds_counts_when_little_is_left(
    tmp_path: Path, runner: LocalRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import os, time
        memory = os.memfd_create("held")
        for _ in range(200):
            os.write(memory, bytes(2**20))
        time.sleep(60)
    """
    monkeypatch.setattr(memory, "SCARCE", 1.0)
    monkeypatch.setattr(memory, "UNSEEN", 150 / memory.total_mb())
    result = run(runner, make_job(tmp_path, code))
    assert (result.outcome, result.reason) == ("crash", "oom") and result.seconds < 20


@pytest.mark.parametrize(
    ("held", "left", "files", "ends"),
    [
        (910, 90, 0, True),  # its processes hold it all
        (10, 90, 700, True),  # it is in files of memory
        (400, 90, 300, True),  # half and half
        (10, 110, 700, False),  # but there is enough left
        (700, 90, 50, False),  # what its processes hold is seen, and may be nine tenths
        (300, 50, 20, False),  # another program holds the rest
        (10, 50, 150, False),  # and has some of it in such files
    ],
)
def test_a_run_ends_for_the_memory_that_it_took_and_for_nobody_elses(
    held: float, left: float, files: float, ends: bool
) -> None:
    start = Memory(total=1000, left=800, files=100)
    assert Memory(1000, left, start.files + files).ends(held, start) is ends


def test_a_containers_own_count_of_memory_is_taken_where_it_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{100 * 2**20}\n")
    monkeypatch.setattr(memory, "MEMORY_LIMITS", (tmp_path / "absent", limit))
    limit.with_name("memory.stat").write_text(f"anon {30 * 2**20}\nfile {60 * 2**20}\nshmem {50 * 2**20}\n")
    assert memory.look() == Memory(total=100, left=20, files=50)
