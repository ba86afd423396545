"""What the tests of agents that speak ACP share: drafts by scripted ones, which leave nothing behind."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from research_loop.proposers import load
from research_loop.proposers.drafting import Request
from research_loop.proposers.workspace import drafts_folder
from research_loop.records import Checkout, Draft, Files
from research_loop.runners.remains import LAB_MARKER
from research_loop.testing.acp_agent import write_script
from runs import marked, until

CHECKOUT = Checkout(7, {"train.py": b"A = 1\n"}, {"prepare.py": b"B = 1\n", "data/words.py": b"C = 1\n"})
SAID = '{"what": "A 1 -> 2", "why": "it is more", "risk": "none known"}'
WORDS = ("A 1 -> 2", "it is more", "none known")
EDIT: dict[str, Any] = {"edit": {"train.py": "A = 2\r\n\u00e9"}}
SAY: dict[str, Any] = {"say": SAID}
NAME = "agent:acp:scripted"
Step = dict[str, Any]


@pytest.fixture(name="cache", autouse=True)
def cache_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def acp(argument: str) -> Any:
    """The drafter, found as the command line finds it."""
    return load("agent")(f"acp:{argument}")


def accept(files: Files) -> None:
    """What every file passes."""


@pytest.fixture(name="work")
def work_fixture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Draft]]:
    """The draft of an agent that does these steps, which left neither a folder, a process nor a thread; nor any log."""

    def done(*steps: Step, settings: dict[str, Any] | None = None, **more: Any) -> Draft:
        program = tmp_path / "scripted"
        program.write_text(f"#!/bin/sh\nexec {write_script(tmp_path / 'script.json', *steps, **(settings or {}))}\n")
        program.chmod(0o755)
        return asked(acp(str(program)), **more)

    with caplog.at_level(logging.WARNING):
        yield done
    assert not caplog.records


def asked(drafter: Any, check: Callable[[Files], None] = accept, seconds: float = 20.0, **more: Any) -> Draft:
    threads, token = threading.active_count(), uuid.uuid4().hex
    draft: Draft = drafter.draft(Request(CHECKOUT, "# Task\n", check, seconds, marks={LAB_MARKER: token}, **more))
    assert until(lambda: threading.active_count() <= threads)
    assert not list(drafts_folder().iterdir())
    assert not marked(token)
    assert "\n" not in draft.detail
    return draft


Work = Callable[..., Draft]
