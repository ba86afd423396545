"""Reading and changing the constants of a Python file, and telling two files apart by what they mean.

Pure functions over the parsed text; nothing here runs the file. A constant is a name in capitals, bound once
in the whole module, to a number, string, boolean or a tuple or list of those (`TOTAL_BATCH_SIZE = 2**19`).
"""

from __future__ import annotations

import ast
import hashlib
import io
import math
import operator
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from research_loop import parsing
from research_loop.errors import ProposalError
from research_loop.records import Files

Value = bool | int | float | str | tuple[Any, ...] | list[Any]

LARGEST_BYTES: Final = 2**18  # of a proposal's files together: trained weights, as text, would need more
_LARGEST_INT_BITS: Final = 4096
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_BOM: Final = "\ufeff"
_UNPARSABLE: Final = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class Constant:
    """A module-level constant: `line` counts from 1; `start` and `end` are UTF-8 byte offsets of its value."""

    name: str
    value: Value
    line: int
    start: int
    end: int


def constants(source: str, path: str = "train.py") -> dict[str, Constant]:
    """Constants of a module by name, in the order of the file.

    A name bound twice (again in an `if`, by `+=`, through `global`) is left out: changing one place would say
    nothing about what the program sees. Raises ProposalError when the source does not parse.
    """
    return _constants(_parse(source, path), source)


def _constants(tree: ast.Module, source: str) -> dict[str, Constant]:
    data = source.encode()
    starts = _line_starts(data)
    first = len(_BOM.encode()) if source.startswith(_BOM) else 0
    found = {}
    for name, (statement, value) in _assignments(tree).items():
        node = statement.value
        assert node is not None and node.end_lineno is not None and node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset + (first if node.lineno == 1 else 0)
        end = starts[node.end_lineno - 1] + node.end_col_offset + (first if node.end_lineno == 1 else 0)
        found[name] = Constant(name, value, statement.lineno, start, end)
    return found


