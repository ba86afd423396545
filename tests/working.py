"""What the tests of agents share: a checkout, a request, and a draft that leaves nothing behind."""

from __future__ import annotations

import shlex
import sys
import textwrap
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from research_loop.proposers.agents import Template
from research_loop.proposers.drafting import Drafter, Request
from research_loop.proposers.workspace import drafts_folder
from research_loop.records import Checkout, Draft, Files
from research_loop.runners.remains import LAB_MARKER
from runs import marked

CHECKOUT = Checkout(7, {"train.py": b"A = 1\n"}, {"prepare.py": b"B = 1\n", "data/words.py": b"C = 1\n"})
SAID = '{"what": "A 1 -> 2", "why": "it is more", "risk": "none known"}'
WORDS = ("A 1 -> 2", "it is more", "none known")
EDIT = "open('train.py', 'w').write('A = 2\\n')\n"
SPEAK = f"print({SAID!r}, flush=True)\n"
Agent = Callable[..., Template]
FLOOD = "import os\nfor _ in range({megabytes}): os.write(1, {piece} * (2**20 // len({piece})))\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own; import it to have it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def accept(files: Files) -> None:
    """What every file passes."""


def request(checkout: Checkout = CHECKOUT, seconds: float = 20.0, **more: object) -> Request:
    return Request(checkout, "# Task\nMake it better.\n", more.pop("check", accept), seconds, **more)  # type: ignore[arg-type]


def work(drafter: Drafter, asked: Request) -> Draft:
    """A draft that left neither a folder nor a process, by the lab's mark, and says one line."""
    token = uuid.uuid4().hex
    draft = drafter.draft(replace(asked, marks={LAB_MARKER: token}))
    assert not list(drafts_folder().iterdir()) and not marked(token) and "\n" not in draft.detail
    return draft


@pytest.fixture(name="agent")
def agent_fixture(tmp_path: Path) -> Agent:
    """An agent by its program's text, of which `aside` is a folder of the test's."""

    def made(code: str, arguments: str = "{prompt_file}") -> Template:
        script = tmp_path / "agent.py"
        script.write_text(f"from pathlib import Path\naside = Path({str(tmp_path)!r})\n{textwrap.dedent(code)}")
        return Template(f"{shlex.quote(sys.executable)} -S {script} {arguments}")

    return made


def lives(pid: int) -> bool:
    """A killed process whose new parent has not collected it yet is dead."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
