"""The verdict on an experiment: a pure function of its runs, the champion's, and the noise between runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from research_loop import noise
from research_loop.noise import BASELINE_RUNS, Direction, Gap, Sigma, better
from research_loop.pairs import pairs
from research_loop.records import Experiment, Result, Verdict

MARGIN_SHARE = 1.25
MARGIN_SECONDS, MARGIN_BUDGET_SHARE = 5.0, 0.05
EXAM_SHARE, SLOWER = 2.0, 4.0

FRESH_RUNS = 10
"""A keep is over a champion that was run lately: the machine may have become faster since, and not the code better."""

SIMPLER = 0.5
"""Shorter code is kept where chance alone does as well no more often than this: where it is no worse."""
SIMPLER_RUNS = 2
MOST_BASELINE_RUNS = 6
"""On a machine whose speed never stays the same there may be no three alike."""
MOST_LOST = 3
"""Runs of a champion that went down with the harness."""
SLOWED = 0.1
"""Share of a run's time, more than usual, that others may take before it is run again."""
MOST_SLOWED = 2
"""Runs of one experiment that do not count for it: a machine may stay busy."""
MANY_LINES, LINES_GAIN = 20, 0.001
"""That many more lines have to gain that share of the score."""
MUCH_MEMORY, MEMORY_GAIN = 1.2, 0.002
"""So has that many times the champion's memory."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a lab compares by. Without `repeats` a run of a code tells all: every other would score the same.

    `allowed` is how many seconds a run may take until it has committed itself to a score, by the harness's clock,
    and `allowed_exam` how many for all its answers.
    """

    metric: str
    direction: Direction = "lower"
    repeats: bool = True
    allowed: float = math.inf
    allowed_exam: float = math.inf


@dataclass(frozen=True, slots=True)
class Again:
    """No verdict yet: the candidate, or the champion, is to be run once more."""

    who: Literal["candidate", "champion"]
    why: str


def judge(
    experiment: Experiment,
    champion: Experiment | None,
    rules: Rules,
    sigma: Sigma | None,
    decided_at: float,
    more_lines: int = 0,
    runs_since: float = 0,
) -> Verdict | Again:
    """keep, discard or crash, or a request for another run, of `experiment` or of the champion it is compared with.

    What the harness does not believe is discarded; so is a run's own word where the champion's was challenged, and what
    took longer than the rules allow: it may have trained for longer. `more_lines` is how many lines of code the
    experiment has more than the champion, `runs_since` how many runs of others there were since the champion's last.
    `sigma` is None where nothing was scored yet.
    """
    last = experiment.last
    if last is not None and last.outcome == "slowed":
        return Again("candidate", last.detail)
    if last is None or last.outcome in ("stopped", "lost"):
        return Again("candidate", "nothing was measured")
    if last.outcome in ("rejected", "cut"):
        return Verdict("discard", last.reason, last.detail, decided_at)
    if last.outcome == "crash" or experiment.score is None:
        return Verdict("crash", last.reason, last.detail, decided_at)
    if champion is None or champion.score is None:
        return _baseline(experiment, rules, decided_at)
    if rules.repeats and champion.machine != experiment.machine and not _failed(champion):
        moved = _newest(champion) > _newest(experiment)
        fact = f"experiment {(experiment if moved else champion).n} was last run on another machine"
        return Again("candidate" if moved else "champion", fact)
    refused = _overtime(last, rules) or _unverified(experiment, champion, rules)
    if refused:
        return Verdict("discard", *refused, decided_at)
    ruled = _compare(experiment, champion, rules, sigma if rules.repeats else None, decided_at, more_lines)
    if isinstance(ruled, Again) or ruled.kind != "keep" or not rules.repeats or _failed(champion):
        return ruled
    if runs_since > FRESH_RUNS:
        return Again("champion", f"better than experiment {champion.n}, which was not run lately")
    if compare(experiment, champion, rules, sigma).pairs and not _scores_after(champion, experiment):
        return Again("champion", f"better than experiment {champion.n} seed by seed, which was only run before it")
    if champion.steady:
        return ruled
    if _runs_after(champion, experiment) < noise.MOST_RUNS:
        return Again(
            "champion", f"better than experiment {champion.n}, whose last run was faster or slower than others"
        )
    return Verdict("discard", "unsteady", f"{ruled.detail}: the machine's speed changes from run to run", decided_at)


