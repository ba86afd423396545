"""`research-loop skill`: the skill for coding agents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from research_loop import skill
from research_loop.errors import ConfigError
from research_loop.plain import plain

app = typer.Typer(help="The skill for coding agents: install it, or say where it lies.", no_args_is_help=True)


@app.command()
def install(
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="The project. Default: this folder")] = None,
    user: Annotated[bool, typer.Option("--user", help="For all of this user's projects")] = False,
    agents: Annotated[list[str] | None, typer.Option("--for", help="Only for this agent; repeatable")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over another text of the skill")] = False,
) -> None:
    """Copy the skill to where coding agents look: Claude Code, Codex, Copilot, Cursor, Devin, Gemini CLI, OpenCode,
    Windsurf."""
    if user and folder:
        raise ConfigError(f"{folder}: --user goes without a folder: leave out one of them")
    places = skill.HOME if user else skill.PROJECT
    root = Path.home() if user else folder or Path()
    for place, written in skill.install(root, agents or places, places, force=force).items():
        print(f"{plain(str(place))}: {'written' if written else 'there already'}")


@app.command()
def path() -> None:
    """Where the skill lies in this installation, for other installers."""
    print(skill.find())
