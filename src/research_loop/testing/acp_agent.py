"""A scripted agent that speaks the Agent Client Protocol over its standard input and output: for tests of clients.

    python -S acp_agent.py SCRIPT.json

A real process, standard library only and nothing of ours. In its one turn it does the steps of its script in their
order; `write_script` writes one and gives the command that starts an agent by it. Steps, each an object with one key:

    {"edit": {path: text}}         writes files by itself, from its working directory
    {"ask": tool call}             asks for a permission; when it is refused, the next step is left out
    {"request": [method, params]}  asks the client for it
    {"update": update}, {"say": text}, {"usage": usage_update}    tells the client
    {"raw": [text, times]}         prints that text so many times
    {"python": code}               runs it
    {"die": [code, text]}          ends at once, with a text on the standard error
    {"hang": seconds}

Settings of a script beside its `steps`: `version` of the protocol, `methods` to log in, of which `login` names the one
it insists on, `session` by its name, `modes` of it, `answer` to its prompt. All that the client sends it is kept, a
line each, in SCRIPT.json.heard.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SESSION = "session-1"
OPTIONS = [
    {"optionId": "always", "name": "Always", "kind": "allow_always"},
    {"optionId": "once", "name": "Once", "kind": "allow_once"},
    {"optionId": "no", "name": "No", "kind": "reject_once"},
]


def write_script(path: Path, *steps: dict[str, Any], **settings: Any) -> str:
    """The command of an agent that follows them, quoted as for a shell."""
    path.write_text(json.dumps({"steps": steps, **settings}))
    return shlex.join([sys.executable, "-S", __file__, str(path)])


def heard(path: Path) -> list[dict[str, Any]]:
    """What an agent with that script was sent."""
    return [json.loads(line) for line in path.with_name(f"{path.name}.heard").read_text().splitlines()]


class Agent:
    """One connection with a client."""

    def __init__(self, path: Path) -> None:
        self._script = json.loads(path.read_text())
        self._log = path.with_name(f"{path.name}.heard").open("w", buffering=1)
        self._numbers = itertools.count(1)
        self._logged_in = "login" not in self._script

    def serve(self) -> None:
        for message in self._messages():
            if "id" in message and "method" in message:
                self._answer(message)

    def _messages(self) -> Iterator[dict[str, Any]]:
        while line := sys.stdin.readline():
            self._log.write(line)
            yield json.loads(line)

    def _answer(self, asked: dict[str, Any]) -> None:
        script, params = self._script, asked.get("params") or {}
        result: dict[str, Any] = {}
        match asked["method"]:
            case "initialize":
                result = {"protocolVersion": script.get("version", 1), "authMethods": script.get("methods", [])}
            case "authenticate":
                self._logged_in = params.get("methodId") == script.get("login")
            case "session/new" if not self._logged_in:
                self._send(id=asked["id"], error={"code": -32000, "message": "Authentication required"})
                return
            case "session/new":
                result = {
                    "sessionId": script.get("session", SESSION),
                    **({"modes": script["modes"]} if "modes" in script else {}),
                }
            case "session/prompt":
                self._turn()
                result = script.get("answer", {"stopReason": "end_turn"})
        failed = "code" in result
        self._send(id=asked["id"], **({"error": result} if failed else {"result": result}))

    def _turn(self) -> None:
        steps = iter(self._script["steps"])
        for step in steps:
            (name,) = step
            if getattr(self, f"_{name}")(step[name]) is False:
                next(steps, None)

    def _edit(self, files: dict[str, str]) -> None:
        for path, text in files.items():
            Path(path).write_bytes(text.encode())

    def _ask(self, call: dict[str, Any]) -> bool:
        call = {"toolCallId": f"call-{next(self._numbers)}", **call}
        answer = self._request(["session/request_permission", {"toolCall": call, "options": OPTIONS}])
        return bool(answer.get("result", {}).get("outcome", {}).get("optionId") in ("once", "always"))

    def _request(self, request: list[Any]) -> dict[str, Any]:
        """Its answer; {} when the client has gone."""
        method, params = request
        number = f"request-{next(self._numbers)}"
        self._send(id=number, method=method, params={"sessionId": SESSION, **params})
        return next((message for message in self._messages() if message.get("id") == number), {})

    def _update(self, update: object) -> None:
        self._send(method="session/update", params={"sessionId": SESSION, "update": update})

    def _say(self, text: str) -> None:
        self._update({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})

    def _usage(self, usage: dict[str, Any]) -> None:
        self._update({"sessionUpdate": "usage_update", **usage})

    def _raw(self, printed: list[Any]) -> None:
        text, times = printed
        for _ in range(times):
            sys.stdout.write(text)
        sys.stdout.flush()

    def _python(self, code: str) -> None:
        exec(code, {"__name__": "step"})

    def _die(self, how: list[Any]) -> None:
        sys.stderr.write(how[1])
        sys.stderr.flush()
        os._exit(how[0])

    def _hang(self, seconds: float) -> None:
        time.sleep(seconds)

    def _send(self, **message: Any) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    Agent(Path(sys.argv[1])).serve()
