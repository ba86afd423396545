"""Champion against baseline, trained anew, on text that no other run was scored on: what a claim can rest on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from research_loop.errors import LabError
from research_loop.records import Experiment, Verified
from research_loop.session import Session


@dataclass(frozen=True, slots=True)
class Sample:
    """Scores of one experiment's code over fresh seeds; `deviation` is NaN for a single one."""

    experiment: Experiment
    scores: tuple[float, ...]
    verified: frozenset[Verified]

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan


def run_audit(session: Session, runs: int, say: Callable[[str], None]) -> tuple[Sample, Sample] | None:
    """Baseline and champion, `runs` times each, in turn; None when stopped. What was measured stays in the ledger.

    Raises LabError where there is nothing to compare, and when a run gets no score.
    """
    baseline, champion = session.history.baseline, session.history.champion
    if baseline is None or champion is None or champion is baseline:
        raise LabError(f"{session.lab.root}: nothing was kept after the baseline yet: `research-loop run` first")
    scores: dict[int, list[float]] = {baseline.n: [], champion.n: []}
    verified: dict[int, set[Verified]] = {baseline.n: set(), champion.n: set()}
    for turn in range(runs):
        for experiment in (baseline, champion):
            audit = None if session.stopping else session.audit(experiment)
            if audit is None:
                return None
            result = audit.result
            if result.score is None:
                fact = f"experiment {experiment.n}: its audit run got no score ({result.reason}: {result.detail})"
                raise LabError(f"{fact}: `research-loop show {experiment.n}` shows its other runs")
            scores[experiment.n].append(result.score.value)
            verified[experiment.n].add(result.score.verified)
            say(f"run {turn + 1} of {runs}, experiment {experiment.n}, seed {audit.seed}: {result.score.value:.6f}")
    first, second = (Sample(e, tuple(scores[e.n]), frozenset(verified[e.n])) for e in (baseline, champion))
    return first, second


def report(baseline: Sample, champion: Sample, metric: str) -> str:
    """Both samples, their difference, and what the ledger had promised."""
    lines = [_line(name, sample, metric) for name, sample in (("baseline", baseline), ("champion", champion))]
    lines += [f"difference {champion.mean - baseline.mean:+.6f}"]
    promised = [sample.experiment.score for sample in (baseline, champion)]
    if promised[0] and promised[1]:
        lines[-1] += f", where the experiments' own scores differ by {promised[1].value - promised[0].value:+.6f}"
    return "\n".join(lines)


def _line(name: str, sample: Sample, metric: str) -> str:
    spread = "" if math.isnan(sample.deviation) else f", standard deviation {sample.deviation:.6f}"
    count = f"{len(sample.scores)} run{'s' if len(sample.scores) > 1 else ''}"
    words = " and ".join(sorted(sample.verified))
    return f"{name} (experiment {sample.experiment.n}): {metric} {sample.mean:.6f}{spread}, {count}, {words}"
