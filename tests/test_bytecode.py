"""Modules that contained runs import are compiled once, where runs cannot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from research_loop import bytecode


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of three modules that nothing has compiled."""
    folder = tmp_path / "a_package"
    folder.mkdir()
    for name in ("__init__", "inner", "other"):
        (folder / f"{name}.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return folder


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "IMPORTS", "import json")
    monkeypatch.setattr(bytecode, "lies_compiled", lambda module: False)


def names(place: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in place.rglob("*.pyc") if path.parent.name == "a_package"}


def importing(package: Path, what: str) -> str:
    return f"import sys; sys.path.insert(0, {str(package.parent)!r}); import {what}"


def test_what_statements_import_is_compiled_apart_from_its_sources(package: Path, tmp_path: Path) -> None:
    assert bytecode.compile_into(tmp_path / "there", importing(package, "a_package.inner")) == ""
    assert names(tmp_path / "there") == {"__init__", "inner"}
    assert {path.name for path in package.iterdir()} == {"__init__.py", "inner.py", "other.py"}


def test_statements_that_fail_are_one_line(package: Path, tmp_path: Path) -> None:
    trouble = bytecode.compile_into(tmp_path / "there", importing(package, "a_package, a_package.missing"))
    assert trouble.startswith("ModuleNotFoundError") and "\n" not in trouble
    assert bytecode.compile_into(tmp_path / "there", "raise SystemExit(3)") == "exit code 3"


def test_nothing_of_the_current_folder_or_of_pythonpath_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert bytecode.compile_into(tmp_path / "there", "import colorsys") == ""
    assert not (tmp_path / "ran").exists() and list((tmp_path / "there").rglob("colorsys*.pyc"))


def test_a_module_lies_compiled_or_not(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bytecode.lies_compiled("a_package") and not bytecode.lies_compiled("a_package.inner")
    beside = package / "__pycache__" / f"inner.{sys.implementation.cache_tag}.pyc"
    beside.parent.mkdir()
    beside.write_bytes(b"")
    monkeypatch.setattr("sys.pycache_prefix", "/elsewhere")
    assert bytecode.lies_compiled("a_package.inner") and not bytecode.lies_compiled("a_package")
    assert not bytecode.lies_compiled("no_such_package.inner")


@pytest.mark.usefixtures("uncompiled")
def test_the_folder_is_filled_once_and_anew_for_another_installation(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "_source", lambda module: package / "inner.py")
    said: list[str] = []
    assert bytecode.folder(tmp_path, False) is None
    bytecode.fill(tmp_path, False, said.append)
    first = bytecode.folder(tmp_path, False)
    assert first and list(first.rglob("json/__init__*.pyc")) and said[1].startswith("done in ")
    assert bytecode.folder(tmp_path, True) is None, "a GPU's runs import more"
    bytecode.fill(tmp_path, False, said.append)
    assert len(said) == 2
    os.utime(package / "inner.py", ns=(1, 1))
    assert bytecode.folder(tmp_path, False) is None
    bytecode.fill(tmp_path, False, said.append)
    assert bytecode.folder(tmp_path, False) not in (None, first) and not first.exists()


@pytest.mark.usefixtures("uncompiled")
def test_a_fill_that_fails_is_said_leaves_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with monkeypatch.context() as broken:
        broken.setattr(bytecode, "IMPORTS", "import json, no_such_module")
        bytecode.fill(tmp_path, False, said.append)
        assert "runs start slower: ModuleNotFoundError" in said[-1]
        broken.setattr("sys.executable", "/no/such/python")
        bytecode.fill(tmp_path, False, said.append)
        assert "runs start slower: [Errno 2]" in said[-1]
    assert bytecode.folder(tmp_path, False) is None and not list(tmp_path.rglob("*.pyc"))
    bytecode.fill(tmp_path, False, said.append)
    assert bytecode.folder(tmp_path, False)


def test_packages_that_lie_compiled_or_are_not_there_need_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(bytecode, "lies_compiled", lambda module: True)
        bytecode.fill(tmp_path, True, pytest.fail)
    monkeypatch.setattr(bytecode, "_source", lambda module: None)
    bytecode.fill(tmp_path, True, pytest.fail)
    assert not list(tmp_path.iterdir())
