"""Scores of experiments that ran on several machines, made comparable: what one trains in five minutes another does in
four. For searching and telling only; verdicts compare runs of one machine (verdict.py). Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict

from research_loop.records import Experiment, History

Means = dict[str | None, float]


def levels(history: History) -> dict[int, float]:
    """Each experiment's mean score as on the machine of the newest run, by number.

    Two machines differ by the mean difference of what ran on both, as a champion does where a lab moves. What ran only
    on a machine that shares nothing with the others has no level.
    """
    means = {e.n: score.value for e in history.experiments if (score := e.score)}
    machines = {run.result.machine for e in history.experiments for run in e.runs if run.result and run.result.score}
    if len(machines) <= 1:
        return means
    apart, by_number = _offsets(history), {e.n: e.machine for e in history.experiments}
    return {n: mean + apart[by_number[n]] for n, mean in means.items() if by_number[n] in apart}


def _offsets(history: History) -> Means:
    """What to add to scores of a machine, the newest first: by it every other is known, at once or through others."""
    means = [_by_machine(experiment) for experiment in history.experiments]
    newest: dict[str | None, float] = {}
    for run in (run for e in history.experiments for run in e.runs):
        if run.result and run.result.score:
            newest[run.result.machine] = max(run.started_at, newest.get(run.result.machine, 0.0))
    first, *others = sorted(newest, key=lambda machine: -newest[machine])
    known: Means = {first: 0.0}
    for _ in others:  # as many passes as links there can be
        for machine in others:
            gaps = [
                one[other] + known[other] - one[machine]
                for one in means
                if machine in one
                for other in one
                if other in known and other != machine
            ]
            if gaps and machine not in known:
                known[machine] = statistics.fmean(gaps)
    return known


def _by_machine(experiment: Experiment) -> Means:
    """Mean scores."""
    values = defaultdict[str | None, list[float]](list)
    for result in experiment.scored:
        if result.score:
            values[result.machine].append(result.score.value)
    return {machine: statistics.fmean(found) for machine, found in values.items()}
