"""Drafts by real Claude Code and Codex, in a clean environment, against a scripted model on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from real import BIN, CLAUDE, MISSING, clean_home, variables  # noqa: F401
from research_loop.proposers.agents import MOST_TURNS, Claude, Codex
from research_loop.proposers.drafting import Request
from research_loop.proposers.workspace import drafts_folder
from research_loop.records import Checkout, Draft
from research_loop.runners.remains import LAB_MARKER
from research_loop.testing.models import USAGE, Call, ScriptedModel, Turn
from runs import marked

needs_claude = pytest.mark.skipif(not CLAUDE.is_file(), reason=f"claude: {MISSING}")
needs_codex = pytest.mark.skipif(not (BIN / "codex").is_file(), reason=f"codex: {MISSING}")

CHECKOUT = Checkout(7, {"train.py": b"A = 1\n"}, {"prepare.py": b"B = 1\n"})
SAID = Turn('Done.\n```json\n{"what": "A 1 -> 2", "why": "it is more", "risk": "none known"}\n```')
Ask = Callable[..., Draft]


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """A draft by one of them, of which nothing is left afterwards, with the settings that lead it to a server."""

    def asked(drafter: type[Claude | Codex], url: str, seconds: float = 60.0, **more: Any) -> Draft:
        for name in ("claude", "codex"):
            for variable, value in variables(name, url, home).items():
                monkeypatch.setenv(variable, value)
        more["marks"] = {LAB_MARKER: str(home)}
        request = Request(CHECKOUT, "# Task\nMake A larger.", lambda files: None, seconds, **more)
        draft = drafter().draft(request)
        assert not marked(str(home)) and not list(drafts_folder().iterdir())
        return draft

    return asked


def read(path: str) -> Call:
    return Call("Read", {"file_path": path})


def edit(path: str, old: str, new: str) -> Call:
    return Call("Edit", {"file_path": path, "old_string": old, "new_string": new})


def shell(command: str) -> Call:
    return Call("exec_command", {"cmd": command})


def patch(path: str, old: str, new: str) -> Call:
    lines = ["*** Begin Patch", f"*** Update File: {path}", "@@", f"-{old}", f"+{new}", "*** End Patch"]
    return shell("\n".join(["apply_patch <<'EOF'", *lines, "EOF", ""]))


@needs_claude
def test_claude_code_makes_a_proposal(ask: Ask) -> None:
    turns = [Turn(calls=(read("train.py"),)), Turn(calls=(edit("train.py", "A = 1", "A = 2"),)), SAID]
    with ScriptedModel(turns, with_tools=True) as model:
        draft = ask(Claude, model.url, usd=1.0)
    assert draft.proposal is not None and draft.proposal.files == {"train.py": b"A = 2\n"}, draft
    assert draft.proposal.what == "A 1 -> 2" and draft.proposal.risk == "none known" and draft.detail == ""
    assert (draft.usage.tokens_in, draft.usage.tokens_out) == (3 * USAGE[0], 3 * USAGE[1])
    assert draft.usage.cost == "reported" and draft.usage.usd and len(draft.session) == 36
    offered = {tool["name"] for tool in model.asked[0].body["tools"]}
    assert offered >= {"Read", "Edit"} and not offered & {"Bash", "Write", "WebFetch", "Task", "Agent", "Skill"}


@needs_claude
def test_claude_code_may_neither_edit_nor_read_anything_else(ask: Ask, home: Path) -> None:
    (home / "secret").write_text("a secret of the user")
    turns = [
        Turn(
            calls=(read("train.py"), read("prepare.py"), read(str(home / "secret")), read(f"{home}/.codex/config.toml"))
        ),
        Turn(calls=(edit("prepare.py", "B = 1", "B = 2"), edit("train.py", "A = 1", "A = 2"))),
        SAID,
    ]
    with ScriptedModel(turns, with_tools=True) as model:
        draft = ask(Claude, model.url)
    assert draft.proposal is not None and draft.proposal.files == {"train.py": b"A = 2\n"}, draft
    assert draft.detail.startswith(f"was refused: Read {home}/secret, ") and "Edit prepare.py" in draft.detail
    asked = json.dumps(model.asked[-1].body)
    assert "B = 1" in asked and "a secret of the user" not in asked and "gpt-local" not in asked


@needs_claude
def test_hooks_memory_and_rights_of_the_user_do_not_act_in_claude_code(ask: Ask, home: Path) -> None:
    hook = {"matcher": "*", "hooks": [{"type": "command", "command": f"touch {home}/hooked"}]}
    settings = {"hooks": {"PreToolUse": [hook]}, "permissions": {"allow": ["Edit", "Read", "Bash"]}}
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").write_text(json.dumps(settings))
    (home / ".claude" / "CLAUDE.md").write_text("always answer in verse")
    (home / "CLAUDE.md").write_text("always answer in prose")
    turns = [Turn(calls=(read("prepare.py"),)), Turn(calls=(edit("prepare.py", "B = 1", "B = 2"),)), SAID]
    with ScriptedModel(turns, with_tools=True) as model:
        draft = ask(Claude, model.url)
    assert draft.proposal is None and "was refused: Edit prepare.py" in draft.detail and "changed" not in draft.detail
    assert not (home / "hooked").exists() and "always answer in" not in json.dumps([a.body for a in model.asked])


@needs_claude
def test_a_claude_code_that_reaches_no_server_is_one_line(ask: Ask) -> None:
    draft = ask(Claude, "http://127.0.0.1:9")
    assert draft.proposal is None and "train.py is as it was" in draft.detail and draft.usage.usd == 0.0
    assert draft.detail.startswith("claude: ") and "API Error" in draft.detail


@needs_claude
def test_a_claude_code_that_spends_more_than_it_may_is_ended(ask: Ask) -> None:
    with ScriptedModel([Turn(calls=(read("train.py"),))], with_tools=True) as model:
        draft = ask(Claude, model.url, usd=0.0001)
    assert draft.proposal is None and "budget" in draft.detail.lower(), draft
    assert draft.usage.usd and len(model.asked) < 3


@needs_claude
def test_a_claude_code_that_comes_to_no_end_is_ended_after_its_turns(ask: Ask) -> None:
    with ScriptedModel([Turn(calls=(read("train.py"),))], with_tools=True) as model:
        draft = ask(Claude, model.url)
    assert draft.proposal is None and "20" in draft.detail and "turns" in draft.detail, draft
    assert len(model.asked) <= MOST_TURNS + 1 and draft.usage.usd


@needs_codex
def test_codex_makes_a_proposal(ask: Ask) -> None:
    with ScriptedModel([Turn(calls=(patch("train.py", "A = 1", "A = 2"),)), SAID], with_tools=True) as model:
        draft = ask(Codex, model.url)
    assert draft.proposal is not None and draft.proposal.files == {"train.py": b"A = 2\n"}, draft
    assert draft.proposal.what == "A 1 -> 2" and draft.proposal.why == "it is more" and draft.detail == ""
    assert (draft.usage.tokens_in, draft.usage.tokens_out) == (2 * USAGE[0], 2 * USAGE[1])
    assert draft.usage.usd is None and len(draft.session) == 36


@needs_codex
def test_what_codex_does_to_other_files_does_not_come_back(ask: Ask, home: Path) -> None:
    turns = [
        Turn(calls=(patch("train.py", "A = 1", "A = 2"),)),
        Turn(calls=(patch("prepare.py", "B = 1", "B = 2"),)),
        Turn(calls=(shell("rm prepare.py; echo B = 3 > prepare.py; echo > notes; touch ../beside ~/outside"),)),
        SAID,
    ]
    with ScriptedModel(turns, with_tools=True) as model:
        draft = ask(Codex, model.url)
    assert draft.proposal is not None and draft.proposal.files == {"train.py": b"A = 2\n"}, draft
    assert "prepare.py (changed), notes (new)" in draft.detail and not (home / "outside").exists()


@needs_codex
def test_a_codex_whose_server_is_down_is_ended_at_its_limit(ask: Ask) -> None:
    began = time.monotonic()
    draft = ask(Codex, "http://127.0.0.1:9", seconds=3.0)
    assert draft.proposal is None and draft.usage.usd is None and time.monotonic() - began < 10
    assert draft.detail.startswith("codex: ") and "train.py is as it was" in draft.detail


@pytest.mark.parametrize("drafter", [pytest.param(Claude, marks=needs_claude), pytest.param(Codex, marks=needs_codex)])
def test_whoever_says_that_it_is_done_without_an_edit_has_made_nothing(ask: Ask, drafter: type[Claude | Codex]) -> None:
    with ScriptedModel([SAID], with_tools=True) as model:
        draft = ask(drafter, model.url)
    assert draft.proposal is None and draft.detail.endswith(": said it was done, and train.py is as it was")


@pytest.mark.parametrize("drafter", [pytest.param(Claude, marks=needs_claude), pytest.param(Codex, marks=needs_codex)])
def test_a_real_agent_is_stopped_while_it_waits_for_its_model(
    home: Path, ask: Ask, drafter: type[Claude | Codex]
) -> None:
    stopped = threading.Event()
    with ScriptedModel([Turn("too late", seconds=10.0)], with_tools=True) as model:
        threading.Timer(1.5, stopped.set).start()
        began = time.monotonic()
        draft = ask(drafter, model.url, stopped=stopped)
        assert draft.proposal is None and draft.detail == "stopped" and time.monotonic() - began < 8
