"""Fixtures: a quick lab, and a harness process that can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from research_loop.lab import Lab
from research_loop.testing.labs import make_quick_lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab in the user's git repository whose runs take a fifth of a second."""
    return make_quick_lab(tmp_path / "lab", seconds=0.2)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def research_loop() -> Iterator[Start]:
    """Starts the command line in a process of its own; whatever is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, cwd: Path | None = None, **options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from research_loop.cli import main; main()", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )  # type: ignore[call-overload]
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
