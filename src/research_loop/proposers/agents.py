"""Coding agents as proposers: Claude Code, Codex, and any other by a template of its command (by ACP: acp.py).

Each gets a checkout of its own (workspace.py), the user's rights, an environment of named variables, no standard input
and a limit; its process tree is ended before anybody looks. Whether there is a proposal is decided by the bytes of the
editable files and by the words that belong to it, never by what the agent says of its success or exits with.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from research_loop.errors import ConfigError, ProposalError, RunError
from research_loop.plain import plain
from research_loop.proposers.drafting import Drafter, Request
from research_loop.proposers.hearing import ClaudeHeard, CodexHeard, Heard, Words, one_line
from research_loop.proposers.variables import cut_off, environment
from research_loop.proposers.workspace import Collected, Workspace, workspace
from research_loop.records import Draft, Proposal, Usage
from research_loop.runners.tree import Ended, Tree

MOST_TURNS = 20
"""Of Claude Code: a good edit takes four or five."""
UNSPENT = Usage(0, 0, 0.0, "estimated")
"""Where nothing was started."""
LONGEST_ARGUMENT = 128 * 1024 - 1
"""In bytes, of a command on Linux."""
PLACEHOLDER = re.compile(r"\{(prompt|prompt_file|folder)\}")
TASK = """
# How to work here

The folder that you work in is a copy made for this. Edit only {files}; any other change is thrown away and reported.
One idea. Do not train and do not install anything: your edit is checked and run afterwards. You have {seconds:.0f} s.
End your last message with one line of JSON in this form, each value a string of one sentence; without it your edit is
thrown away:
{{"what": ..., "why": ..., "risk": ...}}
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is left of an agent's work."""

    ended: Ended
    heard: Heard
    found: Collected


class Agent(ABC):
    """A drafter by a process; `name` stands in the ledger."""

    drafts = True
    vendor = ""
    variables: Mapping[str, str] = {}

    def __init__(self, name: str) -> None:
        self.name = plain(name)

    def draft(self, request: Request) -> Draft:
        if request.stopped.is_set():
            return Draft(None, "stopped", UNSPENT)
        with ExitStack() as opened:
            try:
                space = opened.enter_context(workspace(request.checkout))
                command = self._command(prompt(request), request, space)
            except OSError as error:
                why = (
                    f"no checkout in the user's cache folder ({error.strerror}): make room there or set XDG_CACHE_HOME"
                )
                return self._nothing(why, UNSPENT)
            except RunError as error:
                return self._nothing(str(error), UNSPENT)
            seen = self._seen(command, request, space)
        return self._judged(request, seen) if isinstance(seen, Seen) else seen

    def _seen(self, command: list[str], request: Request, space: Workspace) -> Seen | Draft:
        """Its work, or what came of none."""
        heard = self._heard(space)
        try:
            ended = self._work(command, request, space, heard)
        except RunError as error:
            return self._nothing(str(error), UNSPENT)
        except OSError as error:
            return self._nothing(
                f"its work could not be watched ({error.strerror or error})", heard.usage, heard.session
            )
        return Seen(ended, heard, space.collect())

    def _nothing(self, why: str, usage: Usage, session: str = "") -> Draft:
        return Draft(None, one_line(f"{self.name}: {why}"), usage, session)

    def _work(self, command: list[str], request: Request, space: Workspace, heard: Heard) -> Ended:
        """Start it, and listen until nothing of it is left. Raises RunError, OSError."""
        variables = self._environment(request, space)
        return Tree(command, space.folder, variables, request.seconds, heard.hear).wait(request.stopped)

    def _environment(self, request: Request, space: Workspace) -> dict[str, str]:
        return {**environment(self.vendor), **self.variables, **cut_off(space.beside), **request.marks}

    @abstractmethod
    def _command(self, prompt: str, request: Request, space: Workspace) -> list[str]:
        """What is started. Raises OSError, RunError."""

    @abstractmethod
    def _heard(self, space: Workspace) -> Heard:
        """Who listens to it."""

    def _judged(self, request: Request, seen: Seen) -> Draft:
        usage, session = UNSPENT if seen.ended.cause == "unstarted" else seen.heard.usage, seen.heard.session
        if seen.ended.cause == "stop":
            return Draft(None, "stopped", usage, session)
        trouble = _trouble(seen, request.seconds)
        words = seen.heard.words(seen.ended.output, seen.ended.errors)
        why = _why_not(request, seen, trouble, words)
        doubt = ""
        if words is not None and not why:
            why, doubt = _refusal(request, seen.found)
        more = (doubt, f"was refused: {refused}" if (refused := seen.heard.refused) else "", _others(seen.found))
        detail = "; ".join(part for part in (trouble, why, *more) if part)
        if words is None or why:
            return Draft(None, f"{self.name}: {plain(detail)}", usage, session)
        proposal = Proposal(seen.found.files, *words, self.name, request.checkout.parent)
        return Draft(proposal, plain(detail), usage, session)


