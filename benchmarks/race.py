"""Four policies on a real CPU lab for the same wall clock: audited scores of their champions against time.

    ./uv run python benchmarks/race.py FOLDER [--minutes 20] [--seeds 0 1 2 3 4] [--budget 4] [--audits 3]
                                                 [--policies ours "upstream's rule"] [--runs 60] [--eval-tokens 32768]

Each policy and seed has a lab of its own below FOLDER, with the same data; runs go one after the other, policies in
turn, so that a machine that slows down slows them all. Called again it goes on: labs that had their minutes are done.
At every quarter of the time the champion of that moment is audited: trained anew with fresh seeds and scored on text
that nothing else was scored on. Prints a table of means over seeds.

With --eval-tokens fewer validation tokens are scored: on one core the exam is most of a short run.

With --runs the clock that train.py sees is a count of its work, and every policy gets so many runs in place of minutes:
what else this machine does then changes no score. The bounds on real time are off, as they would judge the machine; the
search's bandit alone still sees how long runs took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import re
import shutil
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from research_loop import edits, verdict
from research_loop.audit import trained
from research_loop.data.preparation import prepare_lab
from research_loop.edits import Value
from research_loop.lab import CONFIG, Lab, Wish, make_gpt_lab, open_lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, run_loop
from research_loop.pairs import BASE_SEED, same_seeds
from research_loop.proposers import Proposer
from research_loop.proposers.search import SearchProposer, dials, rules
from research_loop.records import Checkout, Experiment, History, Proposal, Result
from research_loop.runners.local import LocalRunner
from research_loop.session import Session

TOKENS = 256
QUARTERS = 4
WIDE = 8.0
"""TPE's and random search's ranges, a factor to either side."""
CLOCK = "seconds = time.time() - start"
WORK = "seconds = 0.02 + 7.5e-12 * flops  # of one core, about"
Values = dict[str, Value]


def values_of(checkout: Checkout) -> Values:
    found = edits.constants(checkout.files["train.py"].decode())
    return {name: constant.value for name, constant in found.items()}


class Simple(ABC):
    """A proposer of the benchmark: `ask` gives new constants for the baseline's or the champion's file."""

    name = "race"
    deterministic = False

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        for _ in range(1000):
            wanted = self.ask(checkout, history)
            settled = rules.settle(values_of(checkout), wanted, TOKENS) if wanted else None
            if not settled:
                continue
            source = edits.replace(checkout.files["train.py"].decode(), settled).encode()
            known = history.by_key(edits.key({"train.py": source}))
            if known is None:
                return Proposal({"train.py": source}, json.dumps(settled), proposer=self.name, parent=checkout.parent)
            self.met(known)
        return None

    def met(self, known: Experiment) -> None:  # noqa: B027 (who does not learn has no use for it)
        """What was just asked for is not new: it was tried, here or by the process before."""

    @abstractmethod
    def ask(self, checkout: Checkout, history: History) -> Values | None:
        """Constants to change; None for another try."""


class OneMove(Simple):
    """Upstream's way: one random move of one constant of the champion."""

    def ask(self, checkout: Checkout, history: History) -> Values | None:
        values = values_of(checkout)
        dial = self.draw.choice(dials.dials(values))
        near = dials.neighbours(dial, self.draw.choice((1, -1)), self.draw.uniform(0.5, 2.0), self.draw)
        return {dial.name: dials.put(values, dial, near[0])} if near else None


class Wide(Simple):
    """All constants anew, anywhere in wide ranges around the first file's."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.first: Values | None = None

    def ask(self, checkout: Checkout, history: History) -> Values | None:
        self.first = self.first or values_of(checkout)
        return self.point(self.first, history)

    def point(self, first: Values, history: History) -> Values:
        return wide(
            first,
            lambda name, low, high, log: (
                math.exp(self.draw.uniform(math.log(low), math.log(high))) if log else self.draw.uniform(low, high)
            ),
            self.draw.randint,
        )


class Parzen(Wide):
    """optuna's TPE with its own defaults; failures are told the worst score seen.

    What cannot be is left out of a point one constant after the other, so that every trial is a run: with all or
    nothing nine of ten came to nothing.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        self.trial: optuna.Trial | None = None
        self.worst = 1.0

    def point(self, first: Values, history: History) -> Values:
        self.worst = max((e.score.value for e in history.experiments if e.score), default=1.0)
        if self.trial is not None:  # what it gave has been tried since: runs go one after the other
            self.met(history.experiments[-1])
        trial = self.trial = self.study.ask()
        wanted = wide(
            first,
            lambda name, low, high, log: trial.suggest_float(name, low, high, log=log),
            lambda low, high: trial.suggest_int(f"size {low} {high}", low, high),
        )
        possible: Values = {}
        for name, value in wanted.items():
            if rules.settle(first, {**possible, name: value}, TOKENS):
                possible[name] = value
        return possible

    def met(self, known: Experiment) -> None:
        if self.trial is not None:
            self.study.tell(self.trial, known.score.value if known.score else self.worst)
            self.trial = None


