"""Agents that speak the Agent Client Protocol: what they give, and what they ask for and get."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acp.exceptions import RequestError

import real
from acp_asking import (
    CHECKOUT,
    EDIT,
    NAME,
    SAID,
    SAY,
    WORDS,
    Step,
    Work,
    accept,
    acp,
    asked,
    cache_fixture,  # noqa: F401
    work_fixture,  # noqa: F401
)
from real import clean_home  # noqa: F401
from research_loop.errors import ConfigError, ProposalError
from research_loop.proposers import load
from research_loop.proposers.acp import PRESETS
from research_loop.proposers.acp_desk import AcpHeard, Desk
from research_loop.proposers.drafting import Request
from research_loop.proposers.workspace import workspace
from research_loop.records import Files, Usage
from research_loop.testing.acp_agent import heard
from research_loop.testing.models import ScriptedModel, Turn

# ------------------------------------------------------------------------------------------------------ what it gives


def test_an_edit_with_words_is_a_proposal_with_session_and_reported_cost(work: Work, tmp_path: Path) -> None:
    checked: list[Files] = []
    usage = {"used": 900, "size": 10_000, "cost": {"amount": 0.25, "currency": "USD"}}
    counts = {"inputTokens": 100, "cachedReadTokens": 800, "outputTokens": 30, "totalTokens": 930}
    answer = {"stopReason": "end_turn", "usage": counts}
    draft = work(
        EDIT,
        {"usage": usage},
        {"say": SAID[:20]},
        {"say": SAID[20:]},
        settings={"answer": answer},
        check=checked.append,
    )
    assert draft.proposal is not None and draft.detail == "" and draft.session == "session-1"
    assert draft.proposal.files == {"train.py": "A = 2\r\n\u00e9".encode()} == checked[0]
    assert (draft.proposal.what, draft.proposal.why, draft.proposal.risk) == WORDS
    assert draft.proposal.proposer == NAME and draft.proposal.parent == 7
    assert draft.usage == Usage(900, 30, 0.25, "reported")


def test_it_is_told_the_brief_in_a_session_in_its_checkout(work: Work, tmp_path: Path) -> None:
    work(EDIT, SAY, {"python": f"import os; open({str(tmp_path / 'seen')!r}, 'w').write(os.getcwd())"})
    first, session, prompt = heard(tmp_path / "script.json")
    assert first["method"] == "initialize" and first["params"]["protocolVersion"] == 1
    assert session["params"] == {"cwd": (tmp_path / "seen").read_text(), "mcpServers": []}
    (text,) = prompt["params"]["prompt"]
    assert text["text"].startswith("# Task\n") and "Edit only train.py" in text["text"]


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({}, Usage()),
        ({"usage": {"inputTokens": 900, "cachedReadTokens": 800, "outputTokens": 30, "totalTokens": 930}}, (900, 30)),
        ({"usage": {"inputTokens": 9, "outputTokens": 3, "thoughtTokens": 2, "totalTokens": 14}}, (9, 5)),
        ({"_meta": {"quota": {"token_count": {"input_tokens": 20, "output_tokens": 10}}}}, (20, 10)),
        ({"usage": {"inputTokens": -1, "outputTokens": "x"}, "_meta": [1]}, Usage()),
    ],
)
def test_tokens_are_taken_from_where_agents_put_them(answer: dict[str, Any], usage: Usage | tuple[int, int]) -> None:
    listener = AcpHeard(Path("/nowhere"))
    listener.take_end({"stopReason": "end_turn", **answer})
    assert listener.usage == (usage if isinstance(usage, Usage) else Usage(*usage))


def test_a_cost_in_another_currency_is_unknown(work: Work) -> None:
    draft = work(EDIT, SAY, {"usage": {"used": 1, "size": 2, "cost": {"amount": 1.0, "currency": "EUR"}}})
    assert draft.proposal is not None and draft.usage == Usage()


def test_it_is_ended_where_it_spent_more_than_it_may(work: Work) -> None:
    cost = {"used": 1, "size": 2, "cost": {"amount": 0.75, "currency": "USD"}}
    draft = work(EDIT, SAY, {"usage": cost}, {"hang": 60}, usd=0.5)
    assert draft.detail == "was ended, for it says it spent 0.75 USD of 0.50" and draft.usage.usd == 0.75


def test_it_is_not_said_to_be_ended_where_it_ended_itself_and_spent_more(work: Work) -> None:
    draft = work(EDIT, SAY, {"usage": {"used": 1, "size": 2, "cost": {"amount": 0.75, "currency": "USD"}}}, usd=0.5)
    assert draft.proposal is not None and draft.detail == "says it spent 0.75 USD of 0.50, more than it might"


def test_done_without_an_edit_is_no_proposal(work: Work) -> None:
    draft = work(SAY)
    assert draft.proposal is None and draft.detail == f"{NAME}: said it was done, and train.py is as it was"
    assert work().detail == f"{NAME}: said nothing, and train.py is as it was"


def test_an_edit_without_words_is_no_proposal(work: Work) -> None:
    draft = work(EDIT, {"say": "all done"})
    assert draft.proposal is None and "edited train.py without the JSON line" in draft.detail


def test_words_in_a_thought_or_on_standard_error_are_none(work: Work) -> None:
    thought = {"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": SAID}}
    draft = work(EDIT, {"update": thought}, {"python": f"import sys; print({SAID!r}, file=sys.stderr, flush=True)"})
    assert draft.proposal is None and "without the JSON line" in draft.detail


def test_an_edit_that_the_check_refuses_is_no_proposal(work: Work) -> None:
    def refuse(files: Files) -> None:
        raise ProposalError("train.py: line 1: no such name")

    assert work(EDIT, SAY, check=refuse).detail == f"{NAME}: train.py: line 1: no such name"


def test_other_files_that_it_touched_are_named(work: Work) -> None:
    draft = work(EDIT, SAY, {"edit": {"notes.md": "x"}})
    assert draft.proposal is not None and "which was thrown away: notes.md (new)" in draft.detail


# -------------------------------------------------------------------------------------------- what it asks, and gets


def call(kind: str, *paths: str, **more: Any) -> Step:
    return {"ask": {"kind": kind, "title": f"a {kind}", "locations": [{"path": path} for path in paths], **more}}


def outcomes(script: Path) -> list[str]:
    """What it was answered when it asked for permissions."""
    results = [message.get("result") or {} for message in heard(script)]
    return [result["outcome"].get("optionId", "cancelled") for result in results if "outcome" in result]


@pytest.mark.parametrize(
    "given",
    [
        {"file_path": "./data/../train.py"},
        {"command": "str_replace", "path": "train.py", "old_str": "1", "new_str": "2"},
        {"filePath": "train.py", "profile": "fast"},
    ],
)
def test_an_edit_of_an_editable_file_is_permitted_once(work: Work, tmp_path: Path, given: Step) -> None:
    draft = work(call("edit", "train.py", rawInput=given), EDIT, SAY)
    assert draft.proposal is not None and draft.detail == "" and outcomes(tmp_path / "script.json") == ["once"]


@pytest.mark.parametrize(
    ("asked_for", "named"),
    [
        (call("edit", "prepare.py"), "edit prepare.py"),
        (call("edit", "train.py", "prepare.py"), "edit prepare.py"),
        (call("edit", "train.py", content=[{"type": "diff", "path": "prepare.py", "newText": ""}]), "edit prepare.py"),
        (call("edit", "train.py", rawInput={"edits": [{"filePath": "prepare.py"}]}), "edit prepare.py"),
        (call("edit", "train.py", rawInput={"paths": ["train.py", "b.py"]}), "edit b.py"),
        (call("edit", "train.py", rawInput={"outFile": "b.py"}), "edit b.py"),
        (call("edit", "train.py", rawInput={"command": "rm -r ."}), "edit rm -r ."),
        (call("edit", "/etc/hosts"), "edit /etc/hosts"),
        (call("edit", "../../outside.py"), "edit ../../outside.py"),
        (call("edit", ""), "edit"),
        (call("edit", "a\0b"), "edit ab"),
        (call("edit"), "edit a edit"),
        (call("execute", rawInput={"command": "python train.py"}), "execute python train.py"),
        (call("execute", "train.py", rawInput={"command": ["rm", "-r", "."]}), "execute rm -r ."),
        (call("other", "train.py", rawInput={"cmd": "true"}), "other true"),
        (call("delete", "train.py"), "delete a delete"),
        ({"ask": {"locations": 3, "content": {}, "rawInput": [[]]}}, "call"),
    ],
)
def test_anything_else_is_refused_and_named(work: Work, tmp_path: Path, asked_for: Step, named: str) -> None:
    draft = work(asked_for, {"edit": {"prepare.py": "B = 2\n"}}, EDIT, SAY)
    assert draft.proposal is not None and draft.detail == f"was refused: {named}"
    assert outcomes(tmp_path / "script.json") == ["no"]


def test_a_home_behind_a_link_is_no_obstacle(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "linked"))
    assert work(call("edit", "train.py"), EDIT, SAY).detail == ""


def test_a_permission_through_a_link_is_judged_by_where_it_leads(work: Work, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("secret")
    link = f"import os; os.remove('train.py'); os.symlink({str(tmp_path / 'outside.py')!r}, 'train.py')"
    draft = work({"python": link}, call("edit", "train.py"), EDIT, SAY)
    assert draft.proposal is None and "train.py is a link now; was refused: edit train.py" in draft.detail
    assert (tmp_path / "outside.py").read_text() == "secret"


def test_a_checkout_that_was_moved_is_not_followed(work: Work, tmp_path: Path) -> None:
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "train.py").write_text("secret")
    move = "import os; here = os.getcwd(); os.rename(here, here + '2'); os.symlink({!r}, here)"
    draft = work({"python": move.format(str(tmp_path / "aside"))}, call("edit", "train.py"), EDIT, SAY)
    assert draft.proposal is None and "the checkout is a link now" in draft.detail
    assert (tmp_path / "aside" / "train.py").read_text() == "secret"
    assert "secret" not in json.dumps(heard(tmp_path / "script.json"))


def test_a_terminal_and_what_is_not_known_is_refused(work: Work, tmp_path: Path) -> None:
    terminal = {"request": ["terminal/create", {"command": "python train.py"}]}
    others = ["session/other", "fs/read_text_file", "fs/write_text_file"]
    files = {"path": "train.py", "content": "A = 9"}
    draft = work(terminal, *({"request": [method, files]} for method in others), EDIT, SAY)
    assert draft.proposal is not None and draft.detail == "was refused: execute python train.py"
    assert [answer["error"]["code"] for answer in heard(tmp_path / "script.json")[3:]] == [-32601] * 4


def test_a_surprise_in_an_answer_is_an_error_for_the_agent() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with workspace(CHECKOUT) as space:
        listener = AcpHeard(space.folder)
        desk = Desk(Request(CHECKOUT, "", accept, 1.0), space, listener)
        params = {"toolCall": {"rawInput": {"command": {"a": deep}}}}
        with pytest.raises(RequestError) as raised:
            asyncio.run(desk.answer("session/request_permission", params, False))
        assert asyncio.run(desk.answer("session/update", {"update": {"sessionUpdate": Unequal()}}, True)) is None
    assert raised.value.code == -32603 and "RecursionError" in raised.value.data["details"]
    assert "session/request_permission (RecursionError" in listener.refused and "session/update (" in listener.refused


class Unequal:
    """Not to be had in JSON: it stands for whatever nobody thought of."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("two\nlines")

    __hash__ = None  # type: ignore[assignment]


