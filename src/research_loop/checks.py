"""What can be said against a proposal without running it, so that no GPU second is spent on a misspelt name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from pyflakes import messages
from pyflakes.checker import Checker

from research_loop import edits, parsing
from research_loop.errors import ProposalError
from research_loop.records import Files

_Place = tuple[int, int, str]  # line, column, name
_MAKERS: Final = frozenset({"globals", "locals", "vars", "exec", "eval", "builtins", "__builtins__"})
"""A file that uses one of these may bind names that no reader of its text can know."""
_CATCHERS: Final = frozenset({"NameError", "UnboundLocalError", "Exception", "BaseException"})
_UNREADABLE: Final = (SyntaxError, ValueError, RecursionError, MemoryError)
_CURES: Final = {
    messages.UndefinedName: "undefined name {!r}: define it, or mend the spelling",
    messages.UndefinedLocal: "local variable {!r} is read before it is set: set it first, or declare it global",
}


def check_code(files: Files) -> None:
    """Raise ProposalError for what does not parse, is too large, or uses names that are surely undefined."""
    edits.check(files)
    check_names(files)


def check_names(files: Files) -> None:
    """Raise ProposalError, one line with the place, for the first name in a `.py` file that is surely undefined.

    pyflakes finds them. What only may be undefined is let through: names after a star import or in a file that
    binds names by `globals()` or `exec`, in annotations, where a NameError is caught, and names that an earlier
    turn of the same loop sets. Files that do not parse are left to `edits.check`.
    """
    for path, content in files.items():
        if path.endswith(".py"):
            for line, fact in _undefined(content, path):
                raise ProposalError(f"{path}:{line}: {fact}")


def _undefined(content: bytes, path: str) -> Iterator[tuple[int, str]]:
    try:
        with parsing.LOCK:  # pyflakes parses annotations
            tree = parsing.parse(content)
            found = [] if _makes_names(tree) else Checker(tree, path, withDoctest=False).messages
    except _UNREADABLE:
        return
    suspects = [(_place(message), _CURES[type(message)]) for message in found if type(message) in _CURES]
    certain = _read(tree) - _excused(tree) if suspects else set()
    for place, cure in sorted(suspects):
        if place in certain:
            yield place[0], cure.format(place[2])


def _place(message: messages.Message) -> _Place:
    arguments = message.message_args  # the bare name where a builtin is shadowed
    return message.lineno, message.col, arguments if isinstance(arguments, str) else arguments[0]


def _makes_names(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _MAKERS:
            return True
        if isinstance(node, ast.Attribute) and node.attr == "modules" and _is_name(node.value, "sys"):
            return True
    return False


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _read(tree: ast.AST) -> set[_Place]:
    """Where names stand in the code itself: in a string that pyflakes takes for a type they are only words."""
    return {place for place, node in _names(tree) if isinstance(node.ctx, ast.Load)}


def _names(tree: ast.AST) -> Iterator[tuple[_Place, ast.Name]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield (node.lineno, node.col_offset, node.id), node


def _excused(tree: ast.AST) -> set[_Place]:
    """Names that need not be bound where they stand."""
    deleted = {node.id for _, node in _names(tree) if isinstance(node.ctx, ast.Del)}  # perhaps only on some paths
    excused = {place for place, node in _names(tree) if node.id in deleted}
    everywhere = _bound(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.While | ast.GeneratorExp):
            # a generator runs when asked, perhaps after what follows it
            bound = everywhere if isinstance(node, ast.GeneratorExp) else _bound(node)
            excused |= {place for place, name in _names(node) if name.id in bound}
        for part in _unread(node):
            excused |= {place for place, _ in _names(part)}
    return excused


def _unread(node: ast.AST) -> list[ast.AST]:
    """Parts of a node in which an undefined name does no harm: annotations, and what is tried."""
    if isinstance(node, ast.Try) and any(_catches(handler) for handler in node.handlers):
        return list(node.body)
    parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [part for part in parts if isinstance(part, ast.AST)]


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or any(name.id in _CATCHERS for _, name in _names(handler.type))


def _bound(tree: ast.AST) -> set[str]:
    """Names that something in the tree binds, in whatever scope."""
    names = {node.id for _, node in _names(tree) if not isinstance(node.ctx, ast.Load)}
    for node in ast.walk(tree):
        # definitions, imports, handlers and match patterns carry theirs as plain text
        texts = [getattr(node, field, None) for field in ("name", "asname", "rest")]
        names |= {text.split(".")[0] for text in texts if isinstance(text, str)}
    return names