def _baseline(baseline: Experiment, rules: Rules, decided_at: float) -> Verdict | Again:
    runs = len(baseline.scores)
    if rules.repeats and runs < BASELINE_RUNS and len(baseline.scored) < MOST_BASELINE_RUNS:
        return Again("candidate", f"run {runs + 1} of {BASELINE_RUNS}: how far runs of the same code differ")
    assert baseline.score is not None
    return Verdict("keep", "baseline", f"{rules.metric} {baseline.score.value:.6f} is the one to beat", decided_at)


def _overtime(last: Result, rules: Rules) -> tuple[str, str] | None:
    if last.committed_seconds is not None and last.committed_seconds > rules.allowed:
        fact = f"scored after {last.committed_seconds:.1f} s, where {rules.allowed:.1f} s are allowed"
        return "overtime", f"{fact}: it trained for longer, or started too slowly"
    if last.exam_seconds is not None and last.exam_seconds > rules.allowed_exam:
        fact = f"its exam took {last.exam_seconds:.1f} s, where {rules.allowed_exam:.1f} s are allowed"
        return "overtime", f"{fact}: it trained between its answers, or is slow to give them"
    return None


def _unverified(experiment: Experiment, champion: Experiment, rules: Rules) -> tuple[str, str] | None:
    score, best = experiment.score, champion.score
    assert score is not None and best is not None and experiment.last is not None
    if score.verified == "unverified" and best.verified != "unverified":
        fact = f"{rules.metric} {score.value:.6f} is the run's own word, the champion's is not"
        return "unverified", f"{fact}: {experiment.last.detail or 'no answer'}"
    return None


def _compare(
    experiment: Experiment,
    champion: Experiment,
    rules: Rules,
    sigma: Sigma | None,
    decided_at: float,
    more_lines: int,
) -> Verdict | Again:
    gap = compare(experiment, champion, rules, sigma)
    runs, others = len(experiment.scores), len(champion.scores)
    step = noise.next_step(gap, runs, others) if sigma else "keep" if gap.p < 0.5 else "discard"
    if step == "champion" and _failed(champion):
        step = "candidate"
    fact = _fact(experiment, champion, gap, rules, sigma)
    if step == "discard" and more_lines < 0 and gap.p <= SIMPLER:
        if sigma and runs < SIMPLER_RUNS:
            return Again("candidate", f"{fact}: shorter, if it is no worse")
        if sigma and others < SIMPLER_RUNS and not _failed(champion):
            return Again("champion", f"{fact}: shorter, if it is no worse")
        return _keep(experiment, champion, "simpler", f"{fact}, with {-more_lines} lines less", decided_at)
    price = _too_dear(experiment, champion, gap, more_lines) if gap.p < noise.KEEP else None
    if price:  # another run would not pay it
        return Verdict("discard", price[0], f"{fact}: {price[1]}", decided_at)
    if step == "candidate" or step == "champion":
        doubt = "one run proves nothing" if gap.p < noise.KEEP else "could be noise"
        return Again(step, f"{fact}: {doubt}")
    if step == "discard":
        reason = "noise" if better(gap.difference, 0.0, rules.direction) else f"not-{rules.direction}"
        return Verdict("discard", reason, fact, decided_at)
    return _keep(experiment, champion, rules.direction, fact, decided_at)


