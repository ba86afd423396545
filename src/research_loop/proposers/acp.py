"""Any coding agent that speaks the Agent Client Protocol (ACP), version 1, as a proposer.

It is asked for one turn in a session of its own. Where it asks for a permission, it gets it for the editable files and
for nothing else; what it does without asking comes to nothing, since only the bytes of those files come back. Facts
about agents: agentclientprotocol.com/protocol/v1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research_loop.errors import ConfigError
from research_loop.plain import plain
from research_loop.proposers import agents
from research_loop.proposers.acp_desk import AcpHeard, Desk
from research_loop.proposers.drafting import Request
from research_loop.proposers.hearing import Heard, as_list, as_mapping, as_text, one_line
from research_loop.proposers.variables import environment
from research_loop.proposers.workspace import Workspace
from research_loop.runners.talk import Talk
from research_loop.runners.tree import LONGEST_LINE, Ended

if TYPE_CHECKING:
    from acp.connection import Connection

PRESETS = {
    "gemini": ("gemini", "--acp"),
    "opencode": ("opencode", "acp"),
    "copilot": ("copilot", "--acp"),
    "cursor": ("agent", "acp"),
    "devin": ("devin", "acp"),
    "qwen": ("qwen", "--acp"),
}
OTHER_PROGRAMS = {"cursor": "cursor-agent"}
VARIABLES = {"opencode": {"OPENCODE_PERMISSION": '{"edit": "ask", "bash": "ask", "webfetch": "ask"}'}}
"""By preset: OpenCode edits and runs without asking unless it is told to ask."""
KEYS = {
    "gemini-api-key": "GEMINI_API_KEY",
    "openai-api-key": "OPENAI_API_KEY",
    "codex-api-key": "CODEX_API_KEY",
    "anthropic-api-key": "ANTHROPIC_API_KEY",
    "cursor_login": "CURSOR_API_KEY",
}
"""What a way to log in needs, by its name; one of the type env_var says it itself."""
ASKING_MODES = ("default", "read-only")
"""In which Claude Code and Codex ask before they edit."""
AUTH_REQUIRED = -32000
START_SECONDS = 60.0
"""Until the first answer: a program that does not speak ACP gives none."""
CANCEL_SECONDS, TICK_SECONDS = 0.5, 0.2


class Acp(agents.Agent):
    """Its argument is the words of a command, quoted as for a shell, or a preset's name with further words behind it.

    Its tokens and cost are those that it says itself; cost only in USD. It is ended where it says that it spent more
    than the draft may cost.
    """

    def __init__(self, argument: str = "") -> None:
        _need_the_package()
        try:
            words = shlex.split(argument)
        except ValueError as error:
            raise ConfigError(f"agent:acp:{plain(argument)}: {str(error).lower()}: quote it as for a shell") from error
        if not words:
            raise ConfigError("agent:acp: has no command: write it behind the colon, like agent:acp:gemini")
        more = _more(words)
        super().__init__(f"agent:acp:{agents.told_apart(words[0], more)}")
        self.vendor = words[0] if words[0] in PRESETS else ""
        self.variables = VARIABLES.get(words[0], {})
        self._words = [*_preset(words[0]), *more]
        self._words[0] = agents.program_path(self._words[0], "install it, or write the path of the agent")

    def _heard(self, space: Workspace) -> AcpHeard:
        return AcpHeard(space.folder)

    def _command(self, prompt: str, request: Request, space: Workspace) -> list[str]:
        return self._words

    def _work(self, command: list[str], request: Request, space: Workspace, heard: Heard) -> Ended:
        assert isinstance(heard, AcpHeard)
        with unlogged():
            return asyncio.run(self._converse(command, request, space, heard))

    async def _converse(self, command: list[str], request: Request, space: Workspace, heard: AcpHeard) -> Ended:
        """Start it, talk with it and end it. Raises RunError."""
        from acp.connection import Connection

        talk = Talk(command, space.folder, self._environment(request, space), request.seconds)
        watching = asyncio.create_task(talk.watch())
        connection = Connection(Desk(request, space, heard).answer, talk)
        turn = asyncio.create_task(self._turn(connection, request, space, heard))
        try:
            await _until(turn, request, heard, connection)
        finally:
            talk.end()
            ended = await watching
            finished = await turn  # without an answer: the end of the talk is one
            await connection.close()
        if talk.too_long:
            heard.trouble = f"sent a line of more than {LONGEST_LINE} bytes"
        return _as_seen(ended, finished, heard, request)

    async def _turn(self, connection: Connection, request: Request, space: Workspace, heard: AcpHeard) -> bool:
        """From the first word to the answer; whether there was one. What is wrong is said to `heard`."""
        from acp.exceptions import RequestError

        try:
            methods = await _introduce(connection)
            session = await self._session(connection, space, methods)
            heard.own_session = as_text(session.get("sessionId"))
            heard.session = one_line(heard.own_session)
            if not heard.own_session:
                raise _TalkError("opened no session")
            await _ask_first(connection, session)
            text = {"type": "text", "text": agents.prompt(request)}
            asked = {"sessionId": heard.own_session, "prompt": [text]}
            heard.take_end(as_mapping(await connection.send_request("session/prompt", asked)))
        except _TalkError as error:
            heard.trouble = str(error)
        except RequestError as error:
            heard.trouble = one_line(f"answered with an error: {_said(error)}")
        except ConnectionError:
            return False
        return True

    async def _session(self, connection: Connection, space: Workspace, methods: list[Any]) -> Mapping[str, Any]:
        """A new one, after a login where that is demanded. Raises _TalkError, RequestError, ConnectionError."""
        from acp.exceptions import RequestError

        wanted = {"cwd": str(space.folder), "mcpServers": []}
        try:
            return as_mapping(await connection.send_request("session/new", wanted))
        except RequestError as error:
            if error.code != AUTH_REQUIRED:
                raise
            method = next(
                (as_text(method.get("id")) for method in map(as_mapping, methods) if self._usable(method)), ""
            )
            if not method:
                raise _TalkError(one_line(f"wants a login ({_said(error)}): {self._login(methods)}")) from error
        await connection.send_request("authenticate", {"methodId": method})
        return as_mapping(await connection.send_request("session/new", wanted))

    def _login(self, methods: list[Any]) -> str:
        needed = [name for method in map(as_mapping, methods) for name in _needed(method)]
        cure = f"log in once with {Path(self._words[0]).name}"
        return f"{cure}, or set {' or '.join(dict.fromkeys(needed))}" if needed else cure

    def _usable(self, method: Mapping[str, Any]) -> bool:
        passed_on, needed = environment(self.vendor), _needed(method)
        return bool(needed) and all(passed_on.get(name) for name in needed)


class _TalkError(Exception):
    """Why no turn can be had, in one line."""


def _need_the_package() -> None:
    try:
        import acp.connection  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"agent:acp: {error}: install research-loop[acp]") from error


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Nothing that the package logs reaches the screen: it logs by the root logger, which makes itself a handler."""
    import acp

    folder, root, nobody = str(Path(acp.__file__).parent / "_")[:-1], logging.getLogger(), logging.NullHandler()

    def foreign(record: logging.LogRecord) -> bool:
        return not record.pathname.startswith(folder)

    root.addHandler(nobody)
    root.addFilter(foreign)
    try:
        yield
    finally:
        root.removeFilter(foreign)
        root.removeHandler(nobody)


