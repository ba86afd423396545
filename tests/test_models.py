"""The scripted model servers speak four wire formats and fail as real servers do."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

import httpx
import pytest

from research_loop.testing.models import Call, ScriptedModel, Turn

EDIT = Call("edit", {"path": "train.py", "new": 'a "quoted"\nline'})
ANTHROPIC, OPENAI, RESPONSES = "/v1/messages", "/v1/chat/completions", "/v1/responses"
GOOGLE = "/v1beta/models/any:generateContent"


def ask(model: ScriptedModel, path: str, **body: object) -> Any:
    return httpx.post(model.url + path, json={"model": "any", **body}, headers={"X-Api-Key": "dummy"}).json()


def events(model: ScriptedModel, path: str) -> list[Any]:
    """Data of a streamed answer, less its end mark."""
    with httpx.stream("POST", model.url + path, json={"stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_turns_are_answered_in_order_and_the_last_for_ever_and_requests_are_kept() -> None:
    with ScriptedModel([Turn("one"), Turn("two")]) as model:
        texts = [ask(model, ANTHROPIC, n=n)["content"][0]["text"] for n in range(3)]
        assert texts == ["one", "two", "two"]
        assert [asked.body["n"] for asked in model.asked] == [0, 1, 2]
        assert model.asked[0].path == ANTHROPIC and model.asked[0].headers["x-api-key"] == "dummy"


def test_anthropics_format_has_text_calls_usage_and_the_same_streamed() -> None:
    with ScriptedModel([Turn("so", (EDIT, EDIT))]) as model:
        whole = ask(model, ANTHROPIC)
        assert [block["type"] for block in whole["content"]] == ["text", "tool_use", "tool_use"]
        assert whole["content"][1]["input"] == EDIT.arguments and whole["stop_reason"] == "tool_use"
        assert whole["content"][1]["id"] != whole["content"][2]["id"] and whole["usage"]["input_tokens"] == 1000
        parts = events(model, ANTHROPIC)
        assert [part["type"] for part in parts][:2] == ["message_start", "content_block_start"]
        deltas = [part["delta"] for part in parts if part["type"] == "content_block_delta"]
        assert deltas[0] == {"type": "text_delta", "text": "so"}
        assert json.loads(deltas[1]["partial_json"]) == EDIT.arguments
        assert parts[-2]["delta"]["stop_reason"] == "tool_use" and parts[-1]["type"] == "message_stop"


def test_openais_format_has_text_calls_usage_and_the_same_streamed() -> None:
    with ScriptedModel([Turn("so", (EDIT,)), Turn("so", (EDIT,)), Turn("end")]) as model:
        choice = ask(model, OPENAI)["choices"][0]
        function = choice["message"]["tool_calls"][0]["function"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("so", "tool_calls")
        assert function["name"] == "edit" and json.loads(function["arguments"]) == EDIT.arguments
        first, last = events(model, OPENAI)
        assert first["choices"][0]["delta"]["tool_calls"][0]["index"] == 0
        assert last["choices"][0]["finish_reason"] == "tool_calls" and last["usage"]["total_tokens"] == 1100
        assert ask(model, OPENAI)["choices"][0]["finish_reason"] == "stop"


def test_openais_responses_have_text_calls_usage_and_the_same_streamed() -> None:
    with ScriptedModel([Turn("so", (EDIT, Call("space/tool", {})))]) as model:
        message, edit, other = ask(model, RESPONSES)["output"]
        assert message["content"][0]["text"] == "so" and json.loads(edit["arguments"]) == EDIT.arguments
        assert "namespace" not in edit and (other["namespace"], other["name"]) == ("space", "tool")
        assert edit["call_id"] != other["call_id"]
        parts = events(model, RESPONSES)
        assert [part["item"]["type"] for part in parts if part["type"] == "response.output_item.done"] == [
            "message",
            "function_call",
            "function_call",
        ]
        assert parts[-1]["response"]["usage"]["total_tokens"] == 1100


def test_googles_contents_have_text_calls_usage_and_the_same_streamed() -> None:
    with ScriptedModel([Turn("so", (EDIT, EDIT))]) as model:
        whole = ask(model, GOOGLE)
        text, edit, other = whole["candidates"][0]["content"]["parts"]
        assert text == {"text": "so"} and edit["functionCall"]["args"] == EDIT.arguments
        assert edit["functionCall"]["id"] != other["functionCall"]["id"]
        assert whole["usageMetadata"]["totalTokenCount"] == 1100
        parts = events(model, "/v1beta/models/any:streamGenerateContent?alt=sse")
        assert parts[0]["candidates"][0]["content"]["parts"] == [{"text": "so"}]
        assert parts[1]["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == EDIT.arguments
        assert [part["candidates"][0].get("finishReason") for part in parts] == [None, None, None, "STOP"]
        assert parts[-1]["usageMetadata"]["promptTokenCount"] == 1000


@pytest.mark.parametrize("path", [ANTHROPIC, OPENAI, RESPONSES, GOOGLE])
def test_errors_slow_and_broken_answers_are_those_of_the_script(path: str) -> None:
    turns = [Turn("too many", status=429, headers={"Retry-After": "7"}), Turn("late", seconds=0.5), Turn("cut", cut=20)]
    with ScriptedModel(turns) as model:
        limited = httpx.post(model.url + path, json={})
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
        assert limited.json()["error"]["message"] == "too many"
        began = time.monotonic()
        assert ask(model, path) and time.monotonic() - began >= 0.5
        with pytest.raises(httpx.RemoteProtocolError):
            ask(model, path)


def test_another_path_is_not_found() -> None:
    with ScriptedModel([Turn("one")]) as model:
        assert httpx.post(model.url + "/v2/other", json={}).status_code == 404


def test_a_request_without_tools_uses_up_no_turn_where_that_is_asked_for() -> None:
    with ScriptedModel([Turn("one")], with_tools=True) as model:
        assert ask(model, ANTHROPIC)["content"][0]["text"] == "a title"
        assert ask(model, ANTHROPIC, tools=[{}])["content"][0]["text"] == "one"


def test_two_servers_at_once_have_their_own_scripts_and_none_is_left() -> None:
    with ScriptedModel([Turn("one")]) as one, ScriptedModel([Turn("two")]) as two:
        texts = [ask(model, ANTHROPIC)["content"][0]["text"] for model in (two, one)]
        assert texts == ["two", "one"]
    with pytest.raises(httpx.ConnectError):
        ask(one, ANTHROPIC)


def test_a_client_that_hangs_up_is_no_fault(capfd: pytest.CaptureFixture[str]) -> None:
    with ScriptedModel([Turn("x" * 10_000_000, seconds=0.2)]) as model:
        with socket.create_connection(("127.0.0.1", int(model.url.rpartition(":")[2]))) as client:
            client.sendall(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.5)
    assert capfd.readouterr().err == ""
