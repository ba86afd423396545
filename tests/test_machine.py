"""A state machine over all that can happen to a lab, against a model that is a dictionary.

The harness is a real process (testing/puppet.py) with real runs, git and ledger. The suite takes a few hundred steps;
RESEARCH_LOOP_MACHINE_STEPS=10000 in the environment takes as many as it says.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from research_loop.testing.faults import Action
from research_loop.testing.labs import git, make_instant_lab
from research_loop.testing.promises import broken, history_of, lost, users, without_halves
from research_loop.testing.puppet import Puppet, Reply
from runs import linux

STEPS = int(os.environ.get("RESEARCH_LOOP_MACHINE_STEPS", "240"))
STEPS_EACH = 30
RESTART_SECONDS = 5.0
LOST_RUNS = 3

CODE = """
import sys
SERIAL, VALUE = {serial}, {value!r}
if {crashes}:
    sys.exit("an idea that does not run")
print(f"---\\nval_bpb: {{VALUE:.6f}}\\npeak_vram_mb: 1.0")
"""

closed = precondition(lambda self: self.puppet is None)
opened = precondition(lambda self: self.puppet is not None)
idle = precondition(lambda self: self.puppet is not None and not self.open)
baselined = precondition(lambda self: self.champion is not None)
KILLS = st.sampled_from(["kill", "kill after", "kill child"])
FULLS = st.sampled_from(["full", "full once"])
CALLS = st.integers(1, 110)


class Loop(RuleBasedStateMachine):
    """`known` is the model: experiment -> [what, verdict], "" while it is open; told by a harness, so never lost."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.lab = make_instant_lab(self.folder / "lab")
        self.puppet: Puppet | None = None
        self.known: dict[int, list[str]] = {}
        self.kills, self.armed, self.keepers_at_risk = 0, False, False
        self.settled = False  # everything that follows a verdict has been done
        self.edited = False  # train.py is the user's just now
        self.serial = 0
        self.users = users(self.lab)

    def teardown(self) -> None:
        try:
            if self.puppet is not None:
                self.kill()
            if self.lab.ledger_path.exists():
                self.start()
                self.finish()
                self.close()
                self.nothing_is_lost_and_all_agrees()
        finally:
            shutil.rmtree(self.folder)

    # ------------------------------------------------------------------------------------------------ the harness

    @closed
    @rule()
    def start(self) -> None:
        begun = time.monotonic()
        self.puppet, self.armed = Puppet(self.lab), False
        self.settled = True
        self.heed(self.puppet.ask("open"))
        assert time.monotonic() - begun < RESTART_SECONDS

    @closed
    @rule(at=CALLS, action=KILLS | FULLS)
    def start_badly(self, at: int, action: Action) -> None:
        self.puppet = Puppet(self.lab)
        self.settled = True
        self.arm(at, action)
        self.heed(self.puppet.ask("open") if self.puppet else None)

    @idle
    @rule(kind=st.sampled_from(["better", "better", "worse", "crash"]))
    def propose(self, kind: str) -> None:
        assert self.puppet
        self.serial += 1
        best = self.champion_value()
        if best is None:
            train, what = (self.lab.root / "train.py").read_text(), "baseline 1.0"
            self.edited = False
        else:
            value = round(best + (-0.001 if kind == "better" else 0.001), 6)
            what = f"{kind} {value} {self.serial}"
            train = CODE.format(serial=self.serial, value=value, crashes=kind == "crash")
        self.heed(self.puppet.ask("propose", train=train, what=what))

    @idle
    @baselined
    @rule()
    def propose_what_is_known(self) -> None:
        assert self.puppet
        champion = history_of(self.lab).champion
        assert champion is not None
        train = git(self.lab.root, "show", f"{champion.commit}:train.py")
        reply = self.puppet.ask("propose", train=train, what="the same again")
        if self.armed:
            self.heed(reply)
        else:
            assert reply is not None and "champion's code unchanged" in reply["refused"]

    @opened
    @rule()
    def finish(self) -> None:
        assert self.puppet
        self.heed(self.puppet.ask("pump"))
        if self.puppet is not None:
            assert not self.open

    @opened
    @rule()
    def begin(self) -> None:
        assert self.puppet
        self.settled = self.settled and not self.open
        self.heed(self.puppet.ask("begin"))

    @opened
    @rule()
    def close(self) -> None:
        assert self.puppet
        self.heed(self.puppet.ask("close"))
        if self.puppet is not None:
            assert self.puppet.wait() == 0
            self.puppet = None

    @opened
    @rule()
    def kill(self) -> None:
        assert self.puppet
        self.puppet.kill()
        assert self.puppet.wait() == -9
        self.died()

    @opened
    @rule(verb=st.sampled_from(["pump", "begin", "close"]), milliseconds=st.integers(0, 60))
    def kill_amid(self, verb: str, milliseconds: int) -> None:
        assert self.puppet
        self.puppet.send(verb)
        time.sleep(milliseconds / 1000)
        self.puppet.kill()
        assert self.puppet.wait() in (-9, 0)  # a close may be over by then
        self.died()

    @opened
    @rule(at=CALLS, action=KILLS | FULLS)
    def arm(self, at: int, action: Action) -> None:
        """Something goes wrong at one of the next calls, or the disk is full from there on."""
        assert self.puppet
        assert self.puppet.ask("arm", at=at, action=action) == {}
        self.armed, self.settled = True, False
        self.keepers_at_risk |= action == "kill child"

    @opened
    @rule()
    def second_loop(self) -> None:
        assert self.puppet
        second = Puppet(self.lab)
        reply = second.ask("open")
        assert second.wait() == 0
        assert reply is not None and reply["kind"] == "LockedError" and f"pid {self.puppet.pid}" in reply["error"]

    # --------------------------------------------------------------------------------------------------- the user

    @rule()
    def user_edits_train(self) -> None:
        self.serial += 1
        path = self.lab.root / "train.py"
        path.write_text(path.read_text() + f"# half an idea, {self.serial}\n")
        self.edited = True

    @precondition(lambda self: self.edited and not self.open and self.settled)
    @baselined
    @rule()
    def user_takes_the_champions_code_back(self) -> None:
        champion = history_of(self.lab).champion
        assert champion is not None
        (self.lab.root / "train.py").write_text(git(self.lab.root, "show", f"{champion.commit}:train.py"))
        self.edited = False

    @rule(switch=st.booleans())
    def user_commits(self, switch: bool) -> None:
        self.serial += 1
        if switch:
            git(self.lab.root, "switch", "--quiet", "-c", f"idea-{self.serial}")
        git(self.lab.root, "commit", "--quiet", "--allow-empty", "-m", "The user's own")
        self.users = without_halves(users(self.lab))

    # -------------------------------------------------------------------------------------------------- the model

    @property
    def open(self) -> list[int]:
        return [n for n, (_, kind) in self.known.items() if not kind]

    @property
    def champion(self) -> int | None:
        return max((n for n, (_, kind) in self.known.items() if kind == "keep"), default=None)

    def champion_value(self) -> float | None:
        return None if self.champion is None else value_of(self.known[self.champion][0])

    def heed(self, reply: Reply | None) -> None:
        """Takes over what the harness told; an end is one that was asked for."""
        assert self.puppet
        if reply is None:
            assert self.puppet.wait() == -9 and self.armed
            self.died()
        elif "error" in reply:
            assert self.armed and "\n" not in reply["error"] + reply.get("closing", ""), reply
            assert self.puppet.wait() == 0
            self.died(killed=False)
        else:
            assert "bug" not in reply, reply["bug"]
            if "experiments" in reply:
                self.learn(reply["experiments"])

    def died(self, killed: bool = True) -> None:
        self.puppet, self.settled, self.armed = None, False, False
        self.kills += killed
        assert lost(self.lab, {n: kind for n, (_, kind) in self.known.items()}) == []

    def learn(self, told: list[list[Any]]) -> None:
        """Nothing that was told may change, and every new verdict must be the one that the scores ask for."""
        assert [row[0] for row in told] == list(range(len(told)))
        assert len(told) >= len(self.known), "a row that was told is gone"
        for n, what, _, kind, reason in told:
            before = self.known.setdefault(n, [what, ""])
            assert before[0] == what
            if before[1]:
                assert kind == before[1]
            elif kind:
                assert self.expected(what) == kind or self.excused(kind, reason), (n, what, kind, reason)
                before[1] = kind

    def expected(self, what: str) -> str:
        if what.startswith("crash"):
            return "crash"
        best = self.champion_value()
        return "keep" if best is None or value_of(what) < best else "discard"

    def excused(self, kind: str, reason: str) -> bool:
        """A run is given up when its harness died again and again, or when its keeper was shot."""
        often = reason == "lost" and self.kills >= LOST_RUNS
        return kind == "crash" and (often or (reason == "signal" and self.keepers_at_risk))

    @invariant()
    def nothing_is_lost_and_all_agrees(self) -> None:
        if not self.settled or self.armed or self.open:
            return
        told = {n: kind for n, (_, kind) in self.known.items()}
        assert broken(self.lab, told, self.users, edited=self.edited) == []


def value_of(what: str) -> float:
    return float(what.split()[1])


TestLoop = linux(Loop.TestCase)
Loop.TestCase.settings = settings(
    max_examples=max(1, STEPS // STEPS_EACH),
    stateful_step_count=STEPS_EACH,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # real processes are never twice the same: shrinking would mislead
    suppress_health_check=list(HealthCheck),
    derandomize=STEPS < 1000,
    print_blob=True,
)
