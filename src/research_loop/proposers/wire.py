"""How models are asked over HTTP: the wire formats of Anthropic's messages and of OpenAI's chat completions.

A conversation is plain text on both sides, also where a model answered by a tool: it is the same in both formats, and
for servers that know no tools. Formats as in the vendors' references of their APIs.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import httpx

from research_loop.proposers.answers import SCHEMA, TOOL

MOST_TOKENS: Final = 16_000
"""Of one answer: enough for a whole file of 32 KB."""
LARGEST_BYTES: Final = 4_000_000
CONNECT_SECONDS: Final = 10.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
_GLANCE_SECONDS: Final = 0.05
_LARGEST_COUNT: Final = 2**53
_PURPOSE: Final = "Propose one change of the files."


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: `talk` are messages of alternating roles; `limit` is the server's name for the `most` tokens."""

    model: str
    system: str
    talk: Sequence[dict[str, str]]
    tools: bool
    limit: str
    most: int = MOST_TOKENS


@dataclass(frozen=True, slots=True)
class Spent:
    """What a server says an answer took; `cached` are those of `tokens_in` that were read from its cache."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int = 0
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's text, the arguments of its calls of the tool as JSON, and whether it came to its limit."""

    text: str
    calls: tuple[str, ...]
    cut: bool
    spent: Spent


class Wire(Protocol):
    """A format, and where its vendor's server and the user's key are found."""

    vendor: str
    home: str
    path: str
    base_variable: str
    key_variable: str
    limit: str
    """The vendor's own name of the most tokens; other servers say max_tokens."""

    def headers(self, key: str) -> dict[str, str]: ...

    def body(self, ask: Ask) -> dict[str, Any]: ...

    def answer(self, data: dict[str, Any]) -> Answer | None:
        """None where the data is not an answer."""


class Messages:
    """Anthropic's."""

    vendor, home, path = "anthropic", "https://api.anthropic.com", "/v1/messages"
    base_variable, key_variable = "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"
    limit = "max_tokens"

    def headers(self, key: str) -> dict[str, str]:
        return {"anthropic-version": "2023-06-01", **({"x-api-key": key} if key else {})}

    def body(self, ask: Ask) -> dict[str, Any]:
        tool = {"name": TOOL, "description": _PURPOSE, "input_schema": SCHEMA}
        tools = {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}} if ask.tools else {}
        return {"model": ask.model, ask.limit: ask.most, "system": ask.system, "messages": [*ask.talk], **tools}

    def answer(self, data: dict[str, Any]) -> Answer | None:
        if not isinstance(data.get("content"), list):
            return None
        blocks = _dicts(data["content"])
        calls = [_json(b.get("input")) for b in blocks if b.get("type") == "tool_use" and b.get("name") == TOOL]
        cut = data.get("stop_reason") in ("max_tokens", "model_context_window_exceeded")
        return Answer(_spoken(blocks), tuple(calls), cut, self._spent(_dict(data.get("usage"))))

    def _spent(self, usage: dict[str, Any]) -> Spent:
        read, written = _count(usage.get("cache_read_input_tokens")), _count(usage.get("cache_creation_input_tokens"))
        fresh = _count(usage.get("input_tokens"))
        into = None if fresh is None else fresh + (read or 0) + (written or 0)
        return Spent(into, _count(usage.get("output_tokens")), read or 0, _money(usage.get("cost")))


class Completions:
    """OpenAI's, which most other servers speak, too."""

    vendor, home, path = "openai", "https://api.openai.com/v1", "/chat/completions"
    base_variable, key_variable = "OPENAI_BASE_URL", "OPENAI_API_KEY"
    limit = "max_completion_tokens"

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        function = {"name": TOOL, "description": _PURPOSE, "parameters": SCHEMA}
        choice = {"type": "function", "function": {"name": TOOL}}
        tools = {"tools": [{"type": "function", "function": function}], "tool_choice": choice} if ask.tools else {}
        messages = [{"role": "system", "content": ask.system}, *ask.talk]
        return {"model": ask.model, ask.limit: ask.most, "messages": messages, **tools}

    def answer(self, data: dict[str, Any]) -> Answer | None:
        choices = _dicts(data.get("choices"))
        if not choices:
            return None
        message = _dict(choices[0].get("message"))
        functions = [_dict(call.get("function")) for call in _dicts(message.get("tool_calls"))]
        calls = [_json(function.get("arguments")) for function in functions if function.get("name") == TOOL]
        text = _spoken(message.get("content")) or _spoken(message.get("refusal"))
        cut = choices[0].get("finish_reason") == "length"
        return Answer(text, tuple(calls), cut, self._spent(_dict(data.get("usage"))))

    def _spent(self, usage: dict[str, Any]) -> Spent:
        details = _dict(usage.get("prompt_tokens_details"))
        into, read = _count(usage.get("prompt_tokens")), _count(details.get("cached_tokens"))
        return Spent(into, _count(usage.get("completion_tokens")), read or 0, _money(usage.get("cost")))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _json(arguments: object) -> str:
    """Arguments of a call as JSON, which is what they are where they came as a text."""
    try:
        return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    except RecursionError:
        return ""