def _refusal(request: Request, found: Collected) -> tuple[str, str]:
    """Why the loop would not run it, or why that is not known; "" for neither."""
    try:
        request.check(found.files)
    except ProposalError as error:
        return str(error), ""
    except Exception as error:  # whatever it is, the work is paid for, and it is checked before its run
        return "", one_line(f"its edit could not be checked ({type(error).__name__}: {error})")
    return "", ""


def _trouble(seen: Seen, seconds: float) -> str:
    """A bad end, in a few words; none of it decides anything."""
    ended = seen.ended
    if ended.cause == "unstarted":
        return f"cannot be started ({ended.error})"
    if ended.cause == "limit":
        return f"did not end within {seconds:g} s"
    if ended.cause == "lost":
        return "was cut off, for its keeper was killed"
    if seen.heard.trouble or ended.code == 0:
        return seen.heard.trouble
    last = next((line for line in reversed(f"{ended.output}\n{ended.errors}".splitlines()) if line.strip()), "")
    return f"ended with exit code {ended.code}: {one_line(last)}" if last else f"ended with exit code {ended.code}"


def _why_not(request: Request, seen: Seen, trouble: str, words: Words | None) -> str:
    """Why this is no proposal; "" where it may be one."""
    files, names = request.checkout.files, ", ".join(request.checkout.files)
    if not seen.ended.proven:
        return "what it left does not count, for something of it may still write there"
    if seen.found.trouble:
        return seen.found.trouble
    if all(seen.found.files[path] == files[path] for path in files):
        cure = f" ({seen.heard.cure})" if seen.heard.cure and seen.heard.refused else ""
        said = "said it was done" if seen.heard.spoke(seen.ended.output, seen.ended.errors) else "said nothing"
        return f"{names} is as it was{cure}" if trouble else f"{said}, and {names} is as it was{cure}"
    return "" if words else f"edited {names} without the JSON line that says what, why and risk"


def _others(found: Collected) -> str:
    return f"touched what is not its own, which was thrown away: {found.others}" if found.others else ""


def prompt(request: Request) -> str:
    """The brief, and how to work on it; text that any process can be given as an argument."""
    task = TASK.format(files=", ".join(request.checkout.files), seconds=request.seconds)
    text = f"{request.brief.rstrip()}\n{task}"
    return text.replace("\0", "").encode(errors="replace").decode()


def program_path(program: str, cure: str) -> str:
    """The path of a program, by its name or path. Raises ConfigError."""
    wanted = os.path.expanduser(program)  # noqa: PTH111  a Path would lose the "./" of a name that is not on PATH
    if path := shutil.which(wanted):
        return str(Path(path).absolute())
    place = Path(wanted)
    if os.sep not in wanted:
        fact = f"no such program on PATH: {cure}"
    elif place.is_dir():
        fact = "is a folder: write the path of the agent in it"
    else:
        fact = "is not executable: chmod +x it" if place.exists() else f"no such file: {cure}"
    raise ConfigError(f"{plain(program)}: {fact}")


def told_apart(program: str, words: list[str]) -> str:
    """A program's short name, with a digest of the command where there are `words` behind it, which may hold a key."""
    short = Path(program).name
    if all(PLACEHOLDER.fullmatch(word) for word in words):
        return short
    return f"{short}-{hashlib.sha256(shlex.join([program, *words]).encode(errors='replace')).hexdigest()[:6]}"