def wide(first: Values, real: Callable[..., float], whole: Callable[[int, int], int]) -> Values:
    """Every number of the file, as somebody would who knows its kind and nothing else."""
    values = dict(first)
    for dial in dials.dials(first):
        value, number = dial.value, float(str(dial.value)) if not isinstance(dial.value, str) else 0.0
        if dial.kind in ("rate", "scale", "width") and number > 0:
            new: Value = real(dial.key, number / WIDE, number * WIDE, True)
            values[dial.name] = dials.put(values, dial, max(1, round(new)) if isinstance(value, int) else new)
        elif dial.kind == "beta":
            values[dial.name] = dials.put(values, dial, 1 - real(dial.key, 0.005, 0.5, True))
        elif dial.kind == "ratio":
            values[dial.name] = dials.put(values, dial, real(dial.key, 0.0, 1.0, False))
        elif dial.kind == "count":
            values[dial.name] = dials.put(values, dial, whole(1, 3 * int(number)))
        elif dial.kind == "size":
            middle = round(math.log2(number))
            values[dial.name] = dials.put(values, dial, 2 ** whole(max(0, middle - 3), middle + 2))
    return {name: value for name, value in values.items() if value != first[name]}


POLICIES: dict[str, tuple[Callable[[int], Proposer], str]] = {
    "ours": (SearchProposer, "measured"),
    "TPE as it comes": (Parzen, "none"),
    "random": (Wide, "none"),
    "upstream's rule": (OneMove, "none"),
}

# --------------------------------------------------------------------------------------------------------------- labs


def make_first(folder: Path, budget: int, by_work: bool, eval_tokens: int | None) -> Lab:
    """The lab that all others are copies of, its data prepared."""
    if not (folder / CONFIG).exists():
        make_gpt_lab(folder, Wish(profile="cpu", budget_seconds=budget))
        source = (folder / "train.py").read_text()
        if by_work:
            (folder / "train.py").write_text(source.replace(CLOCK, WORK))
            text = (folder / CONFIG).read_text()
            (folder / CONFIG).write_text(re.sub(r"(?m)^limit_seconds = .*$", "limit_seconds = 3600", text))
        if eval_tokens is not None:
            prepare = (folder / "prepare.py").read_text()
            (folder / "prepare.py").write_text(edits.replace(prepare, {"EVAL_TOKENS": eval_tokens}))
    assert (WORK if by_work else CLOCK) in (folder / "train.py").read_text(), "made for the other clock"
    lab = open_lab(folder)
    prepare_lab(lab, say=print)
    return lab


def lab_of(first: Lab, folder: Path, noise: str) -> Lab:
    if not folder.exists():
        shutil.copytree(first.root, folder, symlinks=True, ignore=shutil.ignore_patterns(".research-loop"))
        text = (folder / CONFIG).read_text()
        (folder / CONFIG).write_text(text.replace("[task]", f'[task]\nnoise = "{noise}"', 1))
    return open_lab(folder)


@dataclass(frozen=True)
class Length:
    """Of a race, in minutes of runs, or in runs; a pause of the benchmark does not count."""

    minutes: float
    runs: int | None

    @property
    def whole(self) -> float:
        return self.minutes if self.runs is None else self.runs

    def of(self, result: Result) -> float:
        if self.runs is None:
            return result.seconds / 60
        return float(result.outcome not in ("slowed", "stopped", "lost"))  # by that clock nothing was slow

    def used(self, lab: Lab) -> float:
        if not lab.ledger_path.exists():
            return 0.0
        history = Ledger(lab.ledger_path, read_only=True).history
        return sum(self.of(run.result) for e in history.experiments for run in e.runs if run.result)

    def next_slice(self, left: float) -> Limits:
        return Limits(seconds=min(60 * left, 180.0)) if self.runs is None else Limits(experiments=min(8, round(left)))


