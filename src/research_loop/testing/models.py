"""A scripted stand-in for a model's API on loopback: for tests of whoever talks to one, without a network or a key.

It speaks the wire formats that most of them know, streamed or whole: Anthropic's messages (`/v1/messages`), OpenAI's
chat completions (`/v1/chat/completions`) and its responses (`/v1/responses`), and Google's contents
(`/v1beta/models/MODEL:generateContent`, or `:streamGenerateContent`). What it answers is a list of turns, one a
request; what it was asked is kept. It can fail as real servers do: an error with a status, an answer cut off, none.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from research_loop.testing.loopback import Loopback

MODEL = "scripted"
USAGE = (1000, 100)
"""Tokens that every answer claims, in and out."""


@dataclass(frozen=True, slots=True)
class Call:
    """A model's wish to use a tool; with OpenAI's responses space/tool is a tool in a name space."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer: a text, tool calls, or both; or one of the ways to fail.

    `status` other than 200 is an error with `text` as its message. `seconds` pass before anything is sent. `cut` ends
    the connection after so many bytes of the body. `body` is sent as it is, in place of one made of text and calls.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    status: int = 200
    seconds: float = 0.0
    cut: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: path, headers with names in lower case, and the body."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class ScriptedModel:
    """A context manager: the server listens while it is open. `turns` are answered in order, the last one for ever.

    Requests that offer no tools, where `with_tools` is set, get a word and use up no turn: agents ask for a title.
    """

    def __init__(self, turns: Sequence[Turn], *, with_tools: bool = False) -> None:
        self.turns, self.with_tools = list(turns), with_tools
        self.asked: list[Asked] = []
        self._used, self._lock = 0, threading.Lock()
        self._server = Loopback(_handler(self))

    @property
    def url(self) -> str:
        """Of the server, without a path."""
        return self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stop()

    def next(self, asked: Asked) -> tuple[Turn, int]:
        """The turn that answers this request, which is kept, and the request's number."""
        with self._lock:
            self.asked.append(asked)
            if self.with_tools and not asked.body.get("tools"):
                return Turn("a title"), len(self.asked)
            self._used += 1
            return self.turns[min(self._used, len(self.turns)) - 1], len(self.asked)


def _handler(model: ScriptedModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            path = self.path.partition("?")[0]
            asked = Asked(path, {name.lower(): value for name, value in self.headers.items()}, body)
            turn, number = model.next(asked)
            time.sleep(turn.seconds)
            kind, data = _answer(asked, turn, number)
            status = turn.status if _format(path) else 404
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **turn.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data if turn.cut is None else data[: turn.cut])
            self.close_connection = turn.cut is not None

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    return Handler


def _answer(asked: Asked, turn: Turn, number: int) -> tuple[str, bytes]:
    """Content type and body; `number` makes the names of calls unique."""
    if turn.body is not None:
        return "application/json", turn.body
    form = _format(asked.path)
    if turn.status != 200 or form is None:
        return "application/json", json.dumps({"error": {"type": "error", "message": turn.text}}).encode()
    whole, events = form
    if not asked.body.get("stream") and not asked.path.endswith(":streamGenerateContent"):
        return "application/json", json.dumps(whole(turn, number)).encode()
    return "text/event-stream", "".join(events(turn, number)).encode()


# ------------------------------------------------------------------------------------------------ Anthropic's messages


def _message(turn: Turn, number: int) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text else []
    for i, call in enumerate(turn.calls):
        blocks.append({"type": "tool_use", "id": f"toolu_{number}_{i}", "name": call.tool, "input": call.arguments})
    return {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": blocks,
        "stop_reason": "tool_use" if turn.calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": USAGE[0], "output_tokens": USAGE[1]},
    }


def _message_events(turn: Turn, number: int) -> Iterator[str]:
    def event(kind: str, **more: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"

    message = _message(turn, number)
    yield event("message_start", message={**message, "content": [], "stop_reason": None})
    for i, block in enumerate(message["content"]):
        if block["type"] == "text":
            start: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield event("content_block_start", index=i, content_block=start)
        yield event("content_block_delta", index=i, delta=delta)
        yield event("content_block_stop", index=i)
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={"output_tokens": USAGE[1]})
    yield event("message_stop")


# -------------------------------------------------------------------------------------------- OpenAI's chat completions


