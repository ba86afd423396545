"""Where the requests of an agent that speaks ACP are answered: permissions, and what it says of itself.

A permission is given for the editable files and for nothing else. All of it may be an enemy's: links are followed
before a path is judged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from research_loop.proposers.drafting import Request
from research_loop.proposers.hearing import (
    MOST_TOKENS,
    Heard,
    Words,
    as_count,
    as_list,
    as_mapping,
    as_text,
    find_words,
    one_line,
)
from research_loop.proposers.workspace import Workspace
from research_loop.records import Usage
from research_loop.runners.tree import Tail

_NAMES_A_PATH = re.compile(
    r"(?:^|[_-])(?i:paths?|files?|file_?name|directory|folder|cwd)$|(?:Paths?|Files?|FileName|Directory|Folder)$"
    r"|(?<!pro)(?:path|file)s?$"
)
_NEVER = {"execute", "delete", "move", "fetch"}


class AcpHeard(Heard):
    """What an agent says by the protocol.

    `usd` is the cost that it has said so far, `own_session` its session's name as it must be given back to it.
    """

    own_session = ""

    def __init__(self, folder: Path, model: str = "") -> None:
        super().__init__(folder, model)
        self.usd: float | None = None
        self._said = Tail()
        self._tokens: tuple[int | None, int | None] = (None, None)

    def words(self, *printed: str) -> Words | None:
        return find_words(self._said.text())

    def spoke(self, *printed: str) -> bool:
        return bool(self._said.text().strip())

    @property
    def usage(self) -> Usage:
        return Usage(*self._tokens, self.usd, "unknown" if self.usd is None else "reported")

    def take_update(self, update: Mapping[str, Any]) -> None:
        """Of a session/update: a piece of its message, or what was spent."""
        if update.get("sessionUpdate") == "agent_message_chunk":
            self._said.feed(as_text(as_mapping(update.get("content")).get("text")).encode(errors="replace"))
        elif update.get("sessionUpdate") == "usage_update":
            cost = as_mapping(update.get("cost"))
            usd = cost.get("amount")
            if cost.get("currency") == "USD" and isinstance(usd, int | float) and 0 <= usd < 1e9:
                self.usd = float(usd)

    def take_end(self, answer: Mapping[str, Any]) -> None:
        """The answer to a prompt."""
        reason = as_text(answer.get("stopReason"))
        if reason != "end_turn" and not self.trouble:
            self.trouble = one_line(f"ended its turn early ({reason or 'it does not say why'})")
        counts = as_mapping(as_mapping(as_mapping(answer.get("_meta")).get("quota")).get("token_count"))
        self._tokens = _tokens(as_mapping(answer.get("usage"))) or _tokens(counts) or self._tokens


class Desk:
    """Where an agent's requests are answered. It never waits."""

    def __init__(self, request: Request, space: Workspace, heard: AcpHeard) -> None:
        self._heard = heard
        self._root = os.path.realpath(space.folder)  # before the agent can move it
        self._editable = set(request.checkout.files)

    async def answer(self, method: str, params: object, notification: bool) -> dict[str, Any] | None:
        """Raises RequestError where it is refused; the package would print the traceback of anything else."""
        from acp.exceptions import RequestError

        try:
            return self._answer(method, as_mapping(params), notification)
        except RequestError:
            raise
        except Exception as error:
            why = one_line(f"{type(error).__name__}: {error}")
            self._heard.refuse(one_line(method), f"({why})")
            if notification:
                return None
            raise RequestError.internal_error({"details": why}) from error

    def _answer(self, method: str, asked: Mapping[str, Any], notification: bool) -> dict[str, Any] | None:
        from acp.exceptions import RequestError

        match method:
            case "session/update":
                self._heard.take_update(as_mapping(asked.get("update")))
                return None
            case _ if notification:
                return None
            case "session/request_permission":
                return self._permission(asked)
            case "terminal/create":
                self._heard.refuse("execute", as_text(asked.get("command")))
        raise RequestError.method_not_found(one_line(method))

    def _permission(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        call = as_mapping(asked.get("toolCall"))
        paths = list(dict.fromkeys(_paths(call)))
        kind = as_text(call.get("kind"))
        command = _command(call.get("rawInput"))
        harmless = not command or (kind == "edit" and command.isidentifier())  # such as "str_replace"
        granted = bool(paths) and harmless and kind not in _NEVER and all(map(self._is_editable, paths))
        options = {
            as_text(o.get("kind")): as_text(o.get("optionId")) for o in map(as_mapping, as_list(asked.get("options")))
        }
        if granted and options.get("allow_once"):
            return _chosen(options["allow_once"])
        others = [path for path in paths if not self._is_editable(path)]
        for path in others or [command or as_text(call.get("title"))]:
            self._heard.refuse(kind or "call", path)
        refusal = options.get("reject_once") or options.get("reject_always")
        return _chosen(refusal) if refusal else {"outcome": {"outcome": "cancelled"}}

    def _is_editable(self, path: str) -> bool:
        return self._within(path) in self._editable

    def _within(self, path: str) -> str | None:
        """Of a path that is in the checkout when all links are followed, the part below that; None for any other."""
        try:
            real = PurePosixPath(os.path.realpath(Path(self._root, path)))
            return str(real.relative_to(self._root)) if path else None
        except (OSError, ValueError):  # an odd name, or it is elsewhere
            return None


def _paths(call: Mapping[str, Any]) -> Iterator[str]:
    """All that a tool call names."""
    for location in map(as_mapping, as_list(call.get("locations"))):
        yield as_text(location.get("path"))
    for content in map(as_mapping, as_list(call.get("content"))):
        if content.get("type") == "diff":
            yield as_text(content.get("path"))
    yield from _named(call.get("rawInput"))


def _named(value: object, depth: int = 0) -> Iterator[str]:
    """Paths in the input of a tool, by the names that tools give them."""
    if depth > 5:
        return
    if isinstance(value, list):
        for item in value:
            yield from _named(item, depth + 1)
    for key, item in as_mapping(value).items():
        if _NAMES_A_PATH.search(key):
            yield from (text for text in (item if isinstance(item, list) else [item]) if isinstance(text, str))
        yield from _named(item, depth + 1)


def _command(given: object) -> str:
    """The shell command in the input of a tool; "" for none."""
    found = as_mapping(given).get("command", as_mapping(given).get("cmd", ""))
    return " ".join(map(str, found)) if isinstance(found, list) else str(found or "")


def _chosen(option: str) -> dict[str, Any]:
    return {"outcome": {"outcome": "selected", "optionId": option}}


def _tokens(said: Mapping[str, Any]) -> tuple[int, int] | None:
    """Read and written. Cached and thought ones are apart from the others where only so the total is right."""
    names = ("input", "output", "cachedRead", "cachedWrite", "thought")
    found = [as_count(said.get(f"{name}Tokens")) for name in names]
    if not any(found):
        found = [as_count(said.get(name)) for name in ("input_tokens", "output_tokens")] + [0, 0, 0]
    read, written, *cached, thought = found
    apart = sum(found) == as_count(said.get("totalTokens"))
    if not any(found):
        return None
    read, written = (read + sum(cached), written + thought) if apart else (read, written)
    return min(read, MOST_TOKENS), min(written, MOST_TOKENS)
