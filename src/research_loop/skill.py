"""The skill that tells a coding agent how to work here: where it lies, and where each agent looks for one.

The format is that of agentskills.io; the folders are what the agents' documentation says, and for Claude Code, Codex,
Gemini CLI, OpenCode and Copilot CLI what was seen with skills laid into every candidate folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from research_loop.errors import ConfigError
from research_loop.files import write_whole

NAME = "autoresearch"
SHIPPED = Path(__file__).parent / "skills" / NAME
CHECKOUT = Path(__file__).parents[2] / "skills" / NAME

PROJECT = {
    "claude-code": ".claude/skills",
    "codex": ".agents/skills",
    "copilot": ".agents/skills",
    "cursor": ".agents/skills",
    "devin": ".agents/skills",
    "gemini": ".agents/skills",
    "opencode": ".agents/skills",
    "windsurf": ".windsurf/skills",
}
"""Below a project's folder, by agent."""
HOME = {**PROJECT, "cursor": ".cursor/skills", "windsurf": ".codeium/windsurf/skills"}
"""Below the user's home."""


def find() -> Path:
    """The skill's folder: in the wheel, or in a checkout. Raises ConfigError when it is in neither."""
    for folder in (SHIPPED, CHECKOUT):
        if (folder / "SKILL.md").is_file():
            return folder
    raise ConfigError(f"{SHIPPED}: the skill is not in this installation: install research-loop anew")


def install(root: Path, agents: Iterable[str], places: dict[str, str], *, force: bool = False) -> dict[Path, bool]:
    """Copies the skill to where these agents look below `root`: by folder, whether anything was written.

    Raises ConfigError, and writes nothing, for a folder that is not there, an agent that is not in `places`, and where
    another text has the skill's name, unless `force`d.
    """
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder: make it, or name another")
    files = {path.relative_to(find()): path.read_bytes() for path in sorted(find().rglob("*")) if path.is_file()}
    chosen = dict.fromkeys(root / _place(agent, places) / NAME for agent in agents)
    stale = {folder: [name for name, data in files.items() if not _holds(folder / name, data)] for folder in chosen}
    for folder, names in stale.items():
        for name in names:
            _refuse_what_is_in_the_way(root, folder / name)
        if not force and any(os.path.lexists(folder / name) for name in names):
            raise ConfigError(f"{folder}: holds another text of this skill: --force writes over it")
    for folder, names in stale.items():
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (folder / name).is_symlink():  # it would lead elsewhere
                (folder / name).unlink()
            write_whole(folder / name, files[name])
    return {folder: bool(names) for folder, names in stale.items()}


def _place(agent: str, places: dict[str, str]) -> str:
    if agent not in places:
        raise ConfigError(f"--for {agent}: no such agent: one of {', '.join(places)}")
    return places[agent]


def _refuse_what_is_in_the_way(root: Path, path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder where the skill's text belongs: move it away")
    for above in path.parents:
        if above == root:
            return
        if os.path.lexists(above) and not above.is_dir():
            raise ConfigError(f"{above}: is not a folder, and the skill belongs below it: move it away")


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data