def replace(source: str, changes: Mapping[str, object], path: str = "train.py") -> str:
    """The source with the values of these constants rewritten in place; every other byte stays.

    Raises ProposalError for an unknown name, for a value that is no number, string, boolean, tuple or list, and
    when the result would not read back as asked.
    """
    known = constants(source, path)
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ProposalError(f"{path}: no constant {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    data = source.encode()
    for name in sorted(changes, key=lambda name: known[name].start, reverse=True):
        spot = known[name]
        data = data[: spot.start] + render(changes[name]).encode() + data[spot.end :]
    result = data.decode()
    _check_values(result, {name: changes.get(name, spot.value) for name, spot in known.items()}, path)
    return result


def _check_values(source: str, wanted: Mapping[str, object], path: str) -> None:
    have = {name: _form(spot.value) for name, spot in constants(source, path).items()}
    for name, value in wanted.items():
        if have.get(name) != _form(value):
            raise ProposalError(f"{path}: {name} cannot be set to {value!r} in place: edit the file by hand")


def render(value: object) -> str:
    """Python text of a value: powers of two from 1024 on as `2**k`, floats as repr, strings in double quotes."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return _render_int(int(value))
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    if isinstance(value, str):
        return '"' + "".join('\\"' if letter == '"' else repr(letter)[1:-1] for letter in value) + '"'
    if isinstance(value, tuple):
        items = [render(item) for item in value]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, list):
        return f"[{', '.join(map(render, value))}]"
    raise ProposalError(f"a constant cannot hold {value!r}: use a finite number, string, boolean, tuple or list")


def _render_int(value: int) -> str:
    if value.bit_length() > _LARGEST_INT_BITS:
        raise ProposalError(f"a constant cannot hold a number of {value.bit_length()} bits: use a smaller one")
    power_of_two = value >= 1024 and value & (value - 1) == 0
    return f"2**{value.bit_length() - 1}" if power_of_two else str(value)


def literal(text: str) -> Value:
    """Value of an expression of literals such as `2**19` or `(0.8, 0.95)`; ProposalError when it is not one."""
    try:
        value = _evaluated(parsing.parse(text.strip(), mode="eval").body)
    except _UNPARSABLE:
        value = None
    if value is None:
        raise ProposalError(f"{text[:60]!r} is not a literal value: write a number, string, boolean, tuple or list")
    return value


def key(files: Files) -> str:
    """Canonical hash of files: the same for two that differ only in comments, docstrings, formatting or spelling.

    `.py` files count as their syntax tree with expressions of literals folded (`2**14` is `16384`, but 1 is not
    1.0); other files, and files that do not parse, count as their bytes. 64 hexadecimal digits.
    """
    return _combined({path: _file_digest(path, content) for path, content in files.items()})


class Variants:
    """Keys of a file's variants, found without parsing again: `key(changes)` is `key()` of the replaced files.

    `path` must parse (ProposalError). What makes hundreds of candidates a proposal affordable.
    """

    def __init__(self, files: Files, path: str) -> None:
        source = _text(path, files[path])
        tree = _parse(source, path)
        body = _meaningful(tree.body)
        self.path = path
        self.constants = _constants(tree, source)
        self._others = {p: _file_digest(p, content) for p, content in files.items() if p != path}
        try:
            self._digests = [_digest(_fold(statement)[0]) for statement in body]
        except RecursionError:
            raise ProposalError(f"{path}: nested too deeply to be read: split the long expression") from None
        self._spots = {id(statement): index for index, statement in enumerate(body)}
        self._assignments = {name: statement for name, (statement, _) in _assignments(tree).items()}

    def key(self, changes: Mapping[str, object]) -> str:
        digests = list(self._digests)
        for name, value in changes.items():
            statement = self._assignments[name]
            digests[self._spots[id(statement)]] = _digest(_node_text(statement, value=_form(value)))
        return _combined({**self._others, self.path: _joined(digests)})


def check(files: Files) -> None:
    """Raise ProposalError, one line with the place, unless every file is text and every `.py` file compiles."""
    if sum(map(len, files.values())) > LARGEST_BYTES:
        path = max(files, key=lambda path: len(files[path]))
        fact = f"{len(files[path]):,} bytes, where the files of a proposal may hold {LARGEST_BYTES:,} together"
        raise ProposalError(f"{path}: {fact}: keep data out of code")
    for path, content in files.items():
        source = _text(path, content)
        if path.endswith(".py"):
            _check_encoding(path, content)
            _compiled(source, path, 0)


def _text(path: str, content: bytes) -> str:
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise ProposalError(f"{path}:{line}: holds a NUL byte: save it as plain text")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ProposalError(f"{path}:{line}: not UTF-8: save it as UTF-8 text") from None


def _check_encoding(path: str, content: bytes) -> None:
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(content).readline)[0]
    except SyntaxError:
        encoding = "an unknown encoding"
    if encoding not in ("utf-8", "utf-8-sig"):
        raise ProposalError(f"{path}:1: declares {encoding}: save it as UTF-8 and drop the coding line")


def _parse(source: str, path: str) -> ast.Module:
    tree = _compiled(source, path, ast.PyCF_ONLY_AST)
    assert isinstance(tree, ast.Module)
    return tree


def _compiled(source: str, path: str, flags: int) -> object:
    """compile() without running; every way it fails is one ProposalError."""
    try:
        source.encode()
        with parsing.quietly():  # dont_inherit: this module's own `annotations` future must not leak into theirs
            return compile(source.removeprefix(_BOM), path, "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        said = error.msg if error.msg != "invalid syntax" else (error.text or "").strip()
        fact = f"invalid syntax ({' '.join(said.split())[:120]})"
        raise ProposalError(f"{path}:{error.lineno or 1}: {fact}: mend it and try again") from None
    except (RecursionError, MemoryError):
        raise ProposalError(f"{path}:1: nested too deeply to be compiled: split the expression") from None
    except ValueError:
        raise ProposalError(f"{path}:1: holds characters that Python cannot read: save it as UTF-8 text") from None


def _line_starts(data: bytes) -> list[int]:
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _assignments(tree: ast.Module) -> dict[str, tuple[ast.Assign | ast.AnnAssign, Value]]:
    bound = _bound(tree)
    found: dict[str, tuple[ast.Assign | ast.AnnAssign, Value]] = {}
    for statement in tree.body:
        name = _target(statement)
        if name is None or bound[name] != 1:
            continue
        assert isinstance(statement, ast.Assign | ast.AnnAssign)
        value = _evaluated(statement.value) if statement.value else None
        if value is not None:
            found[name] = (statement, value)
    return found


def _evaluated(node: ast.expr) -> Value | None:
    try:
        return _fold(node)[1]
    except RecursionError:  # Python's own parser goes deeper than a recursive reader can
        return None


def _target(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) and _NAME.fullmatch(target.id) else None


def _bound(tree: ast.Module) -> Counter[str]:
    """How often each name is bound in the module's own scope; `global` in a function counts."""
    names: Counter[str] = Counter()
    todo: list[tuple[ast.AST, bool]] = [(node, True) for node in tree.body]
    while todo:
        node, outside = todo.pop()
        if isinstance(node, ast.Global):
            names.update(node.names)
        elif outside and isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names[node.id] += 1
        elif not isinstance(node, ast.expr) or outside:
            outside = outside and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            todo += [(child, outside) for child in ast.iter_child_nodes(node)]
    return names


def _fold(node: ast.AST) -> tuple[str, Value | None]:
    """Canonical text of a node and its value, None when it is not an expression of literals."""
    if isinstance(node, ast.Constant):
        finite = isinstance(node.value, int | str) or (isinstance(node.value, float) and math.isfinite(node.value))
        return _form(node.value), node.value if finite else None  # type: ignore[return-value]
    if isinstance(node, ast.Tuple | ast.List):
        items = [_fold(item) for item in node.elts]
        if all(value is not None for _, value in items):
            whole = [value for _, value in items]
            value = tuple(whole) if isinstance(node, ast.Tuple) else whole
            return _form(value), value
        return f"{type(node).__name__}[{','.join(text for text, _ in items)}]", None
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        return _fold_operation(node)
    return _node_text(node), None


def _fold_operation(node: ast.UnaryOp | ast.BinOp) -> tuple[str, Value | None]:
    parts = [_fold(part) for part in ([node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right])]
    value = _calculated(type(node.op), [value for _, value in parts])
    if value is not None:
        return _form(value), value
    return f"{type(node.op).__name__}({','.join(text for text, _ in parts)})", None


_OPERATIONS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


def _calculated(kind: type[ast.AST], values: list[Value | None]) -> int | float | None:
    operation = _OPERATIONS.get(kind)
    if operation is None or not all(type(value) in (int, float) for value in values):
        return None
    if kind is ast.Pow and all(isinstance(value, int) for value in values):
        base, exponent = values
        assert isinstance(base, int) and isinstance(exponent, int)
        # Refused before it is computed: 9**9**9 would take all the memory there is.
        if abs(exponent) * max(base.bit_length(), 1) > _LARGEST_INT_BITS:
            return None
    try:
        result = operation(*values)
    except ArithmeticError:
        return None
    if isinstance(result, int):
        return result if result.bit_length() <= _LARGEST_INT_BITS else None
    return result if isinstance(result, float) and math.isfinite(result) else None


def _node_text(node: ast.AST, **fixed: str) -> str:
    """`Class(field=..., ...)` without ctx, which the place implies, and without the empty fields newer Pythons add."""
    parts = []
    for name in node._fields:
        item = getattr(node, name, None)
        if name == "ctx" or item is None or item == []:
            continue
        parts.append(f"{name}={fixed.get(name) or _field_text(item)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _field_text(item: object) -> str:
    if isinstance(item, ast.AST):
        return _fold(item)[0]
    if isinstance(item, list):
        return f"[{','.join(_field_text(entry) for entry in _meaningful(item))}]"
    return _form(item)


def _meaningful(body: list[Any]) -> list[Any]:
    """Without statements that are only a string: docstrings, in effect comments."""
    return [entry for entry in body if not (isinstance(entry, ast.Expr) and _is_text(entry.value))]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _form(value: object) -> str:
    """Canonical text of a value; types stay apart, so 1, 1.0 and True differ."""
    if isinstance(value, bool) or value is None or value is ...:
        return repr(value)
    if isinstance(value, int):
        return f"int:{int(value):x}"  # hexadecimal: decimal text of huge numbers is limited by Python
    if isinstance(value, float):
        return f"float:{float(value)!r}"
    if isinstance(value, tuple):
        return f"({','.join(map(_form, value))},)"
    if isinstance(value, list):
        return f"[{','.join(map(_form, value))}]"
    return f"{type(value).__name__}:{value!r}"


def _file_digest(path: str, content: bytes) -> bytes:
    if path.endswith(".py"):
        try:
            body = _meaningful(_parse(content.decode(), path).body)
            return _joined([_digest(_fold(statement)[0]) for statement in body])
        except (ProposalError, UnicodeDecodeError, RecursionError):
            pass  # a file that Python cannot read has no other meaning than its bytes
    return hashlib.sha256(b"bytes" + content).digest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _joined(digests: list[bytes]) -> bytes:
    return hashlib.sha256(b"python" + b"".join(digests)).digest()


def _combined(digests: Mapping[str, bytes]) -> str:
    named = [path.encode() + b"\0" + digest for path, digest in sorted(digests.items())]
    return hashlib.sha256(b"".join(named)).hexdigest()
