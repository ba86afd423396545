"""Python's compiled modules for contained runs, which read the packages and may not write beside them.

Installers as uv leave modules uncompiled, containers often forbid to compile them (PYTHONDONTWRITEBYTECODE): a run that
calls torch.compile then compiles some 1,500 of them and throws them away, three times the seconds of importing them.
Where that is so, what a run imports is imported once, uncontained, into a folder of the lab, and runs read it there
(PYTHONPYCACHEPREFIX).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
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


def folder(state: Path) -> Path | None:
    """Where the lab with this state has modules of this Python and this torch; None where it has none."""
    try:
        place = state / "bytecode" / f"{sys.implementation.cache_tag}-torch-{importlib.metadata.version('torch')}"
    except importlib.metadata.PackageNotFoundError:
        return None
    return place if place.is_dir() else None


def fill(state: Path, gpu: bool, say: Callable[[str], None]) -> None:
    """Makes that folder where it is missing and of use. What goes wrong is said, and costs seconds of later runs."""
    if folder(state) or lies_compiled("torch._inductor.compile_fx" if gpu else "torch"):
        return
    say("compiling the packages' modules, once ...")
    started, place = time.monotonic(), state / "bytecode"
    remove_tree(place)
    part = place / "part"
    trouble = compile_into(part, COMPILES if gpu else IMPORTS)
    if part.is_dir():
        version = importlib.metadata.version("torch")
        part.rename(place / f"{sys.implementation.cache_tag}-torch-{version}")
    say(f"not all compiled, runs start slower: {trouble}" if trouble else f"done in {time.monotonic() - started:.0f} s")


def compile_into(place: Path, statements: str) -> str:
    """Runs Python statements, uncontained, so that what they import lies compiled in `place`; "" or what went wrong."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as caches:
        names = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"
        environment = {**kept, "PYTHONPYCACHEPREFIX": str(place), **dict.fromkeys(names, caches)}
        command = [sys.executable, "-c", statements]
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"not done in {SECONDS:.0f} s"
    return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}" if done.returncode else ""


def lies_compiled(module: str) -> bool:
    """Whether an installed module has its compiled form beside it, or is not installed; without importing it."""
    package, *inner = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return True
    source = Path(spec.origin).parent.joinpath(*inner).with_suffix(".py") if inner else Path(spec.origin)
    beside = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    return beside.exists()
