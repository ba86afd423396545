"""Real coding agents use the MCP server, in a clean environment, against a scripted model on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import real
from real import BIN, CLAUDE, PATH, clean_home  # noqa: F401
from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.loop import ensure_baseline
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.testing.models import Call, ScriptedModel, Turn


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = make_quick_lab(tmp_path / "lab", seconds=1.0)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
    return lab


def claude(model: ScriptedModel, server: list[str], tools: list[str]) -> tuple[list[str], dict[str, str]]:
    servers = {"mcpServers": {"lab": {"command": server[0], "args": server[1:]}}}
    words = ["--bare", "-p", "try one idea", "--output-format", "json", "--model", "sonnet", "--max-turns", "8"]
    words += ["--strict-mcp-config", "--mcp-config", json.dumps(servers), "--permission-mode", "dontAsk"]
    environment = real.variables("claude", model.url, Path())
    return [str(CLAUDE), *words, "--allowedTools", ",".join(tools)], {**environment, "DISABLE_AUTOUPDATER": "1"}


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
    served = {"lab": {"type": "local", "command": server, "enabled": True}}
    denied = {"edit": "deny", "bash": "deny", "webfetch": "deny"}
    words = ["run", "--format", "json", "-m", "stub/stub-model", "try one idea"]
    return [str(BIN / "opencode"), *words], real.opencode(model.url, permission=denied, mcp=served)


@pytest.mark.parametrize(("agent", "prefix"), [(claude, "mcp__lab__"), (codex, "mcp__lab/"), (opencode, "lab_")])
def test_a_real_agent_runs_an_experiment_by_mcp(lab: Lab, home: Path, agent: Callable[..., Any], prefix: str) -> None:
    real.need(agent.__name__)
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
        done = subprocess.run(
            command,
            env={"PATH": PATH, "HOME": str(home), **environment},
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