def _preset(name: str) -> list[str]:
    """The command of a preset; of any other agent its program."""
    program, *more = PRESETS.get(name, (name,))
    other = OTHER_PROGRAMS.get(name, program)
    return [program if shutil.which(program) or not shutil.which(other) else other, *more]


def _more(words: list[str]) -> list[str]:
    """The words behind the command of a preset, which may be spelled out, or behind the program of any other agent."""
    spelled_out = list(PRESETS.get(words[0], ())[1:])
    given = words[1 : 1 + len(spelled_out)]
    return words[1 + len(spelled_out) :] if given == spelled_out else words[1:]


async def _until(turn: asyncio.Task[bool], request: Request, heard: AcpHeard, connection: Connection) -> None:
    """The turn is over, nobody waits for it, or it costs too much; then the agent is told, and has a moment."""
    while not turn.done() and not request.stopped.is_set() and not heard.trouble:
        await asyncio.wait([turn], timeout=TICK_SECONDS)
        if request.usd is not None and heard.usd is not None and heard.usd > request.usd:
            spent = f"says it spent {heard.usd:.2f} USD of {request.usd:.2f}"
            heard.trouble = heard.trouble or (
                f"{spent}, more than it might" if turn.done() else f"was ended, for it {spent}"
            )
    if not turn.done():
        if heard.own_session:
            with contextlib.suppress(ConnectionError):  # it has just ended
                await connection.send_notification("session/cancel", {"sessionId": heard.own_session})
        await asyncio.wait([turn], timeout=CANCEL_SECONDS)


