"""Constants are read and rewritten exactly, and files are told apart by what they mean."""

from __future__ import annotations

import ast
import gc
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research_loop import edits, parsing
from research_loop.errors import ProposalError

SOURCE = '''"""A trainer."""
import math

DEPTH = 8  # layers
TOTAL_BATCH_SIZE = 2**19  # ~524K tokens
TOKENS: int = 64 * 1024
MATRIX_LR = 4e-2
OFFSET = -1
ADAM_BETAS = (0.8, 0.95)
NESTED = [(1, 2.0), ["a", True]]
WINDOW_PATTERN = "SSSL"
FLAG = False
lower = 3
FROM_CALL = math.sqrt(2)
FROM_NAME = DEPTH * 2


def run(x):
    """Say."""
    return x * 16384
'''


def values(source: str) -> dict[str, object]:
    return {name: constant.value for name, constant in edits.constants(source).items()}


def test_constants_are_the_literals_in_capitals_at_module_level() -> None:
    assert values(SOURCE) == {
        "DEPTH": 8,
        "TOTAL_BATCH_SIZE": 2**19,
        "TOKENS": 65536,
        "MATRIX_LR": 0.04,
        "OFFSET": -1,
        "ADAM_BETAS": (0.8, 0.95),
        "NESTED": [(1, 2.0), ["a", True]],
        "WINDOW_PATTERN": "SSSL",
        "FLAG": False,
    }


def test_a_constant_knows_its_line_and_the_bytes_of_its_value() -> None:
    source = "# é\nX = 'ü'; Y = (2 **\n 3)\n"
    found = edits.constants(source)
    assert (found["X"].line, found["Y"].line) == (2, 2)
    assert [source.encode()[c.start : c.end].decode() for c in found.values()] == ["'ü'", "2 **\n 3"]


@pytest.mark.parametrize(
    "line",
    ["if FAST:\n    X = 3", "X += 1", "def f():\n    global X\n    X = 2", "for X in (1, 2):\n    pass", "X = Y = 2"],
)
def test_a_name_bound_twice_is_no_constant(line: str) -> None:
    assert "X" not in edits.constants(f"FAST = True\nX = 1\n{line}\n")


def test_a_local_of_the_same_name_does_not_hide_a_constant() -> None:
    assert values("X = 1\ndef f():\n    X = 2\n") == {"X": 1}


@pytest.mark.parametrize("text", ["9**9**9", "2**100000", "1/0", "1e308*10", "1e999", "(-8)**0.5", "True + 1", "-'a'"])
def test_what_cannot_be_a_plain_value_is_no_constant_and_costs_nothing(text: str) -> None:
    assert edits.constants(f"X = {text}\nY = 1\n").keys() == {"Y"}


def test_replace_changes_the_values_and_no_other_byte() -> None:
    changes = {"TOTAL_BATCH_SIZE": 2**18, "MATRIX_LR": 3e-5, "ADAM_BETAS": (0.9, 0.95), "WINDOW_PATTERN": "SL"}
    expected = (
        SOURCE.replace("2**19", "2**18")
        .replace("4e-2", "3e-05")
        .replace("(0.8, 0.95)", "(0.9, 0.95)")
        .replace('"SSSL"', '"SL"')
    )
    assert edits.replace(SOURCE, changes) == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_replace_keeps_line_ends_marks_and_letters_beyond_ascii(newline: str, start: str) -> None:
    lines = ["X = 1; É = 'ü'; Y = 'é'  # größer → 2", "\x0cZ = (", "    1.5  # ½", ")", ""]
    source = start + newline.join(lines)
    result = edits.replace(source, {"X": 22, "Y": "ñ", "Z": 2.5})
    expected = source.replace("X = 1", "X = 22").replace("'é'", '"ñ"').replace("1.5", "2.5")
    assert result.encode() == expected.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1024, "2**10"),
        (512, "512"),
        (1536, "1536"),
        (-1024, "-1024"),
        (1024.0, "1024.0"),
        (0.03, "0.03"),
        (3e-5, "3e-05"),
        (True, "True"),
        ((1,), "(1,)"),
        (["a", 2**14], '["a", 2**14]'),
        ('say "hi"\\\n', '"say \\"hi\\"\\\\\\n"'),
    ],
)
def test_values_are_written_as_a_person_would(value: object, text: str) -> None:
    assert edits.render(value) == text
    assert ast.literal_eval(text.replace("2**14", "16384").replace("2**10", "1024")) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, {"a": 1}, 1j, (1, None), 1 << 5000])
def test_a_value_that_cannot_be_a_constant_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ProposalError, match=r"^a constant cannot hold [^\n]*$"):
        edits.replace("X = 1\n", {"X": value})


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ProposalError, match=r"^train\.py: no constant WIDTH; it has X$"):
        edits.replace("X = 1\n", {"WIDTH": 1})


SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda part: st.one_of(st.lists(part, max_size=3), st.lists(part, max_size=3).map(tuple)), max_leaves=6
)


def _typed(value: object) -> object:
    return (type(value), [_typed(part) for part in value]) if isinstance(value, list | tuple) else (type(value), value)


@settings(max_examples=150, deadline=None)
@given(
    old=st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,5}", fullmatch=True), VALUES, min_size=1, max_size=4),
    new=st.lists(VALUES, min_size=4, max_size=4),
    comment=st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=10),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_constants_and_replace_agree_on_any_values(
    old: dict[str, object], new: list[object], comment: str, newline: str
) -> None:
    source = newline.join(f"{name} = {edits.render(value)}  # {comment}" for name, value in old.items())
    assert _typed(list(values(source).values())) == _typed(list(old.values()))
    changes = dict(zip(list(old)[1:], new, strict=False))
    result = edits.replace(source, changes)
    assert _typed(list(values(result).values())) == _typed(list({**old, **changes}.values()))
    assert edits.replace(result, {name: old[name] for name in changes}).encode() == source.encode()
    files = {"train.py": source.encode(), "notes.txt": b"x"}
    assert edits.Variants(files, "train.py").key(changes) == edits.key({**files, "train.py": result.encode()})


