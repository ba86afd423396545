"""How a contained run ends, as the harness sees it through the sandbox that stands between."""

from __future__ import annotations

import os
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from research_loop.records import Result
from research_loop.runners import memory
from research_loop.runners.local import LocalRunner
from research_loop.sandbox import Backend, SandboxError, Spec, choose
from runs import finish, linux, make_job

pytestmark = linux


@pytest.fixture(params=["bubblewrap", "landlock", "none"])
def backend(request: pytest.FixtureRequest) -> Backend:
    try:
        return choose(request.param)
    except SandboxError as error:
        pytest.skip(str(error))


def contained(backend: Backend, folder: Path, code: str) -> Result:
    job = make_job(folder, "")
    command = (sys.executable, "-S", "-c", textwrap.dedent(code))
    argv, environment = backend.wrap(command, Spec(folder, scratch_mb=16), {"PATH": os.defpath})
    runner = LocalRunner()
    try:
        runner.start(replace(job, command=argv, environment=environment))
        return finish(runner)
    finally:
        runner.close()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_signal_that_ends_a_contained_run_is_named(backend: Backend, tmp_path: Path, name: str) -> None:
    result = contained(backend, tmp_path, f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert (result.outcome, result.reason, result.detail) == ("crash", "signal", f"killed by {name}")


HOLDS_200_MB = """
    import os, signal
    held = b"x" * (200 * 2**20)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_contained_run_that_the_kernel_kills_near_the_memory_limit_is_out_of_memory(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = contained(backend, tmp_path, HOLDS_200_MB)
    assert (far.reason, far.detail) == ("signal", "killed by SIGKILL")
    monkeypatch.setattr(memory, "total_mb", lambda: 300.0)  # a machine of this size
    near = contained(backend, tmp_path, HOLDS_200_MB)
    assert near.peak_ram_mb is not None and near.peak_ram_mb > 200
    assert near.reason == "oom" and "SIGKILL" in near.detail


def test_a_containers_memory_counts_where_it_is_less_than_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_1, version_2 = tmp_path / "memory.limit_in_bytes", tmp_path / "memory.max"
    version_1.write_text(f"{100 * 2**20}\n")
    version_2.write_text("max\n")
    monkeypatch.setattr(memory, "MEMORY_LIMITS", (version_2, version_1, tmp_path / "absent"))
    assert memory.total_mb() == 100.0
