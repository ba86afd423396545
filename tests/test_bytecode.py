"""Modules that contained runs import are compiled once, where runs cannot."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from research_loop import bytecode


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two modules that nothing has compiled."""
    folder = tmp_path / "a_package"
    folder.mkdir()
    for name in ("__init__", "inner", "other"):
        (folder / f"{name}.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return folder


def names(place: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in place.rglob("*.pyc") if path.parent.name == "a_package"}


def test_what_statements_import_is_compiled_apart_from_its_sources(package: Path, tmp_path: Path) -> None:
    assert bytecode.compile_into(tmp_path / "there", "import a_package.inner") == ""
    assert names(tmp_path / "there") == {"__init__", "inner"}
    assert {path.name for path in package.iterdir()} == {"__init__.py", "inner.py", "other.py"}


def test_statements_that_fail_are_one_line_and_keep_what_was_compiled(package: Path, tmp_path: Path) -> None:
    trouble = bytecode.compile_into(tmp_path / "there", "import a_package\nimport a_package.missing")
    assert trouble.startswith("ModuleNotFoundError") and "\n" not in trouble
    assert names(tmp_path / "there") == {"__init__"}
    assert bytecode.compile_into(tmp_path / "there", "raise SystemExit(3)") == "exit code 3"


def test_a_module_lies_compiled_or_not(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bytecode.lies_compiled("a_package") and not bytecode.lies_compiled("a_package.inner")
    beside = package / "__pycache__" / f"inner.{sys.implementation.cache_tag}.pyc"
    beside.parent.mkdir()
    beside.write_bytes(b"")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/elsewhere")
    monkeypatch.setattr("sys.pycache_prefix", "/elsewhere")
    assert bytecode.lies_compiled("a_package.inner") and not bytecode.lies_compiled("a_package")
    assert bytecode.lies_compiled("no_such_package.inner"), "nothing to compile"


def test_the_folder_is_filled_once_and_anew_for_another_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "IMPORTS", "import json")
    monkeypatch.setattr(bytecode, "lies_compiled", lambda module: False)
    said: list[str] = []
    assert bytecode.folder(tmp_path) is None
    bytecode.fill(tmp_path, False, said.append)
    first = bytecode.folder(tmp_path)
    assert first and list(first.rglob("json/__init__*.pyc")) and said[1].startswith("done in ")
    bytecode.fill(tmp_path, False, said.append)
    assert len(said) == 2
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0")
    assert bytecode.folder(tmp_path) is None
    bytecode.fill(tmp_path, False, said.append)
    assert bytecode.folder(tmp_path) not in (None, first) and not first.exists()


def test_packages_that_lie_compiled_need_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "lies_compiled", lambda module: True)
    bytecode.fill(tmp_path, True, pytest.fail)
    assert not list(tmp_path.iterdir())
