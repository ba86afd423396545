"""Crash points: every call of a loop, one by one, in scenes that between them pass through all that a loop does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from research_loop.lab import Lab, open_lab
from research_loop.testing.faults import Action, Fault, write_like
from research_loop.testing.harness import Ended, run_harness
from research_loop.testing.labs import git, make_instant_lab
from research_loop.testing.promises import Users, acknowledged, broken, lost, users

RESTART_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A lab in some state, which is copied and never changed, and what a loop is to do with it."""

    name: str
    lab: Lab
    experiments: int
    told: Mapping[int, str]
    users: Users

    def command(self, lab: Lab) -> list[object]:
        return ["run", lab.root, "--experiments", self.experiments]

    def copy(self, folder: Path) -> Lab:
        shutil.copytree(self.lab.root, folder, symlinks=True)
        return open_lab(folder)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one point. `reached`: the fault happened. `broken`: promises that did not hold; none is good."""

    scene: str
    point: str
    reached: bool
    broken: tuple[str, ...]
    restart_seconds: float | None


def scenes(folder: Path) -> list[Scene]:
    """A first start; a keep and a discard; a start after a kill between a keep's verdict and all that follows it."""
    folder.mkdir(exist_ok=True)
    before = make_instant_lab(folder / "first")
    mine = users(before)
    first = Scene("first", before, 1, {}, mine)
    baseline = first.copy(folder / "cycle")
    told = _said(run_harness(["run", baseline.root, "--hours", 0]))
    cycle = Scene("cycle", baseline, 2, told, mine)
    killed = cycle.copy(folder / "recovery")
    names = calls(cycle, folder / "calls")
    at = next(at for at, name in enumerate(names, 1) if name.startswith("INSERT INTO verdicts"))
    ended = run_harness(cycle.command(killed), Fault(at + 1, "kill after"))
    (branch,) = git(killed.root, "for-each-ref", "--format=%(refname)", "refs/heads/autoresearch").split()
    (killed.root / ".git" / f"{branch}.lock").touch()
    return [first, cycle, Scene("recovery", killed, 1, told | acknowledged(ended.output), mine)]


def _said(ended: Ended) -> dict[int, str]:
    if ended.code:
        raise AssertionError(f"the scene could not be set: {ended.errors}")
    return acknowledged(ended.output)


def calls(scene: Scene, folder: Path) -> list[str]:
    """Names of the calls of an undisturbed loop, in order: call n is a fault's `at`, counted from 1."""
    folder.mkdir()
    lab = scene.copy(folder / "lab")
    run_harness(scene.command(lab), trace=folder / "calls")
    names = (folder / "calls").read_text().splitlines()
    shutil.rmtree(folder)
    return names


def faults(names: list[str], action: Action) -> list[Fault]:
    """The faults of one kind that make a difference, one for each call that can meet it."""
    fits: Callable[[str], bool] = {
        "kill": lambda name: True,
        # after any other call nothing is done before the next one begins
        "kill after": lambda name: name.startswith(("spawn", "COMMIT", "replace", "lock")),
        "kill child": lambda name: name.startswith("spawn"),
        "full": write_like,
        "full once": write_like,
    }[action]
    return [Fault(at, action) for at, name in enumerate(names, 1) if fits(name)]


def try_fault(scene: Scene, fault: Fault, folder: Path, name: str = "") -> Tried:
    """Lets a loop meet the fault in a copy of the scene's lab, starts it again, and looks at the promises."""
    point = f"{fault.action} at {fault.at} {name}".strip()
    return try_point(scene, point, folder, lambda lab: run_harness(scene.command(lab), fault))


def try_point(scene: Scene, point: str, folder: Path, disturbed: Callable[[Lab], Ended]) -> Tried:
    """The same for any way to disturb a loop."""
    lab = scene.copy(folder)
    try:
        ended = disturbed(lab)
        gone = lost(lab, {**scene.told, **acknowledged(ended.output)})
        again = run_harness(["run", lab.root, "--experiments", 1])
        told = {**scene.told, **acknowledged(ended.output), **acknowledged(again.output)}
        facts = [
            *_ended_in_order(ended),
            *gone,
            *_went_on(again),
            *(broken(lab, told, scene.users) if not again.code else []),
        ]
        return Tried(scene.name, point, bool(ended.code), tuple(facts), again.first_experiment_seconds)
    finally:
        shutil.rmtree(folder)


def _ended_in_order(ended: Ended) -> list[str]:
    """A loop that was not killed says in one line why it ends, or goes on."""
    if ended.code == -9 or (ended.code == 0 and not ended.errors):
        return []
    lines = ended.errors.splitlines()
    if ended.code == 1 and len(lines) == 1 and lines[0].startswith("research-loop: "):
        return []
    return [f"the disturbed loop ended with {ended.code}: {ended.errors.strip()[-600:] or 'no word'}"]


def _went_on(again: Ended) -> list[str]:
    if again.code or again.errors:
        return [f"the next start ended with {again.code}: {again.errors.strip()[-600:]}"]
    seconds = again.first_experiment_seconds
    if seconds is None or seconds > RESTART_SECONDS:
        return [f"the next experiment started after {seconds} s"]
    return []
