"""A session in a process of its own that does one thing at a time, as told, and can be killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import socket
import traceback
from collections.abc import Callable
from typing import Any

from research_loop.errors import ProposalError, ResearchLoopError
from research_loop.lab import Lab
from research_loop.records import Experiment, Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.faults import Action, Calls, Fault, install
from research_loop.testing.harness import fork
from research_loop.views.live import LiveFile
from research_loop.views.tsv import ResultsFile

Reply = dict[str, Any]
SECONDS_ALLOWED = 30.0


class Puppet:
    """Forks the process, which waits for its first order. An order's reply is None where the process died of it."""

    def __init__(self, lab: Lab) -> None:
        self._ours, theirs = socket.socketpair()
        os.set_inheritable(theirs.fileno(), True)
        kept = theirs.fileno()
        self._forked = fork(lambda: _serve(lab, socket.socket(fileno=kept)), keep=kept)
        theirs.close()
        self._ours.settimeout(SECONDS_ALLOWED)
        self._replies = self._ours.makefile("rb")

    @property
    def pid(self) -> int:
        return self._forked.pid

    def ask(self, verb: str, **order: Any) -> Reply | None:
        """Sends an order and waits for what comes of it."""
        self.send(verb, **order)
        try:
            line = self._replies.readline()
        except ConnectionError:
            line = b""
        return json.loads(line) if line.endswith(b"\n") else None

    def send(self, verb: str, **order: Any) -> None:
        """Sends an order and does not wait."""
        try:
            self._ours.sendall(json.dumps({"verb": verb, **order}).encode() + b"\n")
        except OSError:
            return  # it is dead: the reply will say so

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, or minus the signal. Everything of it is freed."""
        self._replies.close()
        self._ours.close()
        _, status = os.waitpid(self.pid, 0)
        os.close(self._forked.output)
        os.close(self._forked.errors)
        return os.waitstatus_to_exitcode(status)


def _serve(lab: Lab, control: socket.socket) -> None:
    """In the process: obeys until told to close, or until an error that ends a loop."""
    served = _Served(lab, install())
    with control.makefile("rb") as orders:
        for line in orders:
            order = json.loads(line)
            reply, over = served.obey(order.pop("verb"), order)
            control.sendall(json.dumps(reply).encode() + b"\n")
            if over:
                return
    served.close()


class _Served:
    def __init__(self, lab: Lab, calls: Calls) -> None:
        self._lab, self._calls = lab, calls
        self._session: Session | None = None

    def obey(self, verb: str, order: dict[str, Any]) -> tuple[Reply, bool]:
        """The reply, and whether the process is to end; errors do to the session what they do on the command line."""
        try:
            method: Callable[..., Reply] = getattr(self, verb)
            return method(**order), verb == "close"
        except ProposalError as error:
            return {"refused": str(error)}, False
        except (ResearchLoopError, OSError) as error:
            return {"error": str(error), "kind": type(error).__name__, "closing": self._end()}, True
        except Exception:
            return {"bug": traceback.format_exc()}, True

    def open(self) -> Reply:
        views = [ResultsFile(self._lab.root / "results.tsv", "val_bpb"), LiveFile(self._lab.state, 5.0)]
        self._session = Session(self._lab, LocalRunner(), views)
        return self._state()

    def arm(self, at: int, action: Action) -> Reply:
        self._calls.arm(Fault(at, action))
        return {}

    def propose(self, train: str, what: str) -> Reply:
        """On the champion, or as a baseline."""
        assert self._session
        champion = self._session.history.champion
        parent = None if champion is None else champion.n
        experiment = self._session.submit(Proposal({"train.py": train.encode()}, what, parent=parent))
        return {**self._state(), "proposed": experiment.n}

    def pump(self) -> Reply:
        """Until nothing is queued or runs."""
        assert self._session
        while True:
            self._session.pump(timeout=1.0)
            if not self._session.runner.running and self._session.room:
                return self._state()

    def begin(self) -> Reply:
        """Starts what is queued and does not wait for it."""
        assert self._session
        self._session.pump(timeout=0.0)
        return self._state()

    def close(self) -> Reply:
        said = self._end()
        return {"error": said, "kind": "closing"} if said else {}

    def _end(self) -> str:
        session, self._session = self._session, None
        if session is None:
            return ""
        try:
            session.__exit__(None, None, None)
        except (ResearchLoopError, OSError) as error:
            return str(error)
        return ""

    def _state(self) -> Reply:
        assert self._session
        return {"experiments": [_brief(e) for e in self._session.history.experiments]}


def _brief(experiment: Experiment) -> list[Any]:
    verdict = experiment.verdict
    return [
        experiment.n,
        experiment.what,
        experiment.parent,
        verdict.kind if verdict else "",
        verdict and verdict.reason,
    ]
