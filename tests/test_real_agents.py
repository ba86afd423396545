"""Real coding agents, in a clean environment, against a scripted model on loopback.

They are large and not part of the project: RESEARCH_LOOP_AGENTS names a folder where npm has installed them, and what
is not there is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.loop import ensure_baseline
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.testing.models import Call, ScriptedModel, Turn

AGENTS = Path(os.environ.get("RESEARCH_LOOP_AGENTS", "/nowhere"))
CLAUDE = AGENTS / "node_modules" / "@anthropic-ai" / "claude-code-linux-x64" / "claude"
MISSING = "not here: RESEARCH_LOOP_AGENTS names a folder with node_modules"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = make_quick_lab(tmp_path / "lab", seconds=1.0)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
    return lab


@pytest.fixture
def home() -> Iterator[Path]:
    """Not below /tmp: one of them refuses that."""
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".research-loop-test-") as place:
        yield Path(place)


@pytest.mark.skipif(not CLAUDE.is_file(), reason=f"Claude Code: {MISSING}")
def test_claude_code_runs_an_experiment_by_mcp(lab: Lab, home: Path) -> None:
    source = lab.root / "train.py"
    source.write_text(source.read_text().replace("WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25"))
    start, wait = "mcp__lab__try_start", "mcp__lab__try_wait"
    turns = [
        Turn(calls=(Call(start, {"what": "WARMDOWN_RATIO 0.5 -> 0.25", "why": "a guess"}),)),
        Turn(calls=(Call(wait, {"n": 1}),)),
        Turn("it was discarded"),
    ]
    servers = {
        "mcpServers": {"lab": {"command": sys.executable, "args": ["-m", "research_loop", "mcp", str(lab.root)]}}
    }
    with ScriptedModel(turns, with_tools=True) as model:
        words = ["--bare", "-p", "try one idea", "--output-format", "json", "--model", "sonnet", "--max-turns", "8"]
        words += ["--strict-mcp-config", "--mcp-config", json.dumps(servers), "--allowedTools", f"{start},{wait}"]
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "sk-ant-dummy",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        done = subprocess.run(
            [CLAUDE, *words, "--permission-mode", "dontAsk"],
            env=environment,
            cwd=lab.root,
            stdin=subprocess.DEVNULL,
            timeout=120,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["result"] == "it was discarded"
    experiment = Ledger(lab.ledger_path, read_only=True).experiment(1)
    assert experiment.what == "WARMDOWN_RATIO 0.5 -> 0.25" and experiment.verdict is not None
    told = json.dumps(model.asked[-1].body["messages"])
    assert experiment.verdict.kind in told and "discard" in told, "and the verdict reached the model"