LOGGING = """
import asyncio, logging, sys
from acp.connection import Connection
from research_loop.proposers.acp import unlogged

class Transport:
    messages = [{"id": 1, "method": "a"}, {"method": "b"}]
    async def send(self, message): raise OSError("no way out")
    async def receive(self):
        await asyncio.sleep(0.05)
        return self.messages.pop() if self.messages else None
    async def close(self): pass

async def surprised(*asked): raise ValueError("nobody thought of it")

async def talk():
    connection = Connection(surprised, Transport())
    await asyncio.sleep(0.3)
    await connection.close()

if sys.argv[1] == "with handler":
    logging.basicConfig(format="%(message)s")
before = logging.getLogger().handlers[:]
with unlogged():
    asyncio.run(talk())
logging.getLogger("other").warning("still heard")
assert logging.getLogger().handlers == before and not logging.getLogger().filters
"""


@pytest.mark.parametrize("screen", ["with handler", "without"])
def test_nothing_that_the_package_logs_reaches_the_screen(screen: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING, screen], capture_output=True, text=True, check=True)
    assert done.stderr == "still heard\n" and done.stdout == ""


# ----------------------------------------------------------------------------------------------------- its argument


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def made(*names: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in names:
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return made


def test_presets_are_spelled_out(programs: Callable[..., Path]) -> None:
    folder = programs(*(words[0] for words in PRESETS.values()))
    for argument, words in {
        "gemini": "gemini --acp",
        "gemini -m 'a b'": "gemini --acp -m a b",
        "gemini --acp -m a": "gemini --acp -m a",
        "gemini --acp": "gemini --acp",
        "opencode": "opencode acp",
        "opencode acp --print-logs": "opencode acp --print-logs",
        "copilot": "copilot --acp",
        "cursor": "agent acp",
        "devin": "devin acp",
        "qwen": "qwen --acp",
        f"{folder}/qwen --x": "qwen --x",
    }.items():
        drafter = acp(argument)
        assert " ".join(drafter._words) == f"{folder}/{words}"
        short = f"agent:acp:{Path(argument.split()[0]).name}"
        bare = argument in PRESETS or argument == "gemini --acp"
        assert drafter.name == short if bare else re.fullmatch(f"{short}-[0-9a-f]{{6}}", drafter.name)
        assert drafter.drafts
    assert acp("gemini -m a").name == acp("gemini --acp -m a").name != acp("gemini -m b").name


def test_cursor_has_two_names(programs: Callable[..., Path]) -> None:
    folder = programs("cursor-agent")
    assert acp("cursor")._words == [f"{folder}/cursor-agent", "acp"]


def test_what_cannot_be_started_is_refused_in_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for argument, line in (
        ("", "agent:acp: has no command: write it behind the colon, like agent:acp:gemini"),
        ("  ", "agent:acp: has no command"),
        ("'gemini", "agent:acp:'gemini: no closing quotation: quote it as for a shell"),
        ("gemini", "gemini: no such program on PATH: install it, or write the path of the agent"),
        ("cursor", "agent: no such program on PATH: install it"),
        ("no-such-agent --acp", "no-such-agent: no such program on PATH: install it"),
    ):
        with pytest.raises(ConfigError) as raised:
            acp(argument)
        assert line in str(raised.value) and "\n" not in str(raised.value)
    assert load("agent").drafts


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "acp.connection", None)
    with pytest.raises(ConfigError) as raised:
        acp("sh")
    assert str(raised.value).startswith("agent:acp: ") and str(raised.value).endswith("install research-loop[acp]")


# -------------------------------------------------------------------------------------------------- real ones


@pytest.mark.parametrize("name", ["opencode", "gemini"])
def test_a_real_agent_edits_what_it_may_and_is_refused_the_rest(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real.need(name)
    for path, text, proposed in (("prepare.py", "B = 1", False), ("train.py", "A = 1", True)):
        calls = real.edits(name, path, text, "A = 2", f"{text}\n")
        with ScriptedModel([*(Turn(calls=call) for call in calls), Turn(SAID)], with_tools=True) as model:
            for variable, value in real.variables(name, model.url, home).items():
                monkeypatch.setenv(variable, value)
            monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
            draft = asked(acp(f"{name} -m gemini-2.5-pro" if name == "gemini" else name), seconds=120.0)
        assert (draft.proposal is not None) == proposed, draft
        assert draft.session and draft.usage.tokens_in
        assert (draft.usage.usd is None) == (name == "gemini") and draft.usage.usd != 0.0
        if draft.proposal is not None:
            assert draft.proposal.files == {"train.py": b"A = 2\n"} and draft.proposal.what == WORDS[0]
        else:
            assert "was refused: edit" in draft.detail and "prepare.py" in draft.detail
            assert "(changed)" not in draft.detail
