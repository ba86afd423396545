"""One git, run so that it does what it is told and no more.

Hooks, file-system monitors and automatic clean-up are off, nothing prompts, and the caller's GIT_* variables do not
leak in. All that it writes is synced. What it says on failure becomes one line with a cure.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from research_loop.errors import GitError

OLDEST_GIT = (2, 30)

_INSTALL = "install it (Debian/Ubuntu: apt install git; macOS: xcode-select --install)"
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "",  # empty, because git before 2.36 would run a program named "false"
    "core.splitIndex": "false",  # else a private index leaves its shared half in the user's .git
    "core.quotePath": "false",
    "gc.auto": "0",
    "i18n.commitEncoding": "UTF-8",
}
# All other GIT_* variables are dropped: inside a git hook they name another repository or another index.
_KEPT_VARIABLES = frozenset(
    {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES"}
    | {f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
)
_CURES = {
    ".lock': File exists": "a git is at work there, or was killed: try again; if none runs, remove that file",
    "but expected": "another program moved it: start again, so that it is read anew",
    "reference already exists": "another program made it: start again, so that it is read anew",
    "; cannot create": "rename that branch, or choose another tag in lab.toml",
    "cannot change to": "make the folder first",
    "No space left on device": "free some space and start again",
    "Permission denied": "make the repository writable for this user",
}


class Options(TypedDict, total=False):
    """What goes with one git: its input, more environment, more settings, and whether the system's file counts."""

    stdin: bytes
    variables: Mapping[str, str]
    settings: Mapping[str, str]
    system: bool


def spawn(
    place: Path,
    *arguments: str,
    stdin: bytes = b"",
    variables: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    system: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `place`. `system`: read /etc/gitconfig too, for what the user may rightly have set up there."""
    program, sync = _program(shutil.which("git"))
    chosen = _SETTINGS | sync | dict(settings or {})
    command = [program, *(part for name, value in chosen.items() for part in ("-c", f"{name}={value}"))]
    try:
        # A session of its own: no terminal to prompt on, and a Ctrl-C stops the loop, not a git halfway.
        return subprocess.run(
            [*command, "-C", os.fspath(place), *arguments],
            input=stdin,
            capture_output=True,
            env=_environment(system) | dict(variables or {}),
            start_new_session=True,
            check=False,
        )
    except OSError as error:
        raise GitError(f"git could not be started: {error.strerror}: see whether `git --version` works") from error


def _environment(system: bool) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name[:4] != "GIT_" or name in _KEPT_VARIABLES}
    ours = {
        "LC_ALL": "C",  # messages are read below
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LITERAL_PATHSPECS": "1",
    }
    return kept | ours | ({} if system else {"GIT_CONFIG_NOSYSTEM": "1"})


@functools.lru_cache(maxsize=8)
def _program(git: str | None) -> tuple[str, dict[str, str]]:
    """The path of git, once its version is seen to do, and the setting with which that version syncs what it writes."""
    try:
        done = subprocess.run([git or "git", "--version"], capture_output=True, check=False)
        found = re.match(rb"git version (\d+)\.(\d+)", done.stdout)
    except OSError:
        found = None
    if git is None or found is None:
        raise GitError(f"git was not found: {_INSTALL}")
    version = (int(found[1]), int(found[2]))
    if version < OLDEST_GIT:
        raise GitError(f"{git}: git {version[0]}.{version[1]} is too old, 2.30 or later is needed: {_INSTALL}")
    return git, {"core.fsync": "all"} if version >= (2, 36) else {"core.fsyncObjectFiles": "true"}


def failure(place: Path, verb: str, done: subprocess.CompletedProcess[bytes]) -> GitError:
    """One line from what git said: place, fact, cure."""
    text = done.stderr.decode(errors="replace")
    if untrusted := re.search(r"(?:dubious ownership in repository at '|unsafe repository \(')([^']+)'", text):
        cure = f"if you trust it, run: git config --global --add safe.directory {shlex.quote(untrusted[1])}"
        return GitError(f"{place}: another user owns this repository, so git refuses it: {cure}")
    if done.returncode < 0:
        return GitError(f"{place}: git {verb} was killed by signal {-done.returncode}: start again")
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    line = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0])
    cure = next((cure for sign, cure in _CURES.items() if sign in text), "see whether `git status` works there")
    return GitError(f"{place}: git {verb}: {line}: {cure}")
