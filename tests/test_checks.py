"""Names that are surely undefined are found, and nothing else is."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from research_loop.checks import check_names
from research_loop.errors import ProposalError

ROOT = Path(__file__).parents[1]
TRAINS = [ROOT / "src" / "research_loop" / "labs" / "gpt" / "train.py", ROOT / "benchmarks" / "stock_train.py"]


def said(source: str, path: str = "train.py") -> str | None:
    """The refusal, None where there is none."""
    try:
        check_names({path: source.encode()})
    except ProposalError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("source", "refusal"),
    [
        ("x = 1\nprint(foo)\n", "train.py:2: undefined name 'foo': define it, or mend the spelling"),
        (
            "def f():\n    return step\n\ndef g(step):\n    return step\n",
            "train.py:2: undefined name 'step': define it, or mend the spelling",
        ),
        ("print(later)\nlater = 1\n", "train.py:1: undefined name 'later': define it, or mend the spelling"),
        ("for i in range(3):\n    print(j)\n", "train.py:2: undefined name 'j': define it, or mend the spelling"),
        ("text = f'loss {los:.3f}'\n", "train.py:1: undefined name 'los': define it, or mend the spelling"),
        (
            "n = 0\n\ndef f():\n    print(n)\n    n = 1\n",
            "train.py:4: local variable 'n' is read before it is set: set it first, or declare it global",
        ),
        (
            "def f():\n    print(max(1, 2))\n    max = 3\n",
            "train.py:2: local variable 'max' is read before it is set: set it first, or declare it global",
        ),
        (
            "try:\n    import torch\nexcept ImportError:\n    print(missing)\n",
            "train.py:4: undefined name 'missing': define it, or mend the spelling",
        ),
    ],
)
def test_a_name_that_is_surely_undefined_is_refused_with_its_place(source: str, refusal: str) -> None:
    assert said(source) == refusal


@pytest.mark.parametrize(
    "source",
    [
        "globals()['foo'] = 1\nprint(foo)\n",
        "exec('foo = 1')\nprint(foo)\n",
        "import sys\nsetattr(sys.modules[__name__], 'foo', 1)\nprint(foo)\n",
        "import builtins\nbuiltins.foo = 1\nprint(foo)\n",
        "from prepare import *\nprint(foo)\n",
        "try:\n    foo\nexcept NameError:\n    pass\n",
        "try:\n    foo\nexcept (OSError, Exception):\n    pass\n",
        "for i in range(3):\n    if i:\n        print(last)\n    last = i\n",
        "def f(g):\n    while True:\n        if g():\n            return last\n        last = 1\n",
        "last = 0\n\ndef f():\n    for i in range(3):\n        if i:\n            print(last)\n        last = i\n",
        "from __future__ import annotations\n\ndef f(x: Tensor) -> Loss:\n    y: Other = x\n    return y\n",
        "def f(x: 'Float[Tensor, \"batch time\"]'):\n    return x\n",
        "x = 1\nfor _ in range(0):\n    del x\nprint(x)\n",
        "later = (y for _ in range(3))\ny = 1\nprint(list(later))\n",
        "class A:\n    def f(self):\n        return __class__, B\n\nclass B:\n    pass\n",
        "def f():\n    global step\n    step = 1\n\ndef g():\n    return step\n",
        "print(__file__, __name__, exit)\n",
        "import unused\nfrom os import path\nx = 1\nx == 1\nf'{x!r}' f''\n",
    ],
)
def test_a_name_that_may_be_there_is_let_through(source: str) -> None:
    assert said(source) is None


def test_only_python_that_can_be_read_is_looked_at() -> None:
    check_names({"notes.md": b"print(foo)", "train.py": b"def f(:\n", "other.py": b"x = '\xff'\0"})
    check_names({"deep.py": b"x = " + b"-" * 20_000 + b"y"})


def test_the_first_of_several_is_named() -> None:
    assert said("b = 1\nprint(foo)\nprint(bar)\n", "model/net.py") == (
        "model/net.py:2: undefined name 'foo': define it, or mend the spelling"
    )


@pytest.mark.parametrize("path", TRAINS, ids=lambda path: path.name)
def test_the_training_scripts_pass_until_a_name_in_them_is_misspelt(path: Path) -> None:
    source = path.read_text()
    assert said(source) is None
    broken = source.replace("return F.rms_norm(x,", "return F.rms_norm(xx,")
    assert "undefined name 'xx'" in (said(broken) or "")


def test_no_file_of_the_corpus_is_refused() -> None:
    corpus = sorted((ROOT / "tests" / "cheats").rglob("*.py"))
    assert sum("honest" in path.parts for path in corpus) > 30
    check_names({str(path): path.read_bytes() for path in corpus})


def test_what_parses_with_a_warning_warns_nobody_and_modules_of_a_model_are_none_of_the_interpreters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "'unbound'" in (said("PATTERN = '\\d'\nprint(unbound)\n") or "")
    assert "undefined name 'absent'" in (said("for part in absent.modules():\n    print(part)\n") or "")
    assert said("import sys\nsys.modules['a'] = 1\nprint(missing)\n") is None