def _spoken(content: object) -> str:
    """The text of a content, which is one or a list of blocks, some with text."""
    texts = [content] if isinstance(content, str) else [block.get("text") for block in _dicts(content)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _LARGEST_COUNT else None


def _money(value: object) -> float | None:
    known = type(value) in (int, float) and 0 <= value < _LARGEST_COUNT  # type: ignore[operator]
    return float(value) if known else None  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ the line


OVER: Final = "no answer within the time of a draft"
"""The fault of a reply that the time's end came before."""
UNUSABLE: Final = "the address of the server or of a proxy cannot be used"
"""The fault of a reply whose request could not even be tried. The address is not shown: it may hold a password."""


class StoppedError(Exception):
    """Nobody waits for the draft any more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request. `status` is 0 where none came; `fault` says why there is no whole body."""

    status: int
    body: bytes = b""
    fault: str = ""
    retry_after_seconds: float = 0.0

    def data(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one where it is none."""
        try:
            return _dict(json.loads(self.body))
        except (ValueError, RecursionError):
            return {}


class Line:
    """One HTTP client for one draft. `stopped` and the time's end also end a request that is under way: an
    asynchronous one can be called off whatever it waits for, a blocking one cannot.

    Made with `until`, a time of `time.monotonic`; raises OSError, ValueError or ImportError where the environment names
    a proxy or certificates that cannot be used.
    """

    def __init__(self, url: str, headers: dict[str, str], until: float, stopped: threading.Event) -> None:
        self.url, self.until, self.stopped, self.sent = url, until, stopped, False
        self._connecting = False
        # redirects are not followed, since they would take the key to another server
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        try:
            self._client = httpx.AsyncClient(headers=headers, timeout=timeout, follow_redirects=False)
        except (httpx.InvalidURL, ValueError):  # not quoted, since a proxy's URL may hold a password
            raise ValueError("a proxy's URL is none of http, https or socks5") from None
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()  # waits for no name that is still being looked up; Python does, where it ends meanwhile

    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.until - time.monotonic())

    def post(self, body: dict[str, Any]) -> Reply:
        """One request, no retries; `sent` says whether it left as a whole. Raises StoppedError."""
        self.sent = False
        return self._loop.run_until_complete(self._watched(self._post(json.dumps(body).encode())))

    def pause(self, tried: int, reply: Reply) -> bool:
        """Wait before the next try: longer each time, by chance, and as long as the server asked for.

        False where no time is left. Raises StoppedError.
        """
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(tried - 1, 10))
        wait = max(longest * random.uniform(0.5, 1.0), reply.retry_after_seconds)
        if self.stopped.wait(min(wait, self.left())):
            raise StoppedError
        return self.left() > 0

    async def _watched(self, work: Coroutine[None, None, Reply]) -> Reply:
        task = asyncio.ensure_future(work)
        while self.left() and not self.stopped.is_set():
            done, _ = await asyncio.wait({task}, timeout=min(_GLANCE_SECONDS, self.left()))
            if done:
                return task.result()
        task.cancel()
        await asyncio.wait({task})
        if self.stopped.is_set():
            raise StoppedError
        return Reply(0, fault=OVER)

    async def _post(self, content: bytes) -> Reply:
        """A server that cannot be reached or hangs up is a reply, too."""
        try:
            options: dict[str, Any] = {"headers": {"Content-Type": "application/json"}, "content": content}
            async with self._client.stream("POST", self.url, extensions={"trace": self._trace}, **options) as response:
                body, fault = await _body(response)
                return Reply(response.status_code, body, fault, _retry_after(response.headers.get("Retry-After", "")))
        except (httpx.HTTPError, OSError) as error:
            return Reply(0, fault=f"{type(error).__name__}: {error}")
        except (httpx.InvalidURL, ExceptionGroup):  # a group is anyio's way to say that a port is too large
            return Reply(0, fault=UNUSABLE)

    async def _trace(self, event: str, info: dict[str, Any]) -> None:
        """httpx's own word of how far a request came; what only asks a proxy for a connection is none."""
        if event.endswith("send_request_headers.started"):
            self._connecting = info["request"].method == b"CONNECT"
        self.sent = self.sent or (event.endswith("send_request_body.complete") and not self._connecting)


async def _body(response: httpx.Response) -> tuple[bytes, str]:
    """What came of it, and why it is not whole."""
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > LARGEST_BYTES:
                return b"", f"the answer is larger than {LARGEST_BYTES:,} bytes"
    except (httpx.HTTPError, OSError) as error:
        return bytes(body), f"the answer was cut off ({type(error).__name__})"
    return bytes(body), ""


def _retry_after(value: str) -> float:
    """Seconds from now, of a header with seconds or a date; 0 where it says nothing that makes sense."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return 0.0
    return max(0.0, seconds)  # 0 for one that is no number, too
