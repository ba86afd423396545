"""Where the requests of an agent that speaks ACP are answered: permissions, files, and what it says of itself.

A permission is given for the editable files and for nothing else; files are written by us for those alone, and read
within the checkout. All of it may be an enemy's: links are followed before a path is judged, and none afterwards.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from research_loop.proposers.drafting import Request
from research_loop.proposers.hearing import Heard, Words, _count, _list, _mapping, _text, find_words, one_line
from research_loop.proposers.workspace import LARGEST_BYTES, Odd, Workspace
from research_loop.records import Usage
from research_loop.runners.tree import Tail

_NAMES_A_PATH = re.compile(r"(path|paths|file|files|filename|directory|folder|cwd)$", re.IGNORECASE)
_NEVER = {"execute", "delete", "move", "fetch"}


class AcpHeard(Heard):
    """What an agent says by the protocol. `usd` is the cost that it has said so far."""

    def __init__(self, folder: Path, model: str = "") -> None:
        super().__init__(folder, model)
        self.usd: float | None = None
        self._said = Tail()
        self._tokens: tuple[int | None, int | None] = (None, None)

    def words(self, printed: str) -> Words | None:
        return find_words(self._said.text())

    @property
    def usage(self) -> Usage:
        return Usage(*self._tokens, self.usd, "unknown" if self.usd is None else "reported")

    def refuse(self, what: str, path: str) -> None:
        self._refuse(what, path)

    def take_update(self, update: Mapping[str, Any]) -> None:
        """Of a session/update: a piece of its message, or what was spent."""
        if update.get("sessionUpdate") == "agent_message_chunk":
            self._said.feed(_text(_mapping(update.get("content")).get("text")).encode(errors="replace"))
        elif update.get("sessionUpdate") == "usage_update":
            cost = _mapping(update.get("cost"))
            usd = cost.get("amount")
            if cost.get("currency") == "USD" and isinstance(usd, int | float) and 0 <= usd < 1e9:
                self.usd = float(usd)

    def take_end(self, answer: Mapping[str, Any]) -> None:
        """The answer to a prompt."""
        reason = _text(answer.get("stopReason"))
        if reason != "end_turn" and not self.trouble:
            self.trouble = one_line(f"ended its turn early ({reason or 'it does not say why'})")
        counts = _mapping(_mapping(_mapping(answer.get("_meta")).get("quota")).get("token_count"))
        self._tokens = _tokens(_mapping(answer.get("usage"))) or _tokens(counts) or self._tokens


class Desk:
    """Where an agent's requests are answered: permissions and files. It never waits."""

    def __init__(self, request: Request, space: Workspace, heard: AcpHeard) -> None:
        self._space, self._heard = space, heard
        self._root = os.path.realpath(space.folder)  # before the agent can move it
        self._editable = set(request.checkout.files)

    async def answer(self, method: str, params: object, notification: bool) -> dict[str, Any] | None:
        """Raises RequestError where it is refused."""
        from acp.exceptions import RequestError

        asked = _mapping(params)
        match method:
            case "session/update":
                self._heard.take_update(_mapping(asked.get("update")))
                return None
            case _ if notification:
                return None
            case "session/request_permission":
                return self._permission(asked)
            case "fs/read_text_file":
                return self._file_read(asked)
            case "fs/write_text_file":
                return self._file_written(asked)
            case "terminal/create":
                self._heard.refuse("execute", _text(asked.get("command")))
        raise RequestError.method_not_found(one_line(method))

    def _permission(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        call = _mapping(asked.get("toolCall"))
        paths = list(dict.fromkeys(_paths(call)))
        kind = _text(call.get("kind"))
        command = _command(call.get("rawInput"))
        granted = bool(paths) and not command and kind not in _NEVER and all(map(self._is_editable, paths))
        options = {_text(o.get("kind")): _text(o.get("optionId")) for o in map(_mapping, _list(asked.get("options")))}
        if granted and options.get("allow_once"):
            return _chosen(options["allow_once"])
        others = [path for path in paths if not self._is_editable(path)]
        for path in others or [command or _text(call.get("title"))]:
            self._heard.refuse(kind or "call", path)
        refusal = options.get("reject_once") or options.get("reject_always")
        return _chosen(refusal) if refusal else {"outcome": {"outcome": "cancelled"}}

    def _file_read(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        path = _text(asked.get("path"))
        name = self._within(path)
        if name is None:
            raise self._refused("read", path, "it is not in the checkout")
        try:
            lines = self._space._read(name, LARGEST_BYTES).decode(errors="replace").splitlines(keepends=True)
        except Odd as odd:
            raise self._refused("read", path, str(odd)) from None
        first, most = asked.get("line"), asked.get("limit")
        start = max(first - 1, 0) if isinstance(first, int) else 0
        end = start + max(most, 0) if isinstance(most, int) else None
        return {"content": "".join(lines[start:end])}

    def _file_written(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        path, content = _text(asked.get("path")), asked.get("content")
        name = self._within(path)
        if name is None or name not in self._editable:
            raise self._refused("write", path, "it is not to be edited")
        data = content.encode(errors="replace") if isinstance(content, str) else b""
        if not isinstance(content, str) or len(data) > LARGEST_BYTES:
            raise self._refused("write", path, f"its content is no text of up to {LARGEST_BYTES} bytes")
        try:
            _replace(self._space, name, data)
        except (Odd, OSError) as error:
            raise self._refused("write", path, str(error)) from None
        return {}

    def _refused(self, what: str, path: str, why: str) -> Exception:
        from acp.exceptions import RequestError

        self._heard.refuse(what, path)
        return RequestError.invalid_params({"details": one_line(f"{what} {path}: {why}")})

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
    for location in map(_mapping, _list(call.get("locations"))):
        yield _text(location.get("path"))
    for content in map(_mapping, _list(call.get("content"))):
        if content.get("type") == "diff":
            yield _text(content.get("path"))
    yield from _named(call.get("rawInput"))


def _named(value: object, depth: int = 0) -> Iterator[str]:
    """Paths in the input of a tool, by the names that tools give them."""
    if depth > 5:
        return
    if isinstance(value, list):
        for item in value:
            yield from _named(item, depth + 1)
    for key, item in _mapping(value).items():
        if _NAMES_A_PATH.search(key):
            yield from (text for text in (item if isinstance(item, list) else [item]) if isinstance(text, str))
        yield from _named(item, depth + 1)


def _command(given: object) -> str:
    """The shell command in the input of a tool; "" for none."""
    found = _mapping(given).get("command", _mapping(given).get("cmd", ""))
    return " ".join(map(str, found)) if isinstance(found, list) else str(found or "")


def _chosen(option: str) -> dict[str, Any]:
    return {"outcome": {"outcome": "selected", "optionId": option}}


def _replace(space: Workspace, name: str, data: bytes) -> None:
    """Put a new file in an editable one's place; no link is followed. Raises Odd, OSError."""
    *folders, last = PurePosixPath(name).parts
    fresh, flags = f"written-{uuid.uuid4().hex}", os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with space._opened(folders) as folder:
        with open(os.open(fresh, flags, 0o644, dir_fd=space._top), "wb") as file:
            file.write(data)
        os.replace(fresh, last, src_dir_fd=space._top, dst_dir_fd=folder)


def _tokens(said: Mapping[str, Any]) -> tuple[int, int] | None:
    """Read and written. Cached and thought ones are apart from the others where only so the total is right."""
    names = ("input", "output", "cachedRead", "cachedWrite", "thought")
    found = [_count(said.get(f"{name}Tokens")) for name in names]
    if not any(found):
        found = [_count(said.get(name)) for name in ("input_tokens", "output_tokens")] + [0, 0, 0]
    read, written, *cached, thought = found
    apart = sum(found) == _count(said.get("totalTokens"))
    if not any(found):
        return None
    return (read + sum(cached), written + thought) if apart else (read, written)
