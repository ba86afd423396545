"""Edits of code by pattern, not by place: found in the syntax tree, made in the text, and checked in the tree again.

The idea is semantic patching (Coccinelle, Padioleau et al., EuroSys 2008). Whatever a pattern does not match stays
byte for byte.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from research_loop import parsing

_PLACEHOLDER: Final = re.compile(r"_[a-z]")
_SLOT: Final = re.compile(r"\{([a-z])\}")
_UNMATCHED: Final = ("ctx", "kind", "type_comment")
_ATOMS: Final = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant)
_UNREADABLE: Final = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class Edit:
    """What `old` matches, exactly `times` times in the file, becomes `new`.

    `old` is a Python expression or statement. The placeholders `_a` to `_z` match any expression, the same one in
    all edits that are made together; `def name(arguments): ...` matches the arguments of a function with any body.
    `new` is Python text in which `{a}` stands for what `_a` matched. Empty, it deletes whole lines, and the comment
    right above them: a statement, or an element of a list that has lines of its own.
    """

    old: str
    new: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a placeholder stands for."""

    node: ast.AST
    text: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Bytes `start` to `end` of the source hold `node`; `indent` opens its line."""

    node: ast.AST
    start: int
    end: int
    indent: bytes


_Found = dict[str, ast.AST]
_Pieces = Mapping[str, _Piece]


def rewritten(source: str, edits: Sequence[Edit]) -> str | None:
    """The source after these edits, one after the other; None where one does not match, or would mean another thing.

    A text that reads differently from what the edit says, by precedence or indentation, is never returned.
    """
    pieces: _Pieces = {}
    try:
        for edit in edits:
            done = _edited(source, edit, pieces)
            if done is None:
                return None
            source, pieces = done
    except _UNREADABLE:
        return None
    return source


def _edited(source: str, edit: Edit, known: _Pieces) -> tuple[str, _Pieces] | None:
    data, read, pattern = source.encode(), _read(source), _parsed(edit.old)
    found = list(_matches(read.by_kind.get(type(pattern), []), pattern, known))
    if len(found) != edit.times or not _agree([names for _, names in found]):
        return None
    pieces = {**known, **{name: _piece(data, node) for name, node in found[0][1].items()}}
    places = [_place(data, node) for node in _whole(read.tree, [node for node, _ in found], edit)]
    new = _filled_tree(edit.new, pieces)
    for place in sorted(places, key=lambda place: place.start, reverse=True):
        data = _spliced(data, place, edit.new, pieces)
    result, replaced = data.decode(), {id(place.node): new for place in places}
    return (result, pieces) if _reads_as(read.tree, _read(result).tree, replaced) else None


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A tree that nobody changes, and its nodes: most patterns are of a kind that is rare."""

    tree: ast.Module
    by_kind: Mapping[type, list[ast.AST]]


@lru_cache(maxsize=8)
def _read(source: str) -> _Parsed:
    """Parsed once for all the edits that are tried on it; tree and nodes together, as they are told by identity."""
    tree: ast.Module = parsing.parse(source)
    by_kind: dict[type, list[ast.AST]] = {}
    for node in ast.walk(tree):
        by_kind.setdefault(type(node), []).append(node)
    return _Parsed(tree, by_kind)


# ---------------------------------------------------------------------------------------------------------- matching


@lru_cache(maxsize=512)
def _parsed(text: str) -> ast.AST | None:
    """The pattern's or the replacement's one expression, arguments of a function, or statement; None when empty."""
    body = parsing.parse(text).body
    if not body:
        return None
    only: ast.AST = body[0]
    if isinstance(only, ast.Expr):
        return only.value
    return only.args if isinstance(only, ast.FunctionDef) and _is_open(only) else only


def _is_open(function: ast.FunctionDef) -> bool:
    return ast.unparse(function.body) == "..."  # type: ignore[arg-type]


def _matches(nodes: list[ast.AST], pattern: ast.AST | None, known: _Pieces) -> Iterator[tuple[ast.AST, _Found]]:
    for node in nodes:
        found = {name: piece.node for name, piece in known.items()}
        if _fits(pattern, node, found):
            yield node, {name: part for name, part in found.items() if name not in known}


def _fits(pattern: Any, node: Any, found: _Found | None) -> bool:
    """Whether a part of a pattern matches a part of a tree; what placeholders stand for is put into `found`.

    Without `found` there are no placeholders: whether two trees are alike.
    """
    if isinstance(pattern, list):
        pairs = zip(pattern, node, strict=False) if isinstance(node, list) else ()
        return isinstance(node, list) and len(pattern) == len(node) and all(_fits(a, b, found) for a, b in pairs)
    if found is not None and isinstance(pattern, ast.Name) and _PLACEHOLDER.fullmatch(pattern.id):
        return isinstance(node, ast.expr) and _same(found.setdefault(pattern.id[1], node), node)
    if isinstance(pattern, ast.AST):
        fields = [field for field in pattern._fields if field not in _UNMATCHED]
        alike = type(pattern) is type(node)
        return alike and all(_fits(getattr(pattern, f, None), getattr(node, f, None), found) for f in fields)
    # 1 and 1.0 are one number here, but True is none
    return bool(pattern == node) and isinstance(pattern, bool) == isinstance(node, bool)


