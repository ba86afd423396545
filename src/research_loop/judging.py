"""What a verdict needs, gathered from an open lab: rules, noise, and how much code an experiment has."""

from __future__ import annotations

import ast
import math
from dataclasses import replace

from research_loop import edits, noise, parsing, verdict
from research_loop.curves import pace_of
from research_loop.errors import ProposalError
from research_loop.history import Repository
from research_loop.lab import Lab
from research_loop.ledger import Ledger, now
from research_loop.pairs import Side, pairs
from research_loop.records import Experiment, Files, History, Result, Run, Verdict
from research_loop.tasks import Job, Pace
from research_loop.verdict import Again, Rules

CHAMPION_EVERY = 25
"""Runs of others, after which the champion is run again."""
PAUSE_SECONDS = 3600.0
"""Without any run, after which the champion's comes first: the first one on a cold machine is not a candidate's, where
it has one GPU. On an H100 that was 20 of 184 steps and 0.044 worse."""
LOOK = 10 * noise.KEEP
"""A chance at which a score gets a second look: the score itself moves sigma, which decides."""


class Judge:
    """Judges the experiments of one lab; reads, and records nothing."""

    def __init__(self, lab: Lab, ledger: Ledger, repository: Repository) -> None:
        self._lab, self._ledger, self._repository = lab, ledger, repository
        self._began = now()

    def judge(self, experiment: Experiment) -> Verdict | Again:
        """Against the champion as it is now."""
        history = self._ledger.history
        if (caught := self._caught(experiment)) is not None:
            return caught
        sigma = noise.measure_sigma(history.experiments, self._lab.config.budget_seconds)
        more = 0 if history.champion is None else self._lines(experiment) - self._lines(history.champion)
        rules, since = self._rules(experiment), runs_since_champion(history, self._began)
        return verdict.judge(experiment, history.champion, rules, sigma, now(), more, since)

    def heed(self, n: int, result: Result) -> Result:
        """The result of a run of experiment `n`, without its score where the run was held up and can be run again."""
        history, experiment = self._ledger.history, self._ledger.experiment(n)
        ours = history.ours(experiment.proposer, experiment.parent)
        fact = verdict.slowed(result, (history.champion or experiment).scored, self._lab.config.metric, ours)
        outcomes = [run.result.outcome for run in experiment.runs if run.result]
        stays_so = outcomes[-verdict.MOST_SLOWED :] == ["slowed"] * verdict.MOST_SLOWED
        if not fact or stays_so or self._lab.config.noise != "measured":
            return result
        emptied = replace(result, score=None, held_nats=b"", hopeless_at=None)
        return replace(emptied, outcome="slowed", reason="slowed", detail=fact)

    def against(self, job: Job, experiment: Experiment) -> Job:
        """The job of its next run with what that is held against."""
        exam = None if job.exam is None else replace(job.exam, look_below=self.look_below(experiment))
        return replace(job, pace=self.pace(experiment), exam=exam)

    def look_below(self, experiment: Experiment) -> float:
        """A score of its next run that is not above this gets a second look.

        Code that a model may have written gets it for every score that speaks for it. Other code does not cheat: it
        gets one with the run that decides, and a baseline with its first.
        """
        history = self._ledger.history
        champion = history.champion
        ours = history.ours(experiment.proposer, experiment.parent)
        confirmed = experiment.score is not None and experiment.score.verified == "confirmed"
        if champion is None or champion.score is None:
            return -math.inf if ours and confirmed else math.inf
        if not ours or self._lab.config.noise != "measured":
            return champion.score.value
        if experiment.verdict is not None:
            return -math.inf if confirmed else math.inf
        sigma = noise.measure_sigma(history.experiments, self._lab.config.budget_seconds)
        assert sigma is not None
        shorter = self._lines(experiment) < self._lines(champion)
        p = verdict.SIMPLER if shorter else LOOK
        mine, theirs = Side.of(experiment).by_seed, Side.of(champion).by_seed
        rivals = [score.value for seed in sorted(theirs.keys() - mine.keys()) if (score := theirs[seed].score)]
        known, rival = pairs(experiment, champion), rivals[0] if rivals else None
        return noise.keeps_below(experiment.scores, champion.scores, sigma, p, known, rival)

    def pace(self, experiment: Experiment) -> Pace | None:
        """What a candidate's first run is held against; None for all other runs, and where there is no curve."""
        champion = self._ledger.history.champion
        if champion is None or experiment.verdict is not None or experiment.scores:
            return None
        curves = [self._ledger.trace(champion.n, run.k)[0] for run in champion.runs if run.result and run.result.score]
        ours, theirs = (self._repository.files(e.commit, self._lab.config.editable) for e in (champion, experiment))
        return pace_of(curves, changed_constants(ours, theirs), experiment.n)

    def due(self) -> list[Experiment]:
        """The champion, where its last run, or anybody's, is so long ago that a candidate may meet another machine."""
        history = self._ledger.history
        old = runs_since_champion(history) >= CHAMPION_EVERY or now() - last_end(history) > PAUSE_SECONDS
        return [history.champion] if old and history.champion and self._lab.config.noise == "measured" else []

    def revise(self) -> tuple[Experiment, Verdict] | None:
        """A kept experiment that is to have another verdict: who was caught when it was run again, what was made of
        that, or the champion, where it is none after all. None where all may stay."""
        history = self._ledger.history
        for kept in history.kept[1:]:
            if kept.last is not None and kept.last.outcome == "rejected":
                fact = f"when it was run again: {kept.last.detail}"
                return kept, Verdict("discard", kept.last.reason, fact, now())
            if (found := self._caught(kept)) is not None:
                return kept, found
        if len(history.kept) < 2:
            return None
        champion, before = history.kept[-1], history.kept[-2]
        found = verdict.revise(champion, before, self._rules(champion), now())
        return (champion, found) if found else None

    def _caught(self, experiment: Experiment) -> Verdict | None:
        """The verdict on what was made of code that was caught; None where none of it was."""
        for e in self._ledger.history.line(experiment.parent):
            if e.verdict is not None and _rejected(e):
                return Verdict("discard", e.verdict.reason, f"made of experiment {e.n}, which was caught", now())
        return None

    def _rules(self, experiment: Experiment) -> Rules:
        config, baseline = self._lab.config, self._ledger.history.baseline
        seconds = config.budget_seconds
        allowed = verdict.allowed_seconds(baseline, seconds)
        allowed_exam = verdict.allowed_exam_seconds(baseline, experiment.last, seconds)
        return Rules(config.metric, config.direction, config.noise == "measured", allowed, allowed_exam)

    def _lines(self, experiment: Experiment) -> int:
        return lines_of_code(self._repository.files(experiment.commit, self._lab.config.editable))