def _completion(turn: Turn, number: int) -> dict[str, Any]:
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [
            {"index": 0, "message": {"role": "assistant", **_spoken(turn, number)}, "finish_reason": _reason(turn)}
        ],
        "usage": _usage(),
    }


def _completion_events(turn: Turn, number: int) -> Iterator[str]:
    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> str:
        head = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n"

    spoken = _spoken(turn, number)
    for i, call in enumerate(spoken.get("tool_calls", ())):
        call["index"] = i
    yield chunk({"role": "assistant", **spoken})
    yield chunk({}, _reason(turn), usage=_usage())
    yield "data: [DONE]\n\n"


def _spoken(turn: Turn, number: int) -> dict[str, Any]:
    if not turn.calls:
        return {"content": turn.text}
    functions = [{"name": call.tool, "arguments": json.dumps(call.arguments)} for call in turn.calls]
    calls = [
        {"id": f"call_{number}_{i}", "type": "function", "function": function} for i, function in enumerate(functions)
    ]
    return {"content": turn.text or None, "tool_calls": calls}


def _reason(turn: Turn) -> str:
    return "tool_calls" if turn.calls else "stop"


def _usage() -> dict[str, int]:
    return {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)}


# --------------------------------------------------------------------------------------------------- OpenAI's responses


def _response(turn: Turn, number: int) -> dict[str, Any]:
    said = {"type": "message", "role": "assistant", "id": f"msg_{number}", "status": "completed"}
    items: list[dict[str, Any]] = [{**said, "content": [_output(turn.text)]}] if turn.text else []
    for i, call in enumerate(turn.calls):
        space, _, name = call.tool.rpartition("/")
        named = {"name": name, **({"namespace": space} if space else {})}
        ids = {"id": f"fc_{number}_{i}", "call_id": f"call_{number}_{i}", "status": "completed"}
        items.append({"type": "function_call", **ids, **named, "arguments": json.dumps(call.arguments)})
    usage = {"input_tokens": USAGE[0], "output_tokens": USAGE[1], "total_tokens": sum(USAGE)}
    head = {"id": f"resp_{number}", "object": "response", "created_at": 0, "model": MODEL, "status": "completed"}
    return {**head, "output": items, "usage": usage}


def _output(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _response_events(turn: Turn, number: int) -> Iterator[str]:
    def event(kind: str, **more: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"

    response = _response(turn, number)
    yield event("response.created", response={**response, "output": [], "status": "in_progress"})
    for i, item in enumerate(response["output"]):
        yield event("response.output_item.added", output_index=i, item=item)
        yield event("response.output_item.done", output_index=i, item=item)
    yield event("response.completed", response=response)


# --------------------------------------------------------------------------------------------------- Google's contents


def _content(turn: Turn, number: int) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": turn.text}] if turn.text else []
    for i, call in enumerate(turn.calls):
        parts.append({"functionCall": {"id": f"call_{number}_{i}", "name": call.tool, "args": call.arguments}})
    counts = {"promptTokenCount": USAGE[0], "candidatesTokenCount": USAGE[1], "totalTokenCount": sum(USAGE)}
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": MODEL}


def _content_events(turn: Turn, number: int) -> Iterator[str]:
    """A part a chunk; the reason to finish and the tokens stand in the last one."""
    whole = _content(turn, number)
    (candidate,) = whole["candidates"]
    for part in candidate["content"]["parts"]:
        content = {"role": "model", "parts": [part]}
        yield f"data: {json.dumps({'candidates': [{'content': content, 'index': 0}], 'modelVersion': MODEL})}\n\n"
    candidate["content"] = {"role": "model", "parts": [{"text": ""}]}
    yield f"data: {json.dumps(whole)}\n\n"


Format = tuple[Callable[[Turn, int], dict[str, Any]], Callable[[Turn, int], Iterator[str]]]
FORMATS: dict[str, Format] = {
    "/v1/messages": (_message, _message_events),
    "/v1/chat/completions": (_completion, _completion_events),
    "/v1/responses": (_response, _response_events),
}
GOOGLE = re.compile(r"/v1(beta)?/models/[^/]+:(streamG|g)enerateContent")


def _format(path: str) -> Format | None:
    """How an answer to that path is written, whole and in events."""
    return (_content, _content_events) if GOOGLE.fullmatch(path) else FORMATS.get(path)
