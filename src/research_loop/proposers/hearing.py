"""What agents say while they work: their own events, in JSON lines, and the words that belong to a proposal.

Anybody may have written it: whatever has another shape than expected is passed over, and all text is made harmless.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from research_loop.plain import plain
from research_loop.proposers.prices import estimate
from research_loop.records import Usage

SEARCHED_CHARACTERS = 64 * 1024
"""At the end of a text: words stand there, and a text made to be slow to search stays cheap."""
LONGEST_TROUBLE = 300
NAMED = 5
_OPENING = re.compile(r'\{\s*"')
_DECODER = json.JSONDecoder(strict=False)


class Words(NamedTuple):
    """What a proposal changes, why that should help, and what may go wrong; one line each."""

    what: str
    why: str
    risk: str


LONGEST_WORDS = {"what": 300, "why": 1000, "risk": 1000}


def find_words(text: str) -> Words | None:
    """Those of the last JSON object in a text that has all three, in a fence or not."""
    text = text[-SEARCHED_CHARACTERS:]
    for opening in reversed(list(_OPENING.finditer(text))):
        try:
            found, _ = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        words = Words(*(one_line(_text(found.get(key)), longest) for key, longest in LONGEST_WORDS.items()))
        if all(words):
            return words
    return None


def one_line(text: str, longest: int = LONGEST_TROUBLE) -> str:
    """A text's words, harmless, and not too many of them."""
    words = " ".join(plain(text[: 4 * longest]).split())
    return words if len(words) <= longest else words[: longest - 3] + "..."


@dataclass(frozen=True, slots=True)
class Tokens:
    """Read in all, written, and those of the read ones that came from a cache."""

    read: int = 0
    written: int = 0
    cached: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.read + other.read, self.written + other.written, self.cached + other.cached)

    def usage(self, model: str) -> Usage:
        """With an estimated price; nothing is known of what no token was said of."""
        if self == Tokens():
            return Usage()
        usd = estimate(model, self.read, self.written, self.cached) if model else None
        return Usage(self.read, self.written, usd, "unknown" if usd is None else "estimated")


class Heard:
    """What was heard of an agent: here of one of which nothing is known but that it prints text.

    `session` is its own name for the conversation, `trouble` why it came to a bad end, `refused` what it was not let
    do, `cure` what helps where it could not edit at all.
    """

    cure = ""

    def __init__(self, folder: Path, model: str = "") -> None:
        self.session = self.trouble = ""
        self._folder, self._model = folder, model
        self._refused: dict[str, None] = {}

    def hear(self, line: bytes) -> None:
        """Take one line that looks like a JSON object."""

    def words(self, printed: str) -> Words | None:
        """Those of its proposal, where `printed` is the end of all it printed."""
        return find_words(printed)

    @property
    def usage(self) -> Usage:
        """As far as it was said."""
        return Usage()

    @property
    def refused(self) -> str:
        named = list(self._refused)
        return f"{', '.join(named[:NAMED])} and more" if len(named) > NAMED else ", ".join(named)

    def _refuse(self, what: str, path: str) -> None:
        if len(self._refused) <= NAMED:
            self._refused[one_line(f"{what} {path.removeprefix(f'{self._folder}/')}".strip(), 120)] = None


class _Events(Heard):
    """One that prints a JSON object a line; what counts is its last message."""

    said = ""

    def words(self, printed: str) -> Words | None:
        return find_words(self.said)

    def hear(self, line: bytes) -> None:
        try:
            event = json.loads(line.decode(errors="replace"))
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict):
            self._take(event)

    def _take(self, event: Mapping[str, Any]) -> None:
        raise NotImplementedError