class Claude(Agent):
    """Claude Code, with the user's login but neither settings, hooks, plugins, memory nor MCP servers of theirs.

    It may read the checkout, edit its editable files, and nothing else. Its argument is a model, "" for its default.
    """

    vendor = "claude"
    variables: Mapping[str, str] = {"DISABLE_AUTOUPDATER": "1"}

    def __init__(self, argument: str = "") -> None:
        self._model = argument.strip()
        super().__init__(f"claude:{self._model}" if self._model else "claude")
        self._program = program_path("claude", "install Claude Code, or put its folder on PATH")

    def _heard(self, space: Workspace) -> Heard:
        return ClaudeHeard(space.folder, self._model)

    def _command(self, prompt: str, request: Request, space: Workspace) -> list[str]:
        words = [self._program, "-p", prompt, "--output-format", "stream-json", "--verbose"]
        words += ["--tools", "Read,Edit,Grep,Glob", "--permission-mode", "dontAsk"]
        words += ["--allowedTools", *(f"Edit({PurePosixPath(path)})" for path in request.checkout.files)]
        words += ["--setting-sources", "", "--strict-mcp-config", "--no-session-persistence"]
        words += ["--max-turns", str(MOST_TURNS)]
        words += ["--max-budget-usd", f"{request.usd:.4f}"] if request.usd is not None else []
        return [*words, "--model", self._model] if self._model else words


class Codex(Agent):
    """Codex, with the user's login and settings, in its own sandbox: it may write in the checkout and in /tmp.

    It knows no limit in money. Its argument is a model, "" for its default.
    """

    vendor = "codex"

    def __init__(self, argument: str = "") -> None:
        self._model = argument.strip()
        super().__init__(f"codex:{self._model}" if self._model else "codex")
        self._program = program_path("codex", "install Codex, or put its folder on PATH")

    def _heard(self, space: Workspace) -> Heard:
        return CodexHeard(space.folder, self._model)

    def _command(self, prompt: str, request: Request, space: Workspace) -> list[str]:
        words = [self._program, "exec", "--json", "-s", "workspace-write", "-C", str(space.folder)]
        words += ["--skip-git-repo-check", "--ephemeral", *(["-m", self._model] if self._model else [])]
        return [*words, "--", prompt]


class Template(Agent):
    """Any other agent, by the words of its command, quoted as for a shell, though there is none.

    {prompt} becomes the whole text, {prompt_file} a file with it, {folder} the checkout. It can do whatever its
    command lets it. What it prints is searched for the words; of its tokens and their cost nothing is known.
    """

    def __init__(self, argument: str = "") -> None:
        try:
            self._words = shlex.split(argument)
        except ValueError as error:
            raise ConfigError(f"agent:{plain(argument)}: {str(error).lower()}: quote it as for a shell") from error
        if not self._words:
            raise ConfigError("agent: has no command: write it behind the colon, like agent:'my-agent {prompt}'")
        if not any(name in PLACEHOLDER.findall(" ".join(self._words[1:])) for name in ("prompt", "prompt_file")):
            raise ConfigError(
                f"agent:{plain(argument)}: put {{prompt}} or {{prompt_file}} where the agent expects its task"
            )
        super().__init__(f"agent:{told_apart(self._words[0], self._words[1:])}")
        self._words[0] = program_path(self._words[0], "install it, or write the path of the agent")

    def _heard(self, space: Workspace) -> Heard:
        return Heard(space.folder)

    def _command(self, prompt: str, request: Request, space: Workspace) -> list[str]:
        file = space.beside / "prompt.txt"
        file.write_text(prompt, encoding="utf-8")
        values = {"prompt": prompt, "prompt_file": str(file), "folder": str(space.folder)}
        words = [PLACEHOLDER.sub(lambda m: values[m[1]], word) for word in self._words[1:]]
        if (longest := max(len(word.encode(errors="replace")) for word in words)) > LONGEST_ARGUMENT:
            raise RunError(f"its task is an argument of {longest:,} bytes, which is too long: use {{prompt_file}}")
        return [self._words[0], *words]


class ByCommand:
    """`agent:COMMAND`, or `agent:acp:COMMAND` for one that speaks the Agent Client Protocol."""

    drafts = True

    def __call__(self, argument: str = "") -> Drafter:
        kind, colon, rest = argument.partition(":")
        if colon and kind == "acp":
            from research_loop.proposers.acp import Acp

            return Acp(rest)
        return Template(argument)


claude, codex, agent = Claude, Codex, ByCommand()
