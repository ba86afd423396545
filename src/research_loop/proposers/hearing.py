"""What agents say while they work: their own events, in JSON lines, and the words that belong to a proposal.

Anybody may have written it: whatever has another shape than expected is passed over, and all text is made harmless.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from research_loop.plain import plain
from research_loop.proposers.prices import estimate
from research_loop.records import Usage

SEARCHED_CHARACTERS = 64 * 1024
"""At the end of a text: words stand there, and a text made to be slow to search stays cheap."""
MOST_OPENINGS = 200
"""Braces of such a text from which it is tried to read an object."""
LONGEST_TROUBLE = 300
NAMED = 5
MOST_TOKENS = 2**40
"""Of one draft, and in any one count: larger ones are no counts, and sums of many drafts stay numbers of SQLite's."""
CHARACTERS_A_TOKEN = 4
"""At most, in what a model writes: for a lower bound."""
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
    last = min(text.rfind(f'"{key}"') for key in LONGEST_WORDS)
    openings = [opening.start() for opening in _OPENING.finditer(text, 0, max(last + 1, 0))]
    for start in reversed(openings[-MOST_OPENINGS:]):
        try:
            found, _ = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        words = Words(*(one_line(as_text(found.get(key)), longest) for key, longest in LONGEST_WORDS.items()))
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
        sums = (self.read + other.read, self.written + other.written, self.cached + other.cached)
        return Tokens(*(min(count, MOST_TOKENS) for count in sums))

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

    def words(self, *printed: str) -> Words | None:
        """Those of its proposal, where `printed` are the ends of all it printed, the likelier one first."""
        return next(filter(None, map(find_words, printed)), None)

    def spoke(self, *printed: str) -> bool:
        """Whether it said anything."""
        return any(text.strip() for text in printed)

    @property
    def usage(self) -> Usage:
        """As far as it was said."""
        return Usage()

    @property
    def refused(self) -> str:
        named = list(self._refused)
        return f"{', '.join(named[:NAMED])} and more" if len(named) > NAMED else ", ".join(named)

    def refuse(self, what: str, path: str) -> None:
        """Note what it was not let do."""
        if len(self._refused) <= NAMED:
            self._refused[one_line(f"{what} {path.removeprefix(f'{self._folder}/')}".strip(), 120)] = None


class _Events(Heard, ABC):
    """One that prints a JSON object a line; what counts is its last message."""

    said = ""

    def words(self, *printed: str) -> Words | None:
        return find_words(self.said)

    def spoke(self, *printed: str) -> bool:
        return bool(self.said)

    def hear(self, line: bytes) -> None:
        try:
            event = json.loads(line.decode(errors="replace"))
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict):
            self._take(event)

    @abstractmethod
    def _take(self, event: Mapping[str, Any]) -> None:
        """One event that is a JSON object."""


class ClaudeHeard(_Events):
    """`claude --output-format stream-json`: messages, and a result with cost and refused rights at the end."""

    def __init__(self, folder: Path, model: str = "") -> None:
        super().__init__(folder, model)
        self._message, self._characters, self._usd = "", 0, -1.0
        self._before = self._in_message = Tokens()

    @property
    def usage(self) -> Usage:
        """The result's; where none came, for it was ended, that of the messages, which cost as much all the same."""
        tokens = self._before + self._in_message
        return (
            Usage(tokens.read, tokens.written, self._usd, "reported") if self._usd >= 0 else tokens.usage(self._model)
        )

    def _take(self, event: Mapping[str, Any]) -> None:
        self.session = one_line(as_text(event.get("session_id"))) or self.session
        if event.get("type") == "assistant" and not event.get("parent_tool_use_id"):
            self._take_message(as_mapping(event.get("message")))
        elif event.get("type") == "result":
            self._take_result(event)

    def _take_message(self, message: Mapping[str, Any]) -> None:
        """A part of one; parts of one message repeat its tokens, and those written are the ones at its beginning."""
        blocks = [as_mapping(block) for block in as_list(message.get("content"))]
        texts = [as_text(block.get("text")) for block in blocks]
        self.said = "\n".join(filter(None, texts)) or self.said
        self._model = as_text(message.get("model")) or self._model
        if as_text(message.get("id")) != self._message:
            self._before += self._in_message
            self._message, self._characters = as_text(message.get("id")), 0
        self._characters += sum(map(_characters, blocks))
        tokens = _claude_tokens(message.get("usage"))
        least = self._characters // CHARACTERS_A_TOKEN
        self._in_message = replace(tokens, written=max(tokens.written, least))

    def _take_result(self, event: Mapping[str, Any]) -> None:
        kind, text = as_text(event.get("subtype")), as_text(event.get("result"))
        if event.get("is_error") or kind != "success":
            reasons = (text, *map(as_text, as_list(event.get("errors"))), kind, "it failed")
            self.trouble = one_line(next(filter(None, reasons)))
        else:
            self.said = text or self.said
        for denial in map(as_mapping, as_list(event.get("permission_denials"))):
            self.refuse(
                as_text(denial.get("tool_name")), as_text(as_mapping(denial.get("tool_input")).get("file_path"))
            )
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
                self.session = one_line(as_text(event.get("thread_id")))
            case "item.completed":
                self._take_item(as_mapping(event.get("item")))
            case "error":
                self.trouble = one_line(as_text(event.get("message")))
            case "turn.failed":
                self.trouble = one_line(as_text(as_mapping(event.get("error")).get("message"))) or "its turn failed"
            case "turn.completed":
                self.trouble = ""
                used = as_mapping(event.get("usage"))
                read, cached = as_count(used.get("input_tokens")), as_count(used.get("cached_input_tokens"))
                self._tokens = Tokens(read, as_count(used.get("output_tokens")), cached)

    def _take_item(self, item: Mapping[str, Any]) -> None:
        if item.get("type") == "agent_message":
            self.said = as_text(item.get("text")) or self.said
        elif item.get("type") == "file_change" and item.get("status") == "failed":
            for change in map(as_mapping, as_list(item.get("changes"))):
                self.refuse("change of", as_text(change.get("path")))


def _claude_tokens(said: object) -> Tokens:
    used = as_mapping(said)
    cached = as_count(used.get("cache_read_input_tokens"))
    fresh = as_count(used.get("input_tokens")) + as_count(used.get("cache_creation_input_tokens"))
    return Tokens(fresh + cached, as_count(used.get("output_tokens")), cached) + Tokens()


def _characters(block: Mapping[str, Any]) -> int:
    """That a model wrote for a part of its message: text, thoughts, what it gave to a tool."""
    written = (block.get("text"), block.get("thinking"), *as_mapping(block.get("input")).values())
    return sum(len(as_text(text)) for text in written)


def as_mapping(value: object) -> Mapping[str, Any]:
    """It, or an empty one for anything else; so do the next three."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_TOKENS else 0
