"""Scores of experiments that ran on several machines, made comparable: what one trains in five minutes another does in
four. For searching and telling only; verdicts compare runs of one machine (verdict.py). Pure."""

from __future__ import annotations

import statistics

from research_loop.pairs import Side, paired
from research_loop.records import Experiment, History

Means = dict[str | None, float]


def levels(history: History) -> dict[int, float]:
    """Each experiment's mean score as on the champion's machine, by number.

    Two machines differ by the mean difference of what ran on both, as a champion does where a lab moves. What ran only
    on a machine that shares nothing with the others is taken as it is. What was not kept, and began like its parent, is
    as far from it as their runs of the same seeds are: one run alone had its seed's luck.
    """
    means = _on_one_machine(history)
    known, sides = {e.n: e for e in history.experiments}, dict[int, Side]()
    for experiment in history.experiments:
        parent = experiment.parent
        if parent is None or parent not in means or experiment.n not in means or experiment.kept:
            continue
        if parent not in sides:
            sides[parent] = Side.of(known[parent])
        if differences := paired(Side.of(experiment), sides[parent]).differences:
            means[experiment.n] = means[parent] + statistics.fmean(differences)
    return means


def _on_one_machine(history: History) -> dict[int, float]:
    means = {e.n: score.value for e in history.experiments if (score := e.score)}
    machines = {run.result.machine for e in history.experiments for run in e.runs if run.result and run.result.score}
    if len(machines) <= 1:
        return means
    apart = _offsets(history)
    return {e.n: means[e.n] + apart.get(e.machine, 0.0) for e in history.experiments if e.n in means}


def _offsets(history: History) -> Means:
    """What to add to scores of a machine, where that is known: at once or through others."""
    means = [found for e in history.experiments if len(found := _by_machine(e)) > 1]
    known: Means = {history.champion.machine: 0.0} if history.champion else {}
    fresh = known
    while fresh:
        gaps: dict[str | None, list[float]] = {}
        for one in means:
            for machine in one.keys() - known.keys():
                there = [one[other] + known[other] - one[machine] for other in one if other in known]
                gaps.setdefault(machine, []).extend(there)
        fresh = {machine: statistics.fmean(found) for machine, found in gaps.items() if found}
        known |= fresh
    return known


def _by_machine(experiment: Experiment) -> Means:
    """Mean scores, of the runs that count on each."""
    runs = {result.machine: experiment.on(result.machine) for result in experiment.scored}
    return {machine: statistics.fmean(r.score.value for r in found if r.score) for machine, found in runs.items()}
