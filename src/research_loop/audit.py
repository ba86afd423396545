"""Champion against baseline, trained anew, on text that no other run was scored on: what a claim can rest on."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from research_loop import verdict
from research_loop.errors import LabError, ResearchLoopError
from research_loop.exam import held_shape, mean_nats, set_exam
from research_loop.lab import Lab
from research_loop.ledger import Ledger, now
from research_loop.noise import Direction
from research_loop.plain import plain
from research_loop.records import Audit, Experiment, Run, Verified
from research_loop.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNIFICANT = 0.01
SHOWN, MISSED = 2.0, 3.0
"""A difference on text never sent is one, and a gain is missed there, by so many standard errors."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Scores of one experiment's code over fresh seeds; `deviation` is NaN for a single one. `held` is each run's nats
    on text never sent, as the exam packs them."""

    experiment: Experiment
    scores: tuple[float, ...]
    verified: frozenset[Verified]
    held: tuple[bytes, ...] = ()
    machine: str | None = None

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan


@dataclass(frozen=True, slots=True)
class Noted:
    """An audit of a champion as the ledger has it: `said` is its conclusion, `refused` why it has none; without either
    it was interrupted, or still runs. It began `at` (seconds since 1970), after so many audit `runs_before`."""

    experiment: int
    at: float
    runs_before: int
    said: str = ""
    refused: str = ""


# ------------------------------------------------------------------------------------------------------ written down


def noted(ledger: Ledger) -> list[Noted]:
    """All that were begun, the oldest first; not those of versions that wrote down their runs alone."""
    found: list[Noted] = []
    while begun := ledger.noted(f"audit:{len(found)}"):
        ended = ledger.noted(f"audit:{len(found)}:end") or "{}"
        found.append(Noted(**json.loads(begun), **json.loads(ended)))
    return found


def _begin(ledger: Ledger, champion: Experiment) -> int:
    """Notes that an audit begins, since one that is given up is a try as well; its number."""
    number = len(noted(ledger))
    begun = {"experiment": champion.n, "at": now(), "runs_before": len(ledger.audits())}
    ledger.note(f"audit:{number}", json.dumps(begun))
    return number


# ---------------------------------------------------------------------------------------------------------- training


def run_audit(session: Session, runs: int, say: Callable[[str], None]) -> list[Sample] | None:
    """Baseline, the champion of the last audit where that was another, and champion: `runs` times each, in turn; None
    when stopped. What was measured stays in the ledger, and so does what came of it: a conclusion or a refusal.

    Raises LabError where there is nothing to compare, and when a run gets no score, or took longer to it than the
    baseline's runs of this audit allow.
    """
    baseline, champion = session.history.baseline, session.history.champion
    if baseline is None or champion is None or champion is baseline:
        raise LabError(f"{session.lab.root}: nothing was kept after the baseline yet: `research-loop run` first")
    audited = [baseline, *_former(session, {baseline.n, champion.n}), champion]
    number = _begin(session.ledger, champion)
    try:
        done = _train(session, audited, runs, say)
    except ResearchLoopError as error:
        session.ledger.note(f"audit:{number}:end", json.dumps({"refused": str(error)}))
        raise
    if any(len(audits) < runs for audits in done.values()):
        return None
    samples = [_sample(experiment, done[experiment.n]) for experiment in audited]
    session.ledger.note(f"audit:{number}:end", json.dumps({"said": conclusion(samples, session.lab)}))
    return samples


def _train(
    session: Session, audited: Sequence[Experiment], runs: int, say: Callable[[str], None]
) -> dict[int, list[Audit]]:
    """The audit runs of each experiment, the baseline's among them, each checked; fewer than `runs` when stopped."""
    baseline = audited[0]
    done: dict[int, list[Audit]] = {experiment.n: [] for experiment in audited}
    waiting: list[tuple[Audit, Path]] = []  # for a run of the baseline to be held against
    for audit, log in trained(session, [*audited] * runs):
        waiting = [(audit, log)] if audit.result.score is None else [*waiting, (audit, log)]
        done[audit.n].append(audit)
        if audit.result.score is None or done[baseline.n]:
            for one in waiting:
                _check(*one, done[baseline.n], baseline, session.lab.config.budget_seconds)
            waiting = []
        assert audit.result.score is not None
        value = audit.result.score.value
        say(f"run {len(done[audit.n])} of {runs}, experiment {audit.n}, seed {audit.seed}: {value:.6f}")
    return done


