"""`research-loop report`: what was kept, what each change is worth, and what may be claimed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from research_loop.audit import claim
from research_loop.config import LabConfig
from research_loop.levels import levels
from research_loop.proposers.search import changes
from research_loop.records import Audit, Experiment, History
from research_loop.views.text import noise_line, tally


@dataclass(frozen=True, slots=True)
class Part:
    """A kept change. `found` is what it gained over its parent when it was kept, `worth` what the score loses when it
    is taken back from a later champion, None where nobody tried. Both are positive where it helps."""

    experiment: Experiment
    found: float | None
    worth: float | None = None
    left_out: Experiment | None = None


def report(history: History, audits: Sequence[Audit], config: LabConfig, place: str) -> str:
    """The whole text; the only claim in it is an audit's."""
    champion = history.champion
    if champion is None or champion is history.baseline:
        return f"{place}: nothing was kept after the baseline yet: `research-loop run` goes on"
    lines = [f"{place}: {len(history.experiments)} experiments, {tally(history)}", noise_line(history, config)]
    lines += ["", _claim(history, audits, config), "", *_table(parts(history, config.direction == "higher"))]
    return "\n".join(lines)


def parts(history: History, higher: bool) -> list[Part]:
    """The changes between baseline and champion: those left out once come first, by what that cost; then the others in
    the order in which they were found."""
    champion = history.champion
    sign = -1.0 if higher else 1.0
    line = [e for e in history.line(champion.n if champion else None) if e.parent is not None]
    known = {e.n: e for e in history.experiments}
    found, means = [], levels(history)

    def gap(worse: Experiment, better: Experiment) -> float | None:
        both = worse.n in means and better.n in means
        return sign * (means[worse.n] - means[better.n]) if both else None

    for experiment in reversed(line):
        gain = gap(known[experiment.parent or 0], experiment)
        without = [e for e in history.experiments if _leaves_out(e, experiment, history)]
        newest = without[-1] if without else None
        cost = gap(newest, known[newest.parent or 0]) if newest else None
        found.append(Part(experiment, gain, cost, newest))
    return sorted(found, key=lambda part: (part.worth is None, -(part.worth or 0.0)))


def _leaves_out(one: Experiment, kept: Experiment, history: History) -> bool:
    """Whether `one` takes back just what `kept` changed, from code that was made of it."""
    if one.score is None or one.parent is None or one.n <= kept.n:
        return False
    back, there = changes.read(one.what), changes.read(kept.what)
    if not back or not there or back != {name: (new, old) for name, (old, new) in there.items()}:
        return False
    return any(e is kept for e in history.line(one.parent))


def _claim(history: History, audits: Sequence[Audit], config: LabConfig) -> str:
    """From audits of champion and baseline alone."""
    baseline, champion = history.baseline, history.champion
    assert baseline is not None and champion is not None
    before, after = (
        tuple(a.result.score.value for a in audits if a.n == e.n and a.result.score) for e in (baseline, champion)
    )
    if not (before and after):
        return f"no claim: experiment {champion.n} was not audited: `research-loop audit` trains both anew"
    old, new = statistics.fmean(before), statistics.fmean(after)
    fact = f"{config.metric} {old:.6f} -> {new:.6f} ({new - old:+.6f}), n {len(before)} and {len(after)}"
    return f"audited, on seeds and text that nothing else used: {fact}: {claim(before, after, config.direction)}"


def _table(found: list[Part]) -> list[str]:
    ranked = [part for part in found if part.worth is not None]
    lines = ["kept changes, by what leaving each out of a later champion costs:"] if ranked else []
    lines += [f"  {part.worth:+.6f}  {_row(part)}" for part in ranked]
    rest = [part for part in found if part.worth is None]
    if rest:
        lines += ["kept changes in the order of discovery, which says nothing of their worth today:"]
        lines += [f"  {'':>9}  {_row(part)}" for part in rest]
    return lines


def _row(part: Part) -> str:
    found = "" if part.found is None else f"{part.found:+.6f} when found, "
    without = f"; without it: experiment {part.left_out.n}" if part.left_out else ""
    return f"{found}experiment {part.experiment.n}: {part.experiment.what}{without}"