async def _introduce(connection: Connection) -> list[Any]:
    """Agree on the protocol; its ways to log in. Raises _TalkError, RequestError, ConnectionError."""
    from acp.meta import PROTOCOL_VERSION

    me = {"name": "research-loop", "version": "1"}
    able = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
    asked = {"protocolVersion": PROTOCOL_VERSION, "clientCapabilities": able, "clientInfo": me}
    try:
        agreed = as_mapping(await asyncio.wait_for(connection.send_request("initialize", asked), START_SECONDS))
    except TimeoutError:
        raise _TalkError(f"said nothing in ACP for {START_SECONDS:g} s: is that its command to speak it?") from None
    if agreed.get("protocolVersion") != PROTOCOL_VERSION:
        version = one_line(str(agreed.get("protocolVersion")), 20)
        raise _TalkError(f"speaks version {version} of ACP and not {PROTOCOL_VERSION}: use another version of it")
    return as_list(agreed.get("authMethods"))


async def _ask_first(connection: Connection, session: Mapping[str, Any]) -> None:
    """Switch to a mode in which it asks before it edits, where it has one; if it will not, its edits still count."""
    from acp.exceptions import RequestError

    modes = as_mapping(session.get("modes"))
    known = [as_text(as_mapping(mode).get("id")) for mode in as_list(modes.get("availableModes"))]
    mode = next((mode for mode in ASKING_MODES if mode in known), "")
    if mode and mode != modes.get("currentModeId"):
        with contextlib.suppress(RequestError):
            await connection.send_request("session/set_mode", {"sessionId": session.get("sessionId"), "modeId": mode})


def _as_seen(ended: Ended, finished: bool, heard: AcpHeard, request: Request) -> Ended:
    """The end of the tree as that of the turn: it was we who ended the one after the other."""
    if request.stopped.is_set():
        return replace(ended, cause="stop", output="")
    if not ended.proven and ended.cause != "limit":
        return replace(ended, cause="lost", output="")
    if not finished and ended.cause == "end" and not heard.trouble and ended.code == 0:
        heard.trouble = "ended before its turn did"
    if finished or ended.cause == "stop":
        return replace(ended, cause="end", code=0, output="")
    return replace(ended, output="")


def _needed(method: Mapping[str, Any]) -> list[str]:
    """Variables that a way to log in needs; [] where that is not known."""
    said = [as_text(as_mapping(variable).get("name")) for variable in as_list(method.get("vars"))]
    known = KEYS.get(as_text(method.get("id")), "")
    return [name for name in said or [known] if name]


def _said(error: Exception) -> str:
    """What a JSON-RPC error says, with its details."""
    data = getattr(error, "data", None)
    details = data if isinstance(data, str) else as_text(as_mapping(data).get("details"))
    return f"{error}: {details}" if details and details != str(error) else str(error)
