"""What the tests of runs share: jobs, another harness process, and a look at who is alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from research_loop.lab import Lab
from research_loop.records import Result
from research_loop.runners.local import LocalRunner
from research_loop.runners.remains import LAB_MARKER
from research_loop.tasks import Job, Progress

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a child subreaper")


DAEMONS = """
import os, signal, sys, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(60)
        os._exit(0)
for _ in range(5):
    daemon()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("daemons are out", flush=True)
"""


def make_job(tmp_path: Path, code: str, limit: float = 20.0, **environment: str) -> Job:
    return Job(
        n=3,
        k=1,
        command=(sys.executable, "-S", "-c", textwrap.dedent(code)),
        folder=tmp_path,
        log=tmp_path / "run.log",
        environment={"PATH": os.environ["PATH"], **environment},
        metric="val_bpb",
        memory_metric="peak_vram_mb",
        budget_seconds=5.0,
        limit_seconds=limit,
    )


def finish(runner: LocalRunner, on_progress: Callable[[Progress], None] | None = None) -> Result:
    """The one run's result; the tests' own limits end a run that hangs."""
    for _ in range(60):
        if ended := runner.wait(1.0, on_progress):
            assert len(ended) == 1
            return ended[0][1]
    raise AssertionError("the run did not end")


def run(runner: LocalRunner, job: Job) -> Result:
    runner.start(job)
    return finish(runner)


def marked(token: str, marker: str = LAB_MARKER) -> list[int]:
    """Living processes that carry a marker."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(marker) == token:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


HARNESS = """
import json, sys
from pathlib import Path
from research_loop.tasks import Job
from research_loop.runners.local import LocalRunner
spec = json.loads(sys.argv[1])
folder = Path(spec["folder"])
job = Job(0, 0, tuple(spec["command"]), folder, folder / "run.log", spec["environment"], "val_bpb", "vram", 5.0, 120.0)
runner = LocalRunner()
started = runner.start(job)
print(json.dumps([started.keeper_pid, started.keeper_create_time]), flush=True)
while not (ended := runner.wait(1.0)):
    pass
result = ended[0][1]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak_mb = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps([result.outcome, result.score.value, result.seconds, peak_mb]), flush=True)
"""


def harness(job: Job) -> subprocess.Popen[str]:
    """Another harness process with one run."""
    spec = {"folder": str(job.folder), "command": job.command, "environment": dict(job.environment)}
    command = [sys.executable, "-c", HARNESS, json.dumps(spec)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> list[float]:
    assert process.stdout is not None
    line: list[float] = json.loads(process.stdout.readline())
    return line


def edit(lab: Lab, old: str, new: str) -> None:
    """Replaces `old`, which stands once, in the lab's own train.py."""
    text = (lab.root / "train.py").read_text()
    assert text.count(old) == 1
    (lab.root / "train.py").write_text(text.replace(old, new))
