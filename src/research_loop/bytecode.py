"""Python's compiled modules for contained runs, which read the packages and may not write beside them.

Installers as uv leave modules uncompiled, containers often forbid to compile them (PYTHONDONTWRITEBYTECODE): a run that
calls torch.compile then compiles some 1,500 of them and throws them away, three times the seconds of importing them.
Where that is so, what a run imports is imported once, uncontained, into a folder of the lab, and runs read it there
(PYTHONPYCACHEPREFIX).
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from research_loop.files import remove_tree

IMPORTS = "import json, numpy, tiktoken, torch"
COMPILES = (
    f"{IMPORTS}; x = torch.zeros(64, 64, device='cuda', requires_grad=True)\n"
    "torch.compile(lambda x: (x @ x).relu().sum())(x).backward()"
)
SECONDS = 300.0


def folder(state: Path, gpu: bool) -> Path | None:
    """Where the lab with this state has modules of this installation; None where it has none, or needs none."""
    place = _place(state, gpu)
    return place if place and place.is_dir() else None


def fill(state: Path, gpu: bool, say: Callable[[str], None]) -> None:
    """Makes that folder where it is missing and of use. What goes wrong is said, and costs seconds of later runs."""
    place = _place(state, gpu)
    if place is None or place.is_dir():
        return
    say("compiling the packages' modules, once ...")
    started, part = time.monotonic(), place.with_name("part")
    remove_tree(place.parent)
    try:
        trouble = compile_into(part, COMPILES if gpu else IMPORTS)
        if not trouble:
            part.rename(place)
    except OSError as error:
        trouble = str(error)
    if trouble:
        remove_tree(part)
    say(f"not compiled, runs start slower: {trouble}" if trouble else f"done in {time.monotonic() - started:.0f} s")


def compile_into(place: Path, statements: str) -> str:
    """Runs Python statements, uncontained, so that what they import lies compiled in `place`; "" or what went wrong.

    Isolated (-I): nothing in the current folder is imported, which may be an agent's.
    """
    with tempfile.TemporaryDirectory() as caches:
        prefix = f"pycache_prefix={place}"
        kept = f"import os; os.environ.update(TORCHINDUCTOR_CACHE_DIR={caches!r}, TRITON_CACHE_DIR={caches!r})\n"
        command = [sys.executable, "-I", "-X", prefix, "-c", kept + statements]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"not done in {SECONDS:.0f} s"
    return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}" if done.returncode else ""


def _place(state: Path, gpu: bool) -> Path | None:
    """One for each installation: compiled modules hold the paths and times of their sources."""
    source = _source("torch")
    if source is None or lies_compiled("torch._inductor.compile_fx" if gpu else "torch"):
        return None
    facts = f"{platform.python_version()} {source} {source.stat().st_mtime_ns} {gpu}"
    return state / "bytecode" / hashlib.sha256(facts.encode()).hexdigest()[:16]


def lies_compiled(module: str) -> bool:
    """Whether an installed module has its compiled form beside it, without importing it."""
    source = _source(module)
    if source is None:
        return False
    return (source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc").exists()


def _source(module: str) -> Path | None:
    """The file of an installed module; None where it is not installed."""
    package, *inner = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent.joinpath(*inner).with_suffix(".py") if inner else Path(spec.origin)