def _rejected(experiment: Experiment) -> bool:
    return experiment.verdict is not None and experiment.verdict.reason.startswith("rejected:")


def runs_since_champion(history: History, began: float = 0.0) -> float:
    """How many runs of others ended with a score since the champion's last one began; 0 without a champion. Infinite
    where that was before `began`: since then the lab may have come to another machine."""
    champion = history.champion
    if champion is None or not champion.runs:
        return 0
    # one that is in flight says nothing yet
    last = max((run.started_at for run in champion.runs if run.result and not _slowed(run)), default=-math.inf)
    if last < began:
        return math.inf
    runs = (run for e in history.experiments[champion.n :] if e is not champion for run in e.runs)
    return sum(run.started_at > last and run.result is not None and run.result.score is not None for run in runs)


def last_end(history: History) -> float:
    """When the newest run ended, in Unix seconds: infinite while one goes on, and before there is one. Of one that went
    down with its machine nobody knows more than its start."""
    runs = [run for e in history.experiments for run in e.runs]
    ends = (
        run.started_at + (0.0 if run.result.outcome == "lost" else run.result.seconds) for run in runs if run.result
    )
    return max(ends, default=math.inf) if all(run.result for run in runs) else math.inf


def _slowed(run: Run) -> bool:
    return run.result is not None and run.result.outcome == "slowed"


def changed_constants(before: Files, after: Files) -> set[str] | None:
    """Names of the constants that differ, where nothing else does; None where code does."""
    found: set[str] = set()
    for path, data in before.items():
        if after[path] == data:
            continue
        try:
            old, new = (edits.constants(files[path].decode(), path) for files in (before, after))
            names = {name: new[name].value for name in old.keys() & new.keys() if old[name].value != new[name].value}
            same = edits.replace(data.decode(), names, path).encode()
        except (ProposalError, UnicodeDecodeError):
            return None
        if edits.key({path: same}) != edits.key({path: after[path]}):
            return None
        found |= names.keys()
    return found


def lines_of_code(files: Files) -> int:
    """Lines of Python as `ast.unparse` writes them, docstrings aside: so that no formatting is shorter than another.
    Of other files those that are not empty."""
    return sum(_lines(data.decode(errors="replace")) for data in files.values())


def _lines(text: str) -> int:
    try:
        tree = parsing.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return sum(bool(line.strip()) for line in text.splitlines())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[1:] if documented and len(node.body) > 1 else node.body
    return sum(bool(line.strip()) for line in ast.unparse(tree).splitlines())
