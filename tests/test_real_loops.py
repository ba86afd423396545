"""Real coding agents propose in a loop on the CPU lab, and find the skill, against a scripted model on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import real
from real import clean_home  # noqa: F401
from research_loop import skill
from research_loop.desk import Desk
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, run_loop
from research_loop.proposers import choose
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.models import ScriptedModel, Turn

SAID = Turn('Done.\n{"what": "WARMDOWN_RATIO 0.5 -> 0.25", "why": "longer at full rate", "risk": "none known"}')
DONE = "said it was done, and train.py is as it was"
LINES = "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25"
AGENTS = {
    "claude": "claude",
    "codex": "codex",
    "gemini": "agent:acp:gemini -m gemini-2.5-pro",
    "opencode": "agent:acp:opencode",
}


def run_until(lab: Lab, names: list[str], enough: Callable[[Ledger], bool], seconds: float) -> None:
    """The loop, which is asked to stop when the ledger has enough."""
    proposer, drafters, shared = choose(names, 0)
    with (
        Session(lab, LocalRunner(), unsafe=True) as session,
        Desk(session, drafters, shared="search" if shared else "") as desk,
    ):
        until = time.monotonic() + seconds

        def watch() -> None:
            while time.monotonic() < until and not enough(Ledger(lab.ledger_path, read_only=True)):
                time.sleep(0.2)
            session.stopping = True

        watching = threading.Thread(target=watch)
        watching.start()
        run_loop(session, proposer, Limits(), desk)
        watching.join()


@pytest.mark.parametrize("name", AGENTS)
def test_a_real_agents_proposal_is_run_and_judged_and_what_it_may_not_comes_to_nothing(
    name: str, gpt_lab: Lab, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real.need(name)
    shutil.copytree(gpt_lab.root, tmp_path / "lab", symlinks=True)
    lab = open_lab(tmp_path / "lab")
    locked, source = ((lab.root / path).read_text() for path in ("prepare.py", "train.py"))
    turns = [
        *(Turn(calls=calls) for calls in real.edits(name, "prepare.py", "TIME_BUDGET = 1", "TIME_BUDGET = 9", locked)),
        *(Turn(calls=calls) for calls in real.edits(name, "train.py", *LINES, source)),
        SAID,  # and at the next draft that is all
    ]

    def enough(ledger: Ledger) -> bool:
        run = [e for e in ledger.history.experiments if e.draft is not None and e.verdict is not None]
        return bool(run) and any(DONE in asked.draft.detail for asked in ledger.drafts())

    with ScriptedModel(turns, with_tools=True) as model:
        for variable, value in real.variables(name, model.url, home).items():
            monkeypatch.setenv(variable, value)
        run_until(lab, [AGENTS[name]], enough, seconds=150.0)
    ledger = Ledger(lab.ledger_path, read_only=True)
    experiment, *_ = [e for e in ledger.history.experiments if e.draft is not None]
    assert experiment.verdict is not None and experiment.score is not None
    assert experiment.score.verified in ("challenged", "confirmed")
    assert experiment.what == "WARMDOWN_RATIO 0.5 -> 0.25" and experiment.risk == "none known"
    details = [asked.draft.detail for asked in ledger.drafts()]
    assert any("prepare.py" in detail for detail in details), "named: refused, or changed and thrown away"
    assert any(DONE in detail for detail in details)
    assert (lab.root / "prepare.py").read_text() == locked


COMMANDS = {
    "claude": ["claude", "-p", "hello", "--output-format", "json", "--model", "sonnet", "--setting-sources", "project"],
    "codex": ["codex", "exec", "--json", "-s", "read-only", "--skip-git-repo-check", "--ephemeral", "hello"],
    "gemini": ["gemini", "-p", "hello", "--skip-trust", "-m", "gemini-2.5-pro"],
    "opencode": ["opencode", "run", "--format", "json", "-m", "stub/stub-model", "hello"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_real_agent_finds_the_skill_where_it_was_installed(name: str, home: Path) -> None:
    real.need(name)
    project = home / "project"
    project.mkdir()
    skill.install(project, ["claude-code" if name == "claude" else name], skill.PROJECT)
    with ScriptedModel([Turn("hello")]) as model:
        environment = {"HOME": str(home), "PATH": real.PATH, **real.variables(name, model.url, home)}
        if name == "gemini":
            (home / ".gemini").mkdir()
            settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
            (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
        done = subprocess.run(
            COMMANDS[name],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    told = json.dumps([asked.body for asked in model.asked])
    assert "Improves a GPT training script by experiment: edit train.py" in told, done.stdout + done.stderr