def trained(session: Session, planned: Sequence[Experiment]) -> Iterator[tuple[Audit, Path]]:
    """Audit runs, each with its log, as they end: one of each of `planned`, as many at once as the session's runner
    takes, an experiment's in turn on several GPUs. Ends early when stopped."""
    left, runner = list(planned), session.runner
    gpus: dict[int, list[str | None]] = {experiment.n: [] for experiment in planned}
    while runner.running or (left and not session.stopping):
        due = next((experiment for experiment in left if session.gpus.suits(gpus[experiment.n])), None)
        if due is None or session.stopping or runner.running == runner.slots:
            yield from session.ended_audits()
            continue
        left.remove(due)
        gpu = session.start_audit(due, gpus[due.n]).gpu
        gpus[due.n].append(gpu.uuid if gpu else None)


def _former(session: Session, others: set[int]) -> list[Experiment]:
    """The champion of the last complete audit, where it is none of the others and was not taken back."""
    notes, rows = noted(session.ledger), session.ledger.audits()
    older = rows[: notes[0].runs_before] if notes else rows  # of a version that noted no conclusions
    known = [*(audit.n for audit in older), *(note.experiment for note in notes if note.said)]
    left = [n for n in known if n not in others and session.ledger.experiment(n).kept]
    return [session.ledger.experiment(left[-1])] if left else []


def _check(audit: Audit, log: Path, baselines: Sequence[Audit], baseline: Experiment, budget_seconds: float) -> None:
    """Raises LabError where an audit run's score does not count."""
    if trouble := _trouble(audit, baselines, baseline, budget_seconds):
        raise LabError(f"experiment {audit.n}: its audit run {trouble}: what it printed is in {log}")


def _trouble(audit: Audit, baselines: Sequence[Audit], baseline: Experiment, budget_seconds: float) -> str:
    """Why an audit run's score does not count; "" where it does. `baselines` are the baseline's runs of this audit."""
    result = audit.result
    if result.score is None:
        return f"got no score ({result.reason}: {result.detail})"
    known = {other.result.score.verified for other in baselines if other.result.score}
    if result.score.verified == "unverified" and "unverified" not in known:
        return f"has its own word for a score, and the baseline's do not ({result.detail or 'no answer'})"
    again = replace(
        baseline, runs=tuple(Run(a.n, k, a.seed, a.started_at, result=a.result) for k, a in enumerate(baselines))
    )
    allowed = verdict.allowed_seconds(again, budget_seconds)
    if (result.committed_seconds or 0.0) > allowed:
        return f"was scored after {result.committed_seconds:.1f} s, where the baseline's allow {allowed:.1f} s"
    allowed = verdict.allowed_exam_seconds(again, result, budget_seconds)
    if (result.exam_seconds or 0.0) > allowed:
        return f"took {result.exam_seconds:.1f} s over its exam, where the baseline's allow {allowed:.1f} s"
    return ""


def _sample(experiment: Experiment, audits: Sequence[Audit]) -> Sample:
    scores = [audit.result.score for audit in audits if audit.result.score]
    held = tuple(audit.result.held_nats for audit in audits)
    verified = frozenset(s.verified for s in scores)
    return Sample(experiment, tuple(s.value for s in scores), verified, held, audits[-1].result.machine)


# ------------------------------------------------------------------------------------------------------------- words


def conclusion(samples: Sequence[Sample], lab: Lab) -> str:
    """All that an audit says, which is all that may be claimed."""
    said = report(samples, lab.config.metric, lab.config.direction)
    held = held_report(samples[0], samples[-1], lab)
    return f"{said}\n{held}" if held else said


