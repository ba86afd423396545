"""`research-loop report`: what was kept, what each change is worth, and what may be claimed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from research_loop.audit import Noted
from research_loop.config import LabConfig
from research_loop.levels import levels
from research_loop.plain import plain
from research_loop.proposers.search import changes
from research_loop.records import Experiment, History
from research_loop.views.text import noise_line, tally


@dataclass(frozen=True, slots=True)
class Part:
    """A kept change. `found` is what it gained over its parent when it was kept, `worth` what the score loses when it
    is taken back from a later champion, None where nobody tried. Both are positive where it helps."""

    experiment: Experiment
    found: float | None
    worth: float | None = None
    left_out: Experiment | None = None


def report(history: History, audits: Sequence[Noted], config: LabConfig, place: str, *, audit_runs: int = 0) -> str:
    """The whole text; the only claim in it is what the newest complete one of `audits` said. `audit_runs` are in the
    ledger."""
    champion = history.champion
    if champion is None or champion is history.baseline:
        return f"{place}: nothing was kept after the baseline yet: `research-loop run` goes on"
    lines = [f"{place}: {len(history.experiments)} experiments, {tally(history)}", noise_line(history, config)]
    lines += ["", *_claim(history, audits, audit_runs), "", *_table(parts(history, config.direction == "higher"))]
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


def _claim(history: History, audits: Sequence[Noted], runs: int) -> list[str]:
    """In the audit's own words: runs alone do not say which of them it refused, or that it was given up."""
    complete = [audit for audit in audits if audit.said]
    champion = history.champion
    assert champion is not None
    if complete:
        lines = [f"audited, on seeds and text that nothing else used: {_named(complete[-1])} said:"]
        lines += [f"  {plain(line)}" for line in complete[-1].said.splitlines()]
    elif runs and not audits:
        unknown = "an older version recorded runs of audits and no conclusion"
        lines = [f"no claim: {unknown}: `research-loop audit` trains baseline and champion anew"]
    else:
        why = f"experiment {champion.n} has no complete audit"
        lines = [f"no claim: {why}: `research-loop audit` trains it and the baseline anew"]
    taken = [e for e in history.experiments if complete and e.n == complete[-1].experiment and not e.kept and e.verdict]
    lines += [f"THAT WAS TAKEN BACK SINCE: {plain(e.verdict.detail)}" for e in taken if e.verdict]
    return [*lines, *_since(champion, audits, complete), *_tries(audits)]


def _named(audit: Noted) -> str:
    return f"the audit of experiment {audit.experiment}, {datetime.fromtimestamp(audit.at, UTC):%Y-%m-%d %H:%M} UTC,"


def _since(champion: Experiment, audits: Sequence[Noted], complete: Sequence[Noted]) -> list[str]:
    """What came after the audit that is cited."""
    lines = []
    if complete and complete[-1].experiment != champion.n:
        known = any(audit.experiment == champion.n for audit in complete)
        fact = "and only an earlier audit was of it" if known else "and has not been audited: `research-loop audit`"
        lines += [f"since then experiment {champion.n} is the champion, {fact}"]
    if audits and not audits[-1].said:
        why = f"was refused: {plain(audits[-1].refused)}" if audits[-1].refused else "was interrupted, or still runs"
        lines += [f"{_named(audits[-1])} claims nothing: it {why}"]
    return lines


def _tries(audits: Sequence[Noted]) -> list[str]:
    """How many audits there were: the more, the likelier a small p by chance."""
    older = bool(audits) and audits[0].runs_before > 0
    if len(audits) < 2 and not older:
        return []
    silent = sum(not audit.said for audit in audits)
    fact = f"audits in this lab: {len(audits)}" + (f", {silent} of which claim nothing" if silent else "")
    before = ", and an older version's before them, which were not counted" if older else ""
    return [f"{fact}{before}; each was another chance of a small p"]


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
