"""What agents print, and what is made of it: the words of a proposal, tokens, cost and refused rights."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from research_loop.proposers import hearing
from research_loop.proposers.agents import Claude, Codex
from research_loop.proposers.hearing import find_words
from research_loop.records import Files, Usage
from research_loop.runners.tree import KEPT_BYTES
from working import EDIT, FLOOD, SAID, WORDS, cache, request, work  # noqa: F401

# ---------------------------------------------------------------------------------------------------------- its words


@pytest.mark.parametrize(
    "text",
    [
        SAID,
        f"I did it.\n```json\n{SAID}\n```\nGood luck {{}}",
        f'{{"what": "an older idea", "why": "w", "risk": "r"}}\n{SAID}\n{{"what": "no why"}}',
        f'{{"proposal": {SAID}, "status": "{{done}}"}}',
        SAID.replace("}", ', "more": {"a": [1]}}'),
        SAID.replace("it is more", "it\nis\tmore").replace("A 1", "A \x1b[1m1"),
    ],
)
def test_words_are_found_wherever_they_stand(text: str) -> None:
    assert find_words(text) == WORDS


@pytest.mark.parametrize(
    "text",
    ["", "{", SAID[:-1], SAID.replace("it is more", " "), '{"what": 1, "why": 2, "risk": 3}', SAID + "x" * KEPT_BYTES],
)
def test_what_is_no_words_is_none(text: str) -> None:
    assert find_words(text) is None


SLOW = [
    '{"a":',
    '{"',
    "{",
    '{"a":[',
    '{"a":"b",',
    '{"a":[' + "1," * 25,
    '{"a":' + "[[],[]]," * 8,
    "{" + " " * 300 + '"a":',
]


@pytest.mark.parametrize("piece", SLOW)
def test_a_text_that_is_made_to_be_slow_to_search_is_not(piece: str) -> None:
    for end in ("", '"what" "why" "risk"'):
        began = time.process_time()
        assert find_words(piece * (2**20 // len(piece)) + end) is None
        assert time.process_time() - began < 1, "seconds, where each brace was tried; now hundredths"


def test_words_are_found_before_any_number_of_other_objects() -> None:
    assert find_words(SAID + '{"type": "x"}\n' * 2000) == WORDS


# ------------------------------------------------------------------------------------------- Claude Code and Codex


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, list[object]], Path]:
    """A program of that name on PATH: it notes its arguments, does something and prints events; where it notes them."""

    def made(name: str, code: str, events: list[object]) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        lines = "".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events)
        (folder / name).write_text(
            f"#!{sys.executable} -S\nimport json, sys\njson.dump(sys.argv, open({str(tmp_path / 'argv')!r}, 'w'))\n"
            f"print({lines!r}, end='', flush=True)\n{textwrap.dedent(code)}"
        )
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return tmp_path / "argv"

    return made


Program = Callable[..., Path]


def claude_usage(*counts: int) -> dict[str, int]:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    return dict(zip(names, counts, strict=True))


def claude_said(text: str, identity: str = "msg_1", **more: object) -> dict[str, object]:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 3000,
        "output_tokens": 40,
    }
    content = [{"type": "text", "text": text}, {"type": "tool_use", "name": "Edit", "input": {}}]
    message = {"id": identity, "model": "claude-sonnet-5-5", "content": content, "usage": usage}
    return {"type": "assistant", "message": message, "parent_tool_use_id": None, "session_id": "5f-1", **more}


def claude_result(text: str = SAID, **more: object) -> dict[str, object]:
    usage = {
        "input_tokens": 20,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 6000,
        "output_tokens": 80,
    }
    done = {"type": "result", "subtype": "success", "is_error": False, "result": text, "session_id": "5f-1"}
    return {**done, "total_cost_usd": 0.0125, "usage": usage, "permission_denials": [], **more}


def test_claude_code_gives_a_proposal_with_its_cost(program: Program) -> None:
    argv = program("claude", EDIT, [{"type": "system", "subtype": "init", "session_id": "5f-1"}, claude_result()])
    draft = work(Claude("sonnet"), request(usd=0.5))
    assert draft.proposal is not None and draft.proposal.proposer == "claude:sonnet" and draft.detail == ""
    assert draft.usage == Usage(6220, 80, 0.0125, "reported") and draft.session == "5f-1"
    words = json.loads(argv.read_text())[1:]
    assert words[0] == "-p" and "# Task" in words[1]
    for flag, value in (("--max-budget-usd", "0.5000"), ("--model", "sonnet"), ("--allowedTools", "Edit(train.py)")):
        assert words[words.index(flag) + 1] == value


def test_the_default_model_and_no_limit_in_money_are_left_to_claude_code(program: Program) -> None:
    argv = program("claude", EDIT, [claude_result()])
    draft = work(Claude(""), request())
    assert draft.proposal is not None and draft.proposal.proposer == "claude"
    assert not {"--model", "--max-budget-usd"} & set(json.loads(argv.read_text()))


def test_rights_that_claude_code_was_refused_are_named(program: Program) -> None:
    denied = {"tool_name": "Edit", "tool_input": {"file_path": "FOLDER/prepare.py", "old_string": "x"}}
    result = json.dumps(claude_result(permission_denials=[denied, denied, 3, {}]))
    program("claude", f"import os; print({result!r}.replace('FOLDER', os.getcwd()))\n" + EDIT, [])
    draft = work(Claude(), request())
    assert draft.proposal is not None and draft.detail.startswith("was refused: Edit prepare.py")


def test_a_claude_code_that_ran_out_of_turns_counts_by_its_edit_and_words(program: Program) -> None:
    ended = claude_result(subtype="error_max_turns", is_error=True, result=None, errors=["Reached 20 turns"])
    program("claude", EDIT + "sys.exit(1)", [claude_said(f"done {SAID}"), claude_said("", "msg_2"), ended])
    draft = work(Claude(), request())
    assert draft.proposal is not None and draft.detail == "Reached 20 turns"
    program("claude", EDIT + "sys.exit(1)", [ended])
    draft = work(Claude(), request())
    assert draft.proposal is None and "claude: Reached 20 turns; edited train.py without" in draft.detail
    assert draft.usage.usd == 0.0125, "it costs all the same"


def test_tokens_are_the_messages_where_the_result_has_none(program: Program) -> None:
    ended = claude_result(subtype="error_max_budget_usd", is_error=True, usage=claude_usage(0, 0, 0, 0))
    program("claude", "sys.exit(1)", [claude_said("a"), claude_said("c", "msg_2"), ended])
    assert work(Claude(), request()).usage == Usage(6420, 80, 0.0125, "reported")


def test_a_claude_code_without_a_server_says_so(program: Program) -> None:
    failed = claude_result("API Error: Connection refused.", is_error=True, terminal_reason="api_error")
    program("claude", "sys.exit(1)", [failed])
    draft = work(Claude(), request())
    assert draft.proposal is None
    assert draft.detail == "claude: API Error: Connection refused.; train.py is as it was"


def test_tokens_of_a_claude_code_that_was_ended_are_counted(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        hearing, "estimate", lambda model, *tokens: sum(tokens) / 1e6 if "sonnet-5-5" in model else None
    )
    aside = claude_said("a helper's", "msg_9", parent_tool_use_id="toolu_1")
    program(
        "claude", "import time; time.sleep(60)", [claude_said("a"), claude_said("b"), claude_said("c", "msg_2"), aside]
    )
    draft = work(Claude(), request(seconds=1.0))
    assert draft.proposal is None and draft.usage == Usage(6420, 80, 0.0125, "estimated")


def test_what_a_claude_code_that_was_ended_wrote_is_at_least_its_text(program: Program) -> None:
    half = {"type": "thinking", "thinking": "t" * 1000}, {"type": "tool_use", "input": {"new": "x" * 3000, "n": 3}}
    said = [claude_said("a" * 4000), claude_said("b"), claude_said("c", "msg_2")]
    said[1]["message"]["content"] += half  # type: ignore[index]
    program("claude", "import time; time.sleep(60)", said)
    assert work(Claude(), request(seconds=1.0)).usage.tokens_out == 2000 + 40


def test_any_number_of_tokens_is_one_that_the_ledger_can_hold(program: Program) -> None:
    most = claude_usage(*4 * [hearing.MOST_TOKENS - 1])
    said = [claude_said("a", f"msg_{i}") for i in range(600)]
    for event in said:
        event["message"]["usage"] = most  # type: ignore[index]
    program("claude", "import time; time.sleep(60)", said)
    usage = work(Claude(), request(seconds=2.0)).usage
    assert usage.tokens_in == usage.tokens_out == hearing.MOST_TOKENS
    too_many = dict.fromkeys(("input_tokens", "output_tokens"), 2**53 - 1)
    program("codex", "", [{"type": "turn.completed", "usage": too_many}])
    assert work(Codex(), request()).usage == Usage()


def test_a_check_that_breaks_loses_no_usage(program: Program) -> None:
    def broken(files: Files) -> None:
        raise RuntimeError("no room\non the disk")

    program("claude", EDIT, [claude_result()])
    draft = work(Claude(), request(check=broken))
    assert draft.proposal is not None, "it is checked again before its run"
    assert draft.detail == "its edit could not be checked (RuntimeError: no room on the disk)"
    assert draft.usage == Usage(6220, 80, 0.0125, "reported") and draft.session == "5f-1"


def codex_events(*more: object) -> list[object]:
    usage = {"input_tokens": 3000, "cached_input_tokens": 1000, "output_tokens": 300}
    return [{"type": "thread.started", "thread_id": "01a2"}, *more, {"type": "turn.completed", "usage": usage}]


def codex_item(kind: str, **more: object) -> dict[str, object]:
    return {"type": "item.completed", "item": {"id": "item_1", "type": kind, **more}}


def test_codex_gives_a_proposal_with_its_tokens(program: Program) -> None:
    said = codex_item("agent_message", text=f"done\n{SAID}")
    argv = program("codex", EDIT, codex_events({"type": "error", "message": "Reconnecting... 1/5"}, said))
    draft = work(Codex("gpt-local"), request())
    assert draft.proposal is not None and draft.proposal.proposer == "codex:gpt-local" and draft.detail == ""
    assert draft.usage == Usage(3000, 300, None, "unknown") and draft.session == "01a2"
    words = json.loads(argv.read_text())[1:]
    assert words[0] == "exec" and words[-2] == "--" and "# Task" in words[-1]
    assert words[words.index("-s") + 1] == "workspace-write" and words[words.index("-m") + 1] == "gpt-local"


def test_codex_costs_what_the_price_list_says(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        hearing, "estimate", lambda model, *tokens: 0.25 if (model, *tokens) == ("m", 3000, 300, 1000) else None
    )
    program("codex", "", codex_events())
    assert work(Codex("m"), request()).usage == Usage(3000, 300, 0.25, "estimated")
    assert work(Codex(), request()).usage.usd is None, "nobody knows which model that was"


def test_a_codex_whose_sandbox_is_broken_is_told_apart(program: Program) -> None:
    failed = codex_item("file_change", status="failed", changes=[{"path": "train.py", "kind": "update"}, "x"])
    program("codex", "", codex_events(failed, codex_item("agent_message", text=f"Done! {SAID}")))
    draft = work(Codex(), request())
    assert draft.proposal is None and "said it was done, and train.py is as it was (Codex writes only" in draft.detail
    assert "was refused: change of train.py" in draft.detail


def test_a_turn_that_failed_is_said(program: Program) -> None:
    failed = {"type": "turn.failed", "error": {"message": "unexpected status 401"}}
    program("codex", "sys.exit(1)", [{"type": "error", "message": "x"}, failed])
    assert work(Codex(), request()).detail == "codex: unexpected status 401; train.py is as it was"


STRANGE: list[object] = [
    *("{", "{}", '{"type": NaN}', "{" * 100_000, '{"type": ["result"]}', '{"a":' * 5000 + "1" + "}" * 5000),
    *({"type": "assistant", "message": 3}, {"type": "assistant", "message": {"content": "x", "usage": [1]}}),
    *({"type": "result", "usage": "x", "total_cost_usd": "1"}, {"type": "result", "errors": {"a": 1}, "result": 3}),
    {"type": "result", "subtype": "success", "total_cost_usd": 10**400, "usage": {"input_tokens": -5}, "session_id": 3},
    *({"type": "item.completed", "item": []}, {"type": "item.completed", "item": {"type": "agent_message", "text": 3}}),
    *({"type": "turn.completed", "usage": None}, {"type": "turn.failed", "error": "x"}, {"type": "error"}),
]


@pytest.mark.parametrize(("name", "make"), [("claude", Claude), ("codex", Codex)])
def test_events_of_another_shape_are_passed_over(program: Program, name: str, make: type[Claude | Codex]) -> None:
    program(name, EDIT, [*STRANGE, "\ud800".encode("utf-8", "replace").decode()])
    draft = work(make(), request())
    assert draft.proposal is None and draft.usage.usd is None
    program(name, EDIT, [*STRANGE, claude_result(), *codex_events(codex_item("agent_message", text=SAID))])
    assert work(make(), request()).proposal is not None


def test_an_event_in_a_flood_is_not_lost(program: Program) -> None:
    flood = FLOOD.format(megabytes=20, piece="b'noise and noise\\n'")
    for after in (f"print(flush=True)\n{flood}", ""):
        program("claude", EDIT + f"{flood}print({json.dumps(claude_result())!r}, end='', flush=True)\n{after}", [])
        draft = work(Claude(), request())
        assert draft.proposal is not None and draft.usage.usd == 0.0125