def report(samples: Sequence[Sample], metric: str, direction: Direction) -> str:
    """All samples, the champion's difference to each other with the chance of it, and what the ledger had promised."""
    names = ("baseline", "champion audited last", "champion") if len(samples) > 2 else ("baseline", "champion")
    lines = [_line(name, sample, metric) for name, sample in zip(names, samples, strict=True)]
    baseline, champion = samples[0], samples[-1]
    for name, other in zip(names, samples[:-1], strict=False):
        said = claim(other.scores, champion.scores, direction)
        lines += [f"champion less {name}: {champion.mean - other.mean:+.6f}: {said}"]
    promised = [sample.experiment.score for sample in (baseline, champion)]
    if promised[0] and promised[1]:
        lines += [f"the experiments' own scores differ by {promised[1].value - promised[0].value:+.6f}"]
    lines += [f"trained on {plain(champion.machine)}"] if champion.machine else []
    return "\n".join(lines)


def _line(name: str, sample: Sample, metric: str) -> str:
    spread = "" if math.isnan(sample.deviation) else f", standard deviation {sample.deviation:.6f}"
    rest = f"{spread}, n {len(sample.scores)}, {' and '.join(sorted(sample.verified))}"
    return f"{name} (experiment {sample.experiment.n}): {metric} {sample.mean:.6f}{rest}"


def claim(baseline: Sequence[float], champion: Sequence[float], direction: Direction) -> str:
    """What two samples of scores allow to say: Welch's t-test (Biometrika 34, 1947), one-sided, the champion better."""
    if min(len(baseline), len(champion)) < 2:
        return "no p, which takes two runs of each or more"
    facts = [(statistics.fmean(some), statistics.stdev(some), len(some)) for some in (champion, baseline)]
    if facts[0][1] == facts[1][1] == 0:
        return "no p, since the runs of either do not differ at all"
    from scipy.stats import ttest_ind_from_stats  # as ttest_ind, which warns where one of the samples is constant

    side = "less" if direction == "lower" else "greater"
    p = float(ttest_ind_from_stats(*facts[0], *facts[1], equal_var=False, alternative=side).pvalue)
    found = "significant" if p < SIGNIFICANT else f"not significant, which takes p < {SIGNIFICANT}"
    return f"p {p:.2g} (Welch's t-test, one-sided), {found}"


def held_report(baseline: Sample, champion: Sample, lab: Lab) -> str:
    """Whether the difference is there on text never sent, too, place by place; "" in a lab that holds none back."""
    from research_loop.challenge import HELD_PLACES

    exam = set_exam(lab.root / "data", seed=0, audit=True)
    if lab.config.score == "run" or exam is None:
        return ""
    if not all(sample.held and all(sample.held) for sample in (baseline, champion)):
        return "on text never sent nothing was compared: some run was not asked for it"
    shape = held_shape(exam, HELD_PLACES)
    promised = mean_nats(exam, champion.mean) - mean_nats(exam, baseline.mean)
    return compare_held(_mean_held(baseline, shape), _mean_held(champion, shape), promised)


def _mean_held(sample: Sample, shape: tuple[int, int]) -> NDArray[np.float64]:
    """[rows, rounds] nats, the mean over a sample's runs."""
    import numpy as np

    nats = [np.frombuffer(data, "<f4").reshape(shape) for data in sample.held]
    return np.asarray(np.mean(nats, axis=0), np.float64)


def compare_held(baseline: NDArray[np.float64], champion: NDArray[np.float64], promised: float) -> str:
    """What nats [rows, k] at the same places of text never sent say of a difference in nats a token that the scored
    text `promised`; lower is better."""
    from research_loop.challenge import MEMORY_TOLERANCE_NATS, MEMORY_TOLERANCE_SHARE, standard_error

    difference = champion - baseline
    mean, error = float(difference.mean()), standard_error(difference, math.inf)
    fact = (
        f"on text never sent: {mean:+.4f} nats a token, standard error {error:.4f}; on the scored text {promised:+.4f}"
    )
    if promised >= 0:
        return fact
    shown = mean < -SHOWN * error
    other_text = MEMORY_TOLERANCE_NATS - MEMORY_TOLERANCE_SHARE * promised  # which may be easier or harder to gain on
    if mean - promised > other_text + MISSED * error:
        part = "ONLY PART OF THE GAIN SHOWS" if shown else "THE GAIN DOES NOT SHOW"
        return f"{fact}: {part} THERE, as with a model that remembers what it is scored on"
    return f"{fact}: {'the gain shows there, too' if shown else 'a gain so small does not show in so little text'}"
