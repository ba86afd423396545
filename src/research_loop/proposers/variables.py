"""Which variables of the harness's environment an agent gets: what it needs to work, and its own vendor's keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "DO_NOT_TRACK"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
PASSED_ON_PREFIXES = ("LC_", "XDG_", "DISABLE_")
ANY_VENDORS = (
    *("ANTHROPIC_", "CLAUDE_", "OPENAI_", "CODEX_", "GEMINI_", "GOOGLE_", "OPENCODE_", "COPILOT_", "CURSOR_"),
    *("DEVIN_", "DASHSCOPE_", "QWEN_", "OPENROUTER_", "AIDER_"),
)
"""Prefixes of what an agent gets of which it is not known whose keys it needs."""
VENDORS = {
    "claude": ("ANTHROPIC_", "CLAUDE_", "AWS_", "GOOGLE_", "CLOUD_ML_REGION", "VERTEX_REGION_"),
    "codex": ("OPENAI_", "CODEX_"),
    "gemini": ("GEMINI_", "GOOGLE_"),
    "copilot": ("COPILOT_", "GH_TOKEN", "GITHUB_TOKEN"),
    "cursor": ("CURSOR_",),
    "devin": ("DEVIN_",),
    "qwen": ("QWEN_", "DASHSCOPE_", "OPENAI_"),
}
"""The same of those that are known; OpenCode is none of them, for it takes the keys of any vendor."""
NEVER = ("CLAUDECODE", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_ENTRYPOINT", "CODEX_SANDBOX")
"""Prefixes of what tells of an agent around the harness."""


def environment(agent: str = "") -> dict[str, str]:
    """Of this process's environment what that agent gets, by name; "" for any other."""
    prefixes = (*PASSED_ON_PREFIXES, *VENDORS.get(agent, ANY_VENDORS))
    return {
        name: value
        for name, value in os.environ.items()
        if (name in PASSED_ON or name.startswith(prefixes)) and not name.startswith(NEVER)
    }


def cut_off(place: Path) -> Mapping[str, str]:
    """What keeps git from taking a repository above a workspace for the one that it is in."""
    return {"GIT_CEILING_DIRECTORIES": os.pathsep.join((str(place), str(place.parent)))}