def _same(a: ast.AST, b: ast.AST) -> bool:
    return a is b or _fits(a, b, None)


def _agree(found: Sequence[_Found]) -> bool:
    return all(_same(node, names[name]) for names in found for name, node in found[0].items())


def _whole(tree: ast.AST, nodes: Sequence[ast.AST], edit: Edit) -> list[ast.AST]:
    """The nodes; where a call is deleted that is a statement of its own, the statement."""
    if edit.new:
        return list(nodes)
    statements = {id(node.value): node for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [statements.get(id(node), node) for node in nodes]


# ---------------------------------------------------------------------------------------------------------- the text


def _piece(data: bytes, node: ast.AST) -> _Piece:
    place = _place(data, node)
    return _Piece(node, data[place.start : place.end].decode())


def _place(data: bytes, node: Any) -> _Place:
    lines = data.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    parts: list[Any] = list(ast.iter_child_nodes(node)) if isinstance(node, ast.arguments) else [node]
    if not parts:
        raise ValueError("a function without arguments has no place for them")
    start = min(starts[part.lineno - 1] + part.col_offset for part in parts)
    end = max(starts[part.end_lineno - 1] + part.end_col_offset for part in parts)
    first = data[data.rfind(b"\n", 0, start) + 1 : start]
    return _Place(node, start, end, first[: len(first) - len(first.lstrip())])


def _spliced(data: bytes, place: _Place, template: str, pieces: _Pieces) -> bytes:
    if not template:
        return _without_lines(data, place)
    text = _filled_text(template, pieces).replace("\n", "\n" + place.indent.decode()).encode()
    after = data[place.end :]
    if isinstance(place.node, ast.stmt):  # a comment behind it spoke of the statement that was there
        after = re.sub(rb"\A[ \t]*#[^\r\n]*", b"", after)
    return data[: place.start] + text + after


def _without_lines(data: bytes, place: _Place) -> bytes:
    start = data.rfind(b"\n", 0, place.start) + 1
    end = data.find(b"\n", place.end) + 1 or len(data)
    comment = re.search(rb"(?:^" + re.escape(place.indent) + rb"#[^\n]*\n)+\Z", data[:start], re.M)
    return data[: comment.start() if comment else start] + data[end:]


def _filled_text(template: str, pieces: _Pieces) -> str:
    """The template with the pieces' text, in parentheses where it would read differently without."""
    if template.startswith("def "):
        template = template[template.index("(") + 1 : template.rindex(")")]
        return _SLOT.sub(lambda slot: pieces[slot[1]].text, template)
    plain = _SLOT.sub(lambda slot: pieces[slot[1]].text, template)
    wanted = ast.unparse(ast.Module(_statements(template, pieces), []))
    try:
        if ast.unparse(parsing.parse(plain)) == wanted:
            return plain
    except SyntaxError:
        pass  # a piece of several lines, which its own parentheses held together
    return _SLOT.sub(lambda slot: _bracketed(pieces[slot[1]]), template)


def _bracketed(piece: _Piece) -> str:
    return piece.text if isinstance(piece.node, _ATOMS) else f"({piece.text})"


# ---------------------------------------------------------------------------------------------------------- the tree


def _statements(template: str, pieces: _Pieces) -> list[ast.stmt]:
    tree = parsing.parse(_SLOT.sub(r"_\1", template))
    filled: ast.Module = _Fill(pieces).visit(tree)
    return filled.body


def _filled_tree(template: str, pieces: _Pieces) -> ast.AST | list[ast.stmt] | None:
    """What stands in the tree for a match: nothing, an expression, arguments, or statements."""
    if not template:
        return None
    body = _statements(template, pieces)
    one = body[0]
    if len(body) == 1 and isinstance(one, ast.Expr):
        return one.value
    return one.args if isinstance(one, ast.FunctionDef) and _is_open(one) else body


class _Fill(ast.NodeTransformer):
    """Placeholders become what they stand for."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._pieces[node.id[1]].node if _PLACEHOLDER.fullmatch(node.id) else node


def _reads_as(tree: Any, result: Any, new: Mapping[int, Any]) -> bool:
    """Whether the result is the tree with these nodes, by identity, replaced; by None they are taken away."""
    if isinstance(tree, list):
        items = [part for item in tree for part in _in_place_of(item, new)]
        pairs = zip(items, result, strict=False)
        return len(items) == len(result) and all(_reads_as(a, b, new) for a, b in pairs)
    if id(tree) in new:
        return _fits(new[id(tree)], result, None)
    if isinstance(tree, ast.AST):
        fields = [field for field in tree._fields if field not in _UNMATCHED]
        return type(tree) is type(result) and all(_reads_as(getattr(tree, f), getattr(result, f), new) for f in fields)
    return bool(tree == result)


def _in_place_of(item: Any, new: Mapping[int, Any]) -> list[Any]:
    found = new.get(id(item), item)
    if item is not None and found is None:
        return []
    return found if isinstance(found, list) else [found]
