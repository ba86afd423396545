"""Imports point one way, as docs/architecture.md draws it; and the command line starts without the heavy ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "research_loop"
LAYERS = [
    {"records", "tasks", "errors", "files", "plain", "gpus", "bytecode", "keys", "parsing"},
    {
        "config",
        "edits",
        "checks",
        "curves",
        "git",
        "pairs",
        "noise",
        "verdict",
        "plugins",
        "channel",
        "challenge",
        "levels",
        "brief",
        "kernels",
        "skill",
        "drafts",
        "purse",
    },
    {"history", "ledger", "lock", "reserve", "scoring", "sandbox", "sandbox_launch", "seccomp"},
    {"lab", "runlog", "data", "exam"},
    {"runners", "proposers"},
    {"branch", "pins", "doctor", "doctor_probes"},
    {"jobs", "judging", "watchers"},
    {"dry_run", "dry_child"},
    {"admission"},
    {"session"},
    {"signals", "detached"},
    {"desk"},
    {"loop", "audit"},
    {"views"},
    {"null", "aftermath", "cheats"},
    {"wiring"},
    {"mcp_server"},
    {"cli", "cli_skill", "testing"},
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}


def imported(path: Path) -> set[str]:
    """First names below research_loop that a file imports."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "research_loop":
            parts = (node.module or "").split(".")[1:]
            modules |= {parts[0]} if parts else {alias.name for alias in node.names}
    return modules


def test_no_module_imports_from_above_itself() -> None:
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if name in ("__init__", "__main__", "labs"):
            continue
        for other in imported(path) - {name}:
            assert LEVEL[other] <= LEVEL[name], f"{path.name} ({name}) imports {other}"


def test_the_lab_imports_nothing_of_ours() -> None:
    for path in (SOURCE / "labs").rglob("*.py"):
        assert not imported(path), path


def test_the_command_line_starts_without_torch_or_pyarrow() -> None:
    heavy = ("torch", "pyarrow", "numpy", "rich")
    code = f"import sys, research_loop.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