def race(first: Lab, place: Path, length: Length, seeds: list[int], policies: list[str]) -> None:
    """Slices of a few minutes, policies and seeds in turn, until each had its time."""
    proposers: dict[Path, Proposer] = {}
    waiting = [(seed, name) for seed in seeds for name in policies]
    while waiting:
        for seed, name in list(waiting):
            make, noise = POLICIES[name]
            folder = place / f"{seed}-{name.replace(' ', '-').replace(chr(39), '')}"
            lab = lab_of(first, folder, noise)
            left = length.whole - length.used(lab)
            if left <= 0:
                waiting.remove((seed, name))
                continue
            proposer = proposers.setdefault(folder, make(seed))
            with Session(lab, LocalRunner(), seed_of=seeds_of(seed)) as session:
                run_loop(session, proposer, length.next_slice(left))
            print(f"{folder.name}: {length.used(lab):.1f} of {length.whole:g}", flush=True)


def seeds_of(seed: int) -> Callable[[Experiment], int]:
    """Other seeds of training in each race: with the same ones, and a clock of work, ours would take the same steps."""
    return lambda experiment: same_seeds(experiment, BASE_SEED + 10_000 * seed)


def in_time(lab: Lab, length: Length, share: float = 1.0) -> list[Experiment]:
    """What was decided in this share of the race, in the order of the verdicts, by the lab's own running time."""
    history = Ledger(lab.ledger_path, read_only=True).history
    runs = sorted((run for e in history.experiments for run in e.runs if run.result), key=lambda run: run.started_at)
    spent = itertools.accumulate(length.of(run.result) for run in runs if run.result)
    counted = [run for run, so_far in zip(runs, spent, strict=True) if so_far <= length.whole * share]
    until = max((run.started_at + run.result.seconds for run in counted if run.result), default=0.0) + 5
    decided = [(e.verdict.decided_at, e.n, e) for e in history.experiments if e.verdict]
    return [e for at, _, e in sorted(decided) if at <= until]


def champions(lab: Lab, length: Length) -> list[Experiment]:
    """The champion at each quarter of the race."""
    first = Ledger(lab.ledger_path, read_only=True).history.experiments[0]
    quarters = (in_time(lab, length, quarter / QUARTERS) for quarter in range(1, QUARTERS + 1))
    return [next((e for e in reversed(done) if e.kept), first) for done in quarters]


def audited(lab: Lab, experiment: Experiment, runs: int) -> float:
    """Mean of so many audit runs; those that the ledger has already are not made again."""
    with Session(lab, LocalRunner()) as session:
        known = [a for a in session.ledger.audits() if a.n == experiment.n and a.result.score]
        known += [audit for audit, _ in trained(session, [experiment] * (runs - len(known))) if audit.result.score]
    scores = [audit.result.score.value for audit in known[:runs] if audit.result.score]
    return statistics.fmean(scores) if len(scores) == runs else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--budget", type=int, default=4)
    parser.add_argument("--eval-tokens", type=int)
    parser.add_argument("--audits", type=int, default=3)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    arguments = parser.parse_args()
    began = time.monotonic()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    length = Length(arguments.minutes, arguments.runs)
    by_work = arguments.runs is not None
    if by_work:
        verdict.MARGIN_SECONDS = verdict.SLOWED = math.inf
    first = make_first(arguments.folder / "first", arguments.budget, by_work, arguments.eval_tokens)
    race(first, arguments.folder, length, arguments.seeds, arguments.policies)
    unit = "min" if arguments.runs is None else "runs"
    print("| policy | " + " | ".join(f"{length.whole * q / QUARTERS:g} {unit}" for q in range(1, QUARTERS + 1)), end="")
    print(" | experiments | kept |\n" + "|---" * (QUARTERS + 3) + "|")
    for name in arguments.policies:
        noise = POLICIES[name][1]
        rows, counts, keeps = [], [], []
        for seed in arguments.seeds:
            lab = lab_of(first, arguments.folder / f"{seed}-{name.replace(' ', '-').replace(chr(39), '')}", noise)
            rows.append([audited(lab, e, arguments.audits) for e in champions(lab, length)])
            done = in_time(lab, length)
            counts.append(len(done))
            keeps.append(sum(e.kept for e in done) - 1)
        for seed, row in zip(arguments.seeds, rows, strict=True):
            print(f"<!-- {name}, seed {seed}: {', '.join(f'{value:.4f}' for value in row)} -->")
        cells = []
        for column in zip(*rows, strict=True):
            spread = statistics.stdev(column) if len(column) > 1 else math.nan
            cells.append(f"{statistics.fmean(column):.4f} ({spread:.4f})")
        print(f"| {name} | {' | '.join(cells)} | {statistics.fmean(counts):.0f} | {statistics.fmean(keeps):.1f} |")
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