def key(source: str) -> str:
    return edits.key({"train.py": source.encode()})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("X = 2**14\n", "X = 1_6384\n"),
        ("X = 1e-1\n", "X = 0.1  # a tenth\n"),
        ("f(64 * 1024)\n", "f(\n    65536,\n)\n"),
        ('"""Doc."""\ndef f():\n    """Say."""\n    return 1\n', "def f():\n\n    return (1)\n"),
        ("X = 'a'\r\n", 'X = "a"\n'),
        ("X = (1, -2)\n", "X = 1, -2\n"),
        ("def f(x):  # type: (int) -> int\n    return u'a'\n", "def f(x):\n    return 'a'\n"),
    ],
)
def test_files_that_mean_the_same_have_one_key(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("X = 1\n", "X = 1.0\n"),
        ("X = 1\n", "X = True\n"),
        ("X = (1, 2)\n", "X = [1, 2]\n"),
        ("X = a + b\n", "X = b + a\n"),
        ("X = 'b'\n", "X = b'b'\n"),
        ("X = -a\n", "X = +a\n"),
        ("f(a=1)\n", "f(b=1)\n"),
        ("if a:\n    b\nc\n", "if a:\n    b\n    c\n"),
        ("X = (\n", "X = ( \n"),
    ],
)
def test_files_that_mean_different_things_have_different_keys(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_the_key_covers_names_and_other_files_bytes() -> None:
    assert edits.key({"a.py": b"X = 1"}) != edits.key({"b.py": b"X = 1"})
    assert edits.key({"a.txt": b"X = 1"}) != edits.key({"a.txt": b"X = 1 "})
    assert edits.key({"a.py": b"X = 1", "b.txt": b""}) == edits.key({"b.txt": b"", "a.py": b"X=1"})
    assert edits.key({"a.py": b"\xff"}) != edits.key({"a.py": b"\xfe"})


def test_the_key_does_not_depend_on_the_python_version() -> None:
    # Computed once with 3.11: a change here would make every ledger forget what was tried.
    assert key(SOURCE) == "d3e7a4103742f8494fd6948caee786d3ee9e8333227ec2972ef8a7bc7b5d2016"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = 1\nx = = 3\n", "train.py:2: invalid syntax (x = = 3): mend it and try again"),
        (b"\n\nprint('a\n", "train.py:3: invalid syntax (unterminated string literal (detected at line 3)): "),
        (b"return 3\n", "train.py:1: invalid syntax ('return' outside function): mend it"),
        (b"x = 1\ny = '\0'\n", "train.py:2: holds a NUL byte"),
        (b"x = 1\ny = '\xff'\n", "train.py:2: not UTF-8"),
        (b"#" * 262_145, "train.py: 262,145 bytes, where the files of a proposal may hold 262,144 together"),
        (b"# -*- coding: latin-1 -*-\n", "train.py:1: declares iso-8859-1"),
        (b"x = " + b"-" * 100_000 + b"1\n", "train.py:1: nested too deeply"),
    ],
)
def test_a_file_that_cannot_run_is_refused_in_one_line_with_its_place(content: bytes, message: str) -> None:
    with pytest.raises(ProposalError) as error:
        edits.check({"train.py": content})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_weights_do_not_fit_into_several_files_either() -> None:
    half = b"#" * 2**17
    edits.check({"a.py": half, "b.txt": half})
    with pytest.raises(ProposalError, match=r"^c\.py: 131,073 bytes, where the files of a proposal may hold 262,144"):
        edits.check({"a.py": half, "c.py": half + b"#"})


def test_good_files_pass_the_check() -> None:
    edits.check({"walrus.py": b"x: (y := 1) = 2\n"})  # an error only under another file's `annotations` future
    edits.check({"train.py": SOURCE.encode(), "bom.py": b"\xef\xbb\xbfx = 'a'\r\n", "notes.md": b"x = = 3"})


def test_a_chain_too_long_for_a_recursive_reader_still_has_a_key_and_a_clear_answer() -> None:
    source = "Y = 1\nX = " + "+".join(["1"] * 900) + "\n"
    assert values(source) == {"Y": 1}
    assert key(source) != key(source + "\n")
    with pytest.raises(ProposalError, match="nested too deeply"):
        edits.Variants({"train.py": source.encode()}, "train.py")


@pytest.mark.parametrize("text", ["x", "print(1)", "1 +", "", "[1, x]", "__import__('os')"])
def test_a_text_that_is_no_literal_is_refused(text: str) -> None:
    with pytest.raises(ProposalError, match="is not a literal value"):
        edits.literal(text)


def test_two_threads_may_parse_at_once() -> None:
    """Where a collection of garbage runs Python code, as here, ast.parse itself fails in one of them (gh-106905)."""
    source = f"DEEP = {'(' * 20}1{')' * 20}\n" + "\n".join(f"a{n} = [1, (2, {{3: f({n})}})]" for n in range(300))
    failed: list[Exception] = []

    def read() -> None:
        try:
            for _ in range(15):
                parsing.parse(source)
        except SystemError as error:
            failed.append(error)

    def switch(phase: str, facts: dict[str, int]) -> None:
        time.sleep(0)

    before, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(switch)
    gc.set_threshold(20)
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(switch)
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)
    assert not failed