class ClaudeHeard(_Events):
    """`claude --output-format stream-json`: messages, and a result with cost and refused rights at the end."""

    def __init__(self, folder: Path, model: str = "") -> None:
        super().__init__(folder, model)
        self._message, self._usd = "", -1.0
        self._before = self._in_message = Tokens()

    @property
    def usage(self) -> Usage:
        """The result's; where none came, for it was ended, that of the messages, which cost as much all the same."""
        tokens = self._before + self._in_message
        return (
            Usage(tokens.read, tokens.written, self._usd, "reported") if self._usd >= 0 else tokens.usage(self._model)
        )

    def _take(self, event: Mapping[str, Any]) -> None:
        self.session = one_line(_text(event.get("session_id"))) or self.session
        if event.get("type") == "assistant" and not event.get("parent_tool_use_id"):
            self._take_message(_mapping(event.get("message")))
        elif event.get("type") == "result":
            self._take_result(event)

    def _take_message(self, message: Mapping[str, Any]) -> None:
        """A part of one; parts of one message repeat its tokens."""
        texts = [_text(_mapping(block).get("text")) for block in _list(message.get("content"))]
        self.said = "\n".join(filter(None, texts)) or self.said
        self._model = _text(message.get("model")) or self._model
        if _text(message.get("id")) != self._message:
            self._before += self._in_message
            self._message = _text(message.get("id"))
        self._in_message = _claude_tokens(message.get("usage"))

    def _take_result(self, event: Mapping[str, Any]) -> None:
        kind, text = _text(event.get("subtype")), _text(event.get("result"))
        if event.get("is_error") or kind != "success":
            reasons = (text, *map(_text, _list(event.get("errors"))), kind, "it failed")
            self.trouble = one_line(next(filter(None, reasons)))
        else:
            self.said = text or self.said
        for denial in map(_mapping, _list(event.get("permission_denials"))):
            self._refuse(_text(denial.get("tool_name")), _text(_mapping(denial.get("tool_input")).get("file_path")))
        usd = event.get("total_cost_usd")
        if (tokens := _claude_tokens(event.get("usage"))) != Tokens():  # it has none where its budget was the end
            self._before, self._in_message = Tokens(), tokens
        self._usd = float(usd) if isinstance(usd, int | float) and 0 <= usd < 1e9 else -1.0


class CodexHeard(_Events):
    """`codex exec --json`: items as they are done, and tokens, without a price, at the end of its turn."""

    cure = "Codex writes only where user name spaces are allowed and CODEX_HOME is not below /tmp"

    def __init__(self, folder: Path, model: str = "") -> None:
        super().__init__(folder, model)
        self._tokens = Tokens()

    @property
    def usage(self) -> Usage:
        return self._tokens.usage(self._model)

    def _take(self, event: Mapping[str, Any]) -> None:
        match event.get("type"):
            case "thread.started":
                self.session = one_line(_text(event.get("thread_id")))
            case "item.completed":
                self._take_item(_mapping(event.get("item")))
            case "error":
                self.trouble = one_line(_text(event.get("message")))
            case "turn.failed":
                self.trouble = one_line(_text(_mapping(event.get("error")).get("message"))) or "its turn failed"
            case "turn.completed":
                self.trouble = ""
                used = _mapping(event.get("usage"))
                read, cached = _count(used.get("input_tokens")), _count(used.get("cached_input_tokens"))
                self._tokens = Tokens(read, _count(used.get("output_tokens")), cached)

    def _take_item(self, item: Mapping[str, Any]) -> None:
        if item.get("type") == "agent_message":
            self.said = _text(item.get("text")) or self.said
        elif item.get("type") == "file_change" and item.get("status") == "failed":
            for change in map(_mapping, _list(item.get("changes"))):
                self._refuse("change of", _text(change.get("path")))


def _claude_tokens(said: object) -> Tokens:
    used = _mapping(said)
    cached = _count(used.get("cache_read_input_tokens"))
    fresh = _count(used.get("input_tokens")) + _count(used.get("cache_creation_input_tokens"))
    return Tokens(fresh + cached, _count(used.get("output_tokens")), cached)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0