def compare(experiment: Experiment, champion: Experiment, rules: Rules, sigma: Sigma | None) -> Gap:
    """The difference of their mean scores, with the chance of it; without a sigma that is 0, 0.5 or 1."""
    if sigma:
        known = pairs(experiment, champion)
        return noise.compare(experiment.scores, champion.scores, sigma, rules.direction, known)
    assert experiment.score is not None and champion.score is not None
    mine, theirs = experiment.score.value, champion.score.value
    chance = 0.0 if better(mine, theirs, rules.direction) else 0.5 if mine == theirs else 1.0
    return Gap(mine - theirs, chance)


def _newest(experiment: Experiment) -> float:
    """When its newest run with a score was started."""
    return max((run.started_at for run in experiment.runs if run.result and run.result.score), default=0.0)


def _runs_after(champion: Experiment, experiment: Experiment) -> int:
    first = min((run.started_at for run in experiment.runs), default=0.0)
    return sum(run.started_at > first for run in champion.runs)


def _scores_after(champion: Experiment, experiment: Experiment) -> int:
    first = min((run.started_at for run in experiment.runs), default=0.0)
    return sum(
        run.started_at > first and run.result is not None and run.result.score is not None for run in champion.runs
    )


def _failed(champion: Experiment) -> bool:
    """Whether asking for another run of it is in vain."""
    outcomes = [run.result.outcome for run in champion.runs if run.result]
    return outcomes[-1] in ("crash", "rejected") or outcomes.count("lost") >= MOST_LOST


def _fact(experiment: Experiment, champion: Experiment, gap: Gap, rules: Rules, sigma: Sigma | None) -> str:
    assert experiment.score is not None
    text = f"{rules.metric} {experiment.score.value:.6f}, {gap.difference:+.6f} against experiment {champion.n}"
    of = f"{gap.pairs} seed{'s' if gap.pairs > 1 else ''} of both"
    of = of if gap.pairs else f"{len(experiment.scores)} and {len(champion.scores)} runs"
    return f"{text} ({of}, p {gap.p:.2g})" if sigma else text


def _too_dear(experiment: Experiment, champion: Experiment, gap: Gap, more_lines: int) -> tuple[str, str] | None:
    """A gain that does not pay for its code or its memory: a reason and a sentence; None for one that does."""
    assert champion.score is not None
    gain = abs(gap.difference) / max(abs(champion.score.value), 1e-12)
    if more_lines > MANY_LINES and gain < LINES_GAIN:
        return "complexity", f"{more_lines} more lines have to gain {100 * LINES_GAIN:g} % of the score"
    mine, theirs = _memory_mb(experiment), _memory_mb(champion)
    if mine and theirs and mine > MUCH_MEMORY * theirs and gain < MEMORY_GAIN:
        fact = f"{mine:.0f} MB in place of {theirs:.0f}"
        return "memory", f"{fact} has to gain {100 * MEMORY_GAIN:g} % of the score"
    return None


def _memory_mb(experiment: Experiment) -> float | None:
    return _longest(experiment, lambda result: result.peak_vram_mb)


def _keep(experiment: Experiment, champion: Experiment, reason: str, fact: str, decided_at: float) -> Verdict | Again:
    """Nothing is kept over a confirmed score that is not confirmed itself."""
    assert experiment.score is not None and champion.score is not None
    if champion.score.verified == "confirmed" and experiment.score.verified != "confirmed":
        if experiment.score.verified == "challenged" and len(experiment.scores) < noise.MOST_RUNS:
            return Again("candidate", f"{fact}: a second look has to confirm it")
        return Verdict("discard", "unconfirmed", f"{fact}, without a second look: `--again` tries it", decided_at)
    return Verdict("keep", reason, fact, decided_at)


