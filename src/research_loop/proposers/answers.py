"""What a model answers, made into edited files: exact edits by search and replace, or whole files.

Nothing of it is trusted: whatever does not fit is a ProposalError, one line with the place, which the model is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from research_loop.errors import ProposalError
from research_loop.plain import plain
from research_loop.records import Checkout, Files, Proposal

TOOL: Final = "propose"
WORDS: Final = {"what": 300, "why": 1000, "risk": 1000}
"""What a proposal must say, and in how many characters at most."""

_MOST_TEXT, _MOST_BRACES = 1_000_000, 1000
_LINES_NAMED = 5


def _strings(**descriptions: str) -> dict[str, Any]:
    """The schema of an object of strings, all of them required."""
    properties = {name: {"type": "string", "description": text} for name, text in descriptions.items()}
    return {"type": "object", "properties": properties, "required": list(descriptions)}


def _list(description: str, **descriptions: str) -> dict[str, Any]:
    return {"type": "array", "description": description, "items": _strings(**descriptions)}


_SAID: Final = _strings(
    what="What changes, in one line: exact constants or the code",
    why="Why it should help",
    risk="What may go wrong: memory, stability, speed",
)
_EDITS: Final = _list(
    "Edits, applied in this order",
    path="The file",
    search="Text that occurs exactly once in the file, copied exactly, white space included",
    replace="What takes its place",
)
_FILES: Final = _list(
    "Whole new files, in place of edits that would be larger", path="The file", content="All of its new text"
)
SCHEMA: Final = {**_SAID, "properties": {**_SAID["properties"], "edits": _EDITS, "files": _FILES}}
"""JSON schema of an answer."""


def proposal(answer: Mapping[str, Any], checkout: Checkout, proposer: str) -> Proposal:
    """The answer as a proposal on the checkout; raises ProposalError for what is missing or does not fit."""
    what, why, risk = (_said(answer, name) for name in WORDS)
    return Proposal(edited(answer, checkout.files), what, why, risk, proposer, checkout.parent)


def _said(answer: Mapping[str, Any], name: str) -> str:
    words = answer.get(name)
    said = " ".join(plain(words).split()) if isinstance(words, str) else ""
    if not said:
        raise ProposalError(f"{name} is missing: say what, why and risk, each a text that is not empty")
    return said if len(said) <= WORDS[name] else said[: WORDS[name] - 3] + "..."


def edited(answer: Mapping[str, Any], files: Files) -> Files:
    """All editable files, after the answer's whole files and then its edits; raises ProposalError."""
    result = dict(files)
    for place, item in _items(answer, "files"):
        result[_path(place, item, files)] = _text(place, item, "content").encode()
    for place, item in _items(answer, "edits"):
        path = _path(place, item, files)
        search, replace = _text(place, item, "search"), _text(place, item, "replace")
        result[path] = _replaced(f"{place}: search", path, result[path], search.encode(), replace.encode())
    if result == dict(files):
        raise ProposalError("nothing changes: give edits or files whose result differs from the files as they are")
    return result


def _items(answer: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each object of a list, with its place."""
    items = answer.get(name)
    if not isinstance(items, list | None):
        raise ProposalError(f"{name} is not a list: give a list of objects")
    for i, item in enumerate(items or ()):
        if not isinstance(item, dict):
            raise ProposalError(f"{name}[{i}] is not an object: give a list of objects")
        yield f"{name}[{i}]", item


def _path(place: str, item: Mapping[str, Any], files: Files) -> str:
    path = item.get("path")
    if not isinstance(path, str) or path not in files:
        shown = plain(str(path)[:80])
        raise ProposalError(f"{place}: {shown!r} may not be edited: only {', '.join(sorted(files))}")
    return path


def _text(place: str, item: Mapping[str, Any], name: str) -> str:
    text = item.get(name)
    if not isinstance(text, str):
        raise ProposalError(f"{place}: {name} is missing: give it as a text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ProposalError(f"{place}: {name} holds half a character (a lone surrogate): give valid text") from None
    return text


def _replaced(place: str, path: str, content: bytes, search: bytes, replace: bytes) -> bytes:
    if not search:
        raise ProposalError(f"{place} is empty: give text that occurs exactly once in {path}, or the whole file")
    found = list(_places(content, search))
    if not found:
        fact = f"does not occur in {path} as it is after the edits before (0 times)"
        raise ProposalError(f"{place} {fact}: copy it exactly, white space included")
    if len(found) > 1:
        lines = ", ".join(str(content.count(b"\n", 0, at) + 1) for at in found[:_LINES_NAMED])
        more = " ..." if len(found) > _LINES_NAMED else ""
        fact = f"occurs {len(found)} times in {path} (lines {lines}{more})"
        raise ProposalError(f"{place} {fact}, not once: take in text around it")
    return content.replace(search, replace)


def _places(content: bytes, search: bytes) -> Iterator[int]:
    """Where a text begins, overlapping ones included: bytes.count would pass over those."""
    at = content.find(search)
    while at >= 0:
        yield at
        at = content.find(search, at + 1)


def from_json(text: str) -> dict[str, Any]:
    """The arguments of a tool call that came as a text; raises ProposalError."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise ProposalError(f"the arguments of {TOOL} are not JSON ({plain(str(error))}): give one object") from None
    if not isinstance(value, dict):
        raise ProposalError(f"the arguments of {TOOL} are not an object: give one object")
    return value


def from_text(text: str) -> dict[str, Any]:
    """The first JSON object in a model's text that says what it proposes, fenced or not; raises ProposalError.

    Objects that do not, such as those in a model's thoughts, are passed over, unless there is no other.
    """
    other = None
    for value in _objects(text[:_MOST_TEXT]):
        if "what" in value:
            return value
        other = other or value
    if other is None:
        raise ProposalError(f"no call of {TOOL}, and no JSON object in the text: give one")
    return other


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(strict=False), text.find("{")
    for _ in range(_MOST_BRACES):
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield value
        at = text.find("{", end)
