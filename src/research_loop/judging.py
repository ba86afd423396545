"""What a verdict needs, gathered from an open lab: rules, noise, and how much code an experiment has."""

from __future__ import annotations

from research_loop import edits, noise, verdict
from research_loop.curves import pace_of
from research_loop.errors import ProposalError
from research_loop.history import Repository
from research_loop.lab import Lab
from research_loop.ledger import Ledger, now
from research_loop.records import Experiment, Files, History, Pace, Verdict
from research_loop.verdict import Again, Rules

CHAMPION_EVERY = 25
"""Runs of others, after which the champion is run again."""


class Judge:
    """Judges the experiments of one lab; reads, and records nothing."""

    def __init__(self, lab: Lab, ledger: Ledger, repository: Repository) -> None:
        self._lab, self._ledger, self._repository = lab, ledger, repository

    def judge(self, experiment: Experiment) -> Verdict | Again:
        """Against the champion as it is now."""
        history = self._ledger.history
        sigma = noise.measure_sigma(history.experiments, self._lab.config.budget_seconds)
        more = 0 if history.champion is None else self._lines(experiment) - self._lines(history.champion)
        rules, since = self._rules(experiment), runs_since_champion(history)
        return verdict.judge(experiment, history.champion, rules, sigma, now(), more, since)

    def pace(self, experiment: Experiment) -> Pace | None:
        """What a candidate's first run is held against; None for all other runs, and where there is no curve."""
        champion = self._ledger.history.champion
        if champion is None or experiment.verdict is not None or experiment.scores:
            return None
        curves = [self._ledger.trace(champion.n, run.k)[0] for run in champion.runs if run.result and run.result.score]
        ours, theirs = (self._repository.files(e.commit, self._lab.config.editable) for e in (champion, experiment))
        return pace_of(curves, changed_constants(ours, theirs), experiment.n)

    def due(self) -> list[Experiment]:
        """The champion, where its last run is so long ago that what is compared with it may meet another machine."""
        history = self._ledger.history
        old = self._lab.config.noise == "measured" and runs_since_champion(history) >= CHAMPION_EVERY
        return [history.champion] if old and history.champion else []

    def revise(self) -> Verdict | None:
        """Another verdict on the champion, which was run again; None where it stays the champion."""
        kept = [e for e in self._ledger.history.experiments if e.kept]
        if len(kept) < 2:
            return None
        return verdict.revise(kept[-1], kept[-2], self._rules(kept[-1]), now())

    def _rules(self, experiment: Experiment) -> Rules:
        config, baseline = self._lab.config, self._ledger.history.baseline
        seconds = config.budget_seconds
        allowed = verdict.allowed_seconds(baseline, seconds)
        allowed_exam = verdict.allowed_exam_seconds(baseline, experiment.last, seconds)
        return Rules(config.metric, config.direction, config.noise == "measured", allowed, allowed_exam)

    def _lines(self, experiment: Experiment) -> int:
        return lines_of_code(self._repository.files(experiment.commit, self._lab.config.editable))


def runs_since_champion(history: History) -> int:
    """How many runs of others ended with a score since the champion's last one began; 0 without a champion."""
    champion = history.champion
    if champion is None or not champion.runs:
        return 0
    last = champion.runs[-1].started_at
    runs = (run for e in history.experiments[champion.n :] if e is not champion for run in e.runs)
    return sum(run.started_at > last and run.result is not None and run.result.score is not None for run in runs)


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
    """Lines that are neither empty nor a comment alone."""
    lines = [line.strip() for data in files.values() for line in data.decode(errors="replace").splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)
