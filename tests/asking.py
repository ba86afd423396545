"""Asking the API proposers for drafts of a small file, with a scripted model as the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from research_loop.proposers import api, wire
from research_loop.proposers.drafting import Request
from research_loop.records import Checkout, Draft, Files, Usage
from research_loop.testing.models import Asked, Call, ScriptedModel, Turn

KEY = "sk-dummy-0123456789abcdef"
TRAIN = ("# tränen\nDEPTH = 8\nWIDTH = 64\n" + "x = DEPTH\n" * 3).encode()
FILES = {"train.py": TRAIN, "other.py": b"A = 1"}
WORDS = {"what": "DEPTH 12", "why": "deeper is better", "risk": "memory"}
EDIT = {"path": "train.py", "search": "DEPTH = 8\n", "replace": "DEPTH = 12  # ü\n"}
EDITED = TRAIN.replace(b"DEPTH = 8\n", "DEPTH = 12  # ü\n".encode())
GOOD = {**WORDS, "edits": [EDIT]}
FREE = Usage(0, 0, 0.0, "estimated")
"""Of a draft that no model worked on."""
BOTH = pytest.mark.parametrize("vendor", ["anthropic", "openai"])

Drafted = Callable[..., tuple[Draft, list[Asked]]]


def call(answer: Any = GOOD) -> Turn:
    return Turn(calls=(Call("propose", answer),))


def edit(**changes: object) -> Turn:
    return call({**WORDS, "edits": [{**EDIT, **changes}]})


def completion(message: dict[str, Any], *, reason: str = "stop", **more: Any) -> Turn:
    """An answer in OpenAI's format, as it is."""
    return Turn(body=json.dumps({"choices": [{"message": message, "finish_reason": reason}], **more}).encode())


def arguments(text: str, **more: Any) -> Turn:
    return completion({"tool_calls": [{"function": {"name": "propose", "arguments": text}}]}, **more)


def said(asked: Asked) -> str:
    """The last message of a request."""
    return str(asked.body["messages"][-1]["content"])


def system(asked: Asked) -> str:
    """What a request tells the model before the talk."""
    return str(asked.body.get("system") or asked.body["messages"][0]["content"])


def request(**more: Any) -> Request:
    return Request(**{"checkout": Checkout(3, FILES), "brief": "the brief", "check": accept, "seconds": 20.0, **more})


def accept(files: Files) -> None:
    assert set(files) == set(FILES), "checked are all editable files"


def at(monkeypatch: pytest.MonkeyPatch, vendor: str, url: str, model: str = "m") -> Any:
    """A drafter that asks the server at `url`."""
    monkeypatch.setenv(f"{vendor.upper()}_BASE_URL", url + ("/v1" if vendor == "openai" else ""))
    return getattr(api, vendor)(model)


def ready(monkeypatch: pytest.MonkeyPatch) -> Drafted:
    """Keys, no servers, and waits that are short at first. Asks a scripted model for one draft: what came of it, and
    the requests."""
    for vendor in ("ANTHROPIC", "OPENAI"):
        monkeypatch.delenv(f"{vendor}_BASE_URL", raising=False)
        monkeypatch.setenv(f"{vendor}_API_KEY", KEY)
    monkeypatch.setattr(wire, "FIRST_WAIT_SECONDS", 0.05)

    def drafted(vendor: str, *turns: Turn, model: str = "m", **more: Any) -> tuple[Draft, list[Asked]]:
        with ScriptedModel(turns) as server:
            return at(monkeypatch, vendor, server.url, model).draft(request(**more)), server.asked

    return drafted
