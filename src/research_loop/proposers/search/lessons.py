"""What the history says about each dial, in one pass over the experiments.

Only experiments whose `what` is in the format of changes.py teach anything about dials; all of them count as
tried. Changes of one dial steer its step and its direction; of several at once, only a keep or a crash says
something about each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from research_loop.edits import Value
from research_loop.levels import levels
from research_loop.proposers.search import changes
from research_loop.proposers.search.couplings import follows
from research_loop.proposers.search.dials import Dial, dials, directions
from research_loop.records import Experiment, History

Turn = tuple[str, int]
"""A dial's key and a direction, +1 or -1."""

NARROWER = frozenset({("ASPECT_RATIO", -1)})
"""Who follows HEAD_DIM to keep the width never goes down with it."""
_WIDER, _WIDEST = 1.4, 2.0
_NARROWER, _NARROWEST = 0.6, 0.15


@dataclass(slots=True)
class Lessons:
    """Learned for one champion (the experiment `parent`)."""

    parent: int
    keys: set[str] = field(default_factory=set)
    tries: Counter[str] = field(default_factory=Counter)
    keeps: Counter[str] = field(default_factory=Counter)
    scale: dict[str, float] = field(default_factory=dict)
    failed: dict[str, set[int]] = field(default_factory=dict)
    """Directions of a dial that failed since its step last changed."""
    busy: set[str] = field(default_factory=set)
    """Dials in experiments that are still open."""
    kept: dict[Turn, Experiment] = field(default_factory=dict)
    lost: dict[Turn, Experiment] = field(default_factory=dict)
    """The newest single-dial failure of each turn."""
    ideas: dict[frozenset[Turn], list[Experiment]] = field(default_factory=dict)
    barred: set[Turn] = field(default_factory=set)
    """Turns not to be made from here: crashed from this champion, or out of memory since memory was last freed."""
    out_of_memory: bool = False
    """Whether any change made to this champion ran out of memory."""
    known: dict[int, float] = field(default_factory=dict)
    """Comparable scores by number."""

    def allows(self, turns: frozenset[Turn], known: Mapping[str, Dial]) -> bool:
        """Whether no crash so far speaks against these turns."""
        if turns & self.barred:
            return False
        return not (self.out_of_memory and any(d > 0 and known[key].takes_memory for key, d in turns if key in known))

    def difference(self, experiment: Experiment) -> str:
        """`-0.0119 in experiment 7` (score less its parent's), or the reason where there is no score."""
        before = self.known.get(experiment.parent) if experiment.parent is not None else None
        if before is not None and experiment.n in self.known:
            return f"{self.known[experiment.n] - before:+.4f} in experiment {experiment.n}"
        reason = experiment.verdict.reason if experiment.verdict else "open"
        return f"{reason} in experiment {experiment.n}"


def learn(history: History, parent: int) -> Lessons:
    """Lessons of a history for the champion `parent`."""
    lessons = Lessons(parent, known=levels(history))
    for experiment in history.experiments:
        lessons.keys.add(experiment.key)
        turned = changes.read(experiment.what)
        if turned:
            _learn_one(lessons, experiment, turned)
    return lessons


def turns_of(changed: Mapping[str, changes.Change]) -> frozenset[Turn]:
    """The idea behind changes: which dials were turned which way, without those that only followed another."""
    led = {name: change for name, change in changed.items() if any(follows(name, leader) for leader in changed)}
    kept_up = every_turn(led) - NARROWER
    return every_turn(changed) - kept_up


def every_turn(changed: Mapping[str, changes.Change]) -> frozenset[Turn]:
    """Which dials were turned which way, those too that only followed another: they take memory as well."""
    return frozenset(turn for name, (old, new) in changed.items() for turn in directions(name, old, new).items())


def _learn_one(lessons: Lessons, experiment: Experiment, turned: Mapping[str, changes.Change]) -> None:
    turns = turns_of(turned)
    lessons.ideas.setdefault(turns, []).append(experiment)
    keys = [key for key, _ in turns]
    lessons.tries.update(keys)
    if experiment.verdict is None:
        lessons.busy.update(keys)
    elif experiment.kept:
        _learn_keep(lessons, experiment, turns, turned)
    else:
        _learn_failure(lessons, experiment, turns, turned)


def _learn_keep(
    lessons: Lessons, experiment: Experiment, turns: frozenset[Turn], turned: Mapping[str, changes.Change]
) -> None:
    for key, direction in turns:
        lessons.keeps[key] += 1
        lessons.scale[key] = min(lessons.scale.get(key, 1.0) * _WIDER, _WIDEST)
        # It was good to leave the old value this way, so what lies that way may be good again.
        lessons.failed[key] = {-direction}
        lessons.kept[key, direction] = experiment
    if any(direction < 0 for _, direction in _memory_turns(turned)):
        lessons.barred.clear()


def _learn_failure(
    lessons: Lessons, experiment: Experiment, turns: frozenset[Turn], turned: Mapping[str, changes.Change]
) -> None:
    assert experiment.verdict is not None
    here = experiment.parent == lessons.parent
    if experiment.verdict.reason == "oom":
        lessons.barred |= {turn for turn in _memory_turns(turned) if turn[1] > 0} or (turns if here else set())
        lessons.out_of_memory |= here
    elif experiment.verdict.kind == "crash" and here:
        lessons.barred |= turns
    if len(turns) == 1:
        _narrow(lessons, experiment, *next(iter(turns)))


def _narrow(lessons: Lessons, experiment: Experiment, key: str, direction: int) -> None:
    lessons.lost[key, direction] = experiment
    failed = lessons.failed.setdefault(key, set())
    failed.add(direction)
    if len(failed) == 2:
        lessons.scale[key] = max(lessons.scale.get(key, 1.0) * _NARROWER, _NARROWEST)
        failed.clear()


def _memory_turns(turned: Mapping[str, changes.Change]) -> set[Turn]:
    """Turns, followers included, of dials that take memory when turned up."""
    old: dict[str, Value] = {name: change[0] for name, change in turned.items()}
    taking = {dial.key for dial in dials(old) if dial.takes_memory}
    return {turn for name, (a, b) in turned.items() for turn in directions(name, a, b).items() if turn[0] in taking}
