"""Which sandbox is taken, and why another is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from research_loop import sandbox
from research_loop.sandbox import SandboxError, choose
from runs import linux
from test_sandbox import working

pytestmark = linux
SOURCE = Path(sandbox.__file__).parent


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What was found out of the machine is found out again, before and after."""
    caches = (sandbox._trouble, sandbox.bubblewrap_version)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_auto_takes_the_first_that_works(forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    best = working("bubblewrap")
    assert choose() is best
    for cache in (sandbox._trouble, sandbox.bubblewrap_version):
        cache.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="sandbox bubblewrap: not installed: `apt install bubblewrap`"):
        choose("bubblewrap")
    assert choose().name == "landlock"


def test_a_bubblewrap_that_does_not_work_is_not_taken(
    forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=r"setting up uid map: Permission denied: .*(name spaces|AppArmor)"):
        choose("bubblewrap")


def test_one_that_contains_nothing_is_not_taken(
    forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leaky = tmp_path / "bwrap"
    leaky.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    leaky.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="leaks"):
        choose("bubblewrap")


def test_a_landlock_that_is_too_old_is_not_taken(
    forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """This machine's, called too old."""
    working("landlock")
    sandbox._trouble.cache_clear()
    launcher = tmp_path / "launcher.py"
    launcher.write_text(sandbox.LAUNCHER.read_text().replace("\nOLDEST = 3\n", "\nOLDEST = 99\n"))
    monkeypatch.setattr(sandbox, "LAUNCHER", launcher)
    with pytest.raises(
        SandboxError, match=r"sandbox landlock: .*version \d+ of Landlock .*: needs Linux 6\.2 or later"
    ):
        choose("landlock")


def test_an_unknown_backend_is_refused_and_none_only_when_named() -> None:
    assert choose("none").name == "none"
    with pytest.raises(SandboxError, match="firejail: no such backend: auto, bubblewrap, landlock, none"):
        choose("firejail")


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_it_works_for_an_ordinary_user(name: str) -> None:
    working(name)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if os.getuid() != 0 or python is None:
        pytest.skip("only root can become another, and needs a Python that all may read")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        shutil.copytree(SOURCE, Path(place, "research_loop"))
        code = f"from research_loop.sandbox import choose; import os; print(choose({name!r}).name, os.getuid())"
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": place}
        done = subprocess.run([python, "-c", code], env=environment, user=65534, group=65534, extra_groups=[],
                              capture_output=True, text=True, cwd="/")  # fmt: skip
    if "SyntaxError" in done.stderr or "ImportError" in done.stderr:
        pytest.skip("that Python is older than 3.11")
    assert done.stdout.split() == [name, "65534"], done.stderr