def revise(champion: Experiment, before: Experiment, rules: Rules, decided_at: float) -> Verdict | None:
    """A new verdict on a champion that was run again: discard, where it is not better than the one `before` it after
    all; None where the old one stands."""
    assert champion.score is not None and before.score is not None and champion.verdict is not None
    alike = len(champion.counted) == len(champion.scored)  # else it met another machine than the one before it
    if not alike or champion.verdict.reason == "simpler" or better(*_levels(champion, before), rules.direction):
        return None
    runs = f"{len(champion.scores)} and {len(before.scores)} runs"
    fact = f"{rules.metric} {champion.score.value:.6f} in place of {before.score.value:.6f} of experiment {before.n}"
    return Verdict("discard", "revised", f"run again, it is no better after all: {fact} ({runs})", decided_at)


def _levels(champion: Experiment, before: Experiment) -> tuple[float, float]:
    """Scores of both to compare, of the seeds that both had where those began alike: others are luckier or less so."""
    assert champion.score is not None and before.score is not None
    differences = pairs(champion, before).differences
    if len(differences) < noise.KEEP_PAIRS:
        return champion.score.value, before.score.value
    return statistics.fmean(differences), 0.0


def slowed(result: Result, usual: Sequence[Result], metric: str, ours: bool) -> str:
    """What held a run up, other than its code, beside `usual` runs; empty where that was not much, or not measured.

    Code that is not `ours` could make others of its own processes, so that only its GPU's state speaks for it.
    """
    ended = result.outcome if result.score is None else f"{metric} {result.score.value:.6f}"
    if result.outcome not in ("scored", "cut") and result.reason != "timeout":
        return ""
    held = [("braked_share", "heat or the power supply held its GPU back")]
    held += [("waited_share", "its threads waited for other programs")] if ours else []
    for name, what in held:
        share, known = getattr(result, name), [getattr(other, name) for other in usual]
        common = statistics.median(measured) if (measured := [value for value in known if value is not None]) else None
        if share is not None and common is not None and share > common + SLOWED:
            fact = f"{what} for {100 * share:.0f} % of the time, {100 * common:.0f} % is usual"
            return f"{ended} does not count: {fact}"
    return ""


# ------------------------------------------------------------------------------------------------------- allowances


def allowed_seconds(baseline: Experiment | None, budget_seconds: float) -> float:
    """From spawn to the answer that the score is made of, by the harness's clock: the budget, and what the baseline's
    slowest run took beside it to start and to be evaluated, with a margin. Infinite where that was not measured."""
    taken = _longest(baseline, lambda result: result.committed_seconds)
    if taken is None:
        return math.inf
    return budget_seconds + MARGIN_SHARE * max(0.0, taken - budget_seconds) + _margin(budget_seconds)


def allowed_exam_seconds(baseline: Experiment | None, result: Result | None, budget_seconds: float) -> float:
    """From ready to the last answer: twice what the baseline took, which was asked everything, and the same margin. A
    model that goes on training between two answers takes longer. An honest one may answer one kind of question much
    slower than the other; one that was slower in its first answer may be as much slower in the rest, up to SLOWER."""
    whole = _longest(baseline, lambda result: result.exam_seconds)
    if baseline is None or whole is None:
        return math.inf
    slower = _first_answer(result) / max(_longest(baseline, _first_answer) or 0.0, 0.001)
    return min(max(EXAM_SHARE, 1.5 * slower), SLOWER) * whole + _margin(budget_seconds)


def _first_answer(result: Result | None) -> float:
    if result is None or result.committed_seconds is None or result.ready_seconds is None:
        return 0.0
    return result.committed_seconds - result.ready_seconds


def _margin(budget_seconds: float) -> float:
    return max(MARGIN_SECONDS, MARGIN_BUDGET_SHARE * budget_seconds)


def _longest(experiment: Experiment | None, of: Callable[[Result], float | None]) -> float | None:
    """The largest value over the scored runs that have one."""
    results = [run.result for run in experiment.runs if run.result and run.result.score] if experiment else []
    return max((value for result in results if (value := of(result)) is not None), default=None)
