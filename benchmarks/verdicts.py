"""False keeps and real gains of three rules, simulated: what a hundred experiments that change nothing cost each.

    ./uv run python benchmarks/verdicts.py [--nulls 100000] [--seed 1]

Scores are independent normal draws around what the code is truly worth, in units of sigma. `null` campaigns change
nothing. In the others 15 % of changes help, by 3 sigma on average, a third do next to nothing and the rest harm
("early"); or 5 % help, by 1.2 sigma ("late"). Gains are the champion's true worth.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from research_loop import noise
from research_loop.noise import BASELINE_RUNS

BUDGET = 60.0
Effect = Callable[[random.Random], float]


def null(_draw: random.Random) -> float:
    return 0.0


def early(draw: random.Random) -> float:
    u = draw.random()
    return -draw.expovariate(1 / 3) if u < 0.15 else draw.gauss(0, 0.2) if u < 0.5 else draw.expovariate(1 / 8)


def late(draw: random.Random) -> float:
    u = draw.random()
    return -draw.expovariate(1 / 1.2) if u < 0.05 else draw.gauss(0, 0.2) if u < 0.5 else draw.expovariate(1 / 8)


@dataclass
class Count:
    """What a rule did: keeps that were no better than their champion, runs, the champion's true worth."""

    experiments: int = 0
    false: int = 0
    keeps: int = 0
    runs: int = 0
    gains: list[float] = field(default_factory=list)

    def line(self, name: str) -> str:
        gain = statistics.fmean(self.gains)
        error = statistics.stdev(self.gains) / len(self.gains) ** 0.5 if len(self.gains) > 1 else 0.0
        false, runs = 100 * self.false / self.experiments, 100 * self.runs / self.experiments
        share = f"{100 * self.false / self.keeps:5.1f} %" if self.keeps else "      -"
        return f"| {name:<44} | {false:6.3f} | {share} | {runs:5.0f} | {gain:+7.2f} ± {error:.2f} |"


@dataclass
class Group:
    """Runs of one code, and what they add to the sum of squares and to its degrees of freedom."""

    worth: float
    sd: float
    scores: list[float] = field(default_factory=list)

    def run(self, draw: random.Random, known: Known) -> None:
        score, runs = self.worth + draw.gauss(0, self.sd), len(self.scores)
        if runs:
            known.squares += runs / (runs + 1) * (score - statistics.fmean(self.scores)) ** 2
            known.degrees += 1
        self.scores.append(score)
        known.runs += 1


@dataclass
class Known:
    """What a lab has measured."""

    squares: float = 0.0
    degrees: float = 0.0
    runs: int = 0

    def fade(self, champion: Group) -> None:
        """All but what the new champion's own runs say."""
        free = len(champion.scores) - 1
        own = statistics.variance(champion.scores) * free
        self.squares = noise.FADES * (self.squares - own) + own
        self.degrees = noise.FADES * (self.degrees - free) + free


def campaign(draw: random.Random, most_runs: int, effect: Effect, prior: float, spread: float, count: Count) -> None:
    """One lab under our rule, for so many runs; `prior` is the prior's sigma where the baseline's true one is 1. Those
    of candidates are `spread` around it, in powers of e."""
    level = prior * BUDGET / noise.PRIOR_SHARE_SECONDS
    champion, known = Group(0.0, 1.0), Known()
    for _ in range(BASELINE_RUNS):
        champion.run(draw, known)
    while known.runs < most_runs:
        change = effect(draw)
        mine = Group(champion.worth + change, math.exp(draw.gauss(0, spread)))
        mine.run(draw, known)
        step = ""
        while step not in ("keep", "discard"):
            sigma = noise.pooled(known.squares, known.degrees, 0, level, BUDGET)
            gap = noise.compare(mine.scores, champion.scores, sigma, "lower")
            step = noise.next_step(gap.p, len(mine.scores), len(champion.scores))
            if step in ("candidate", "champion"):
                (mine if step == "candidate" else champion).run(draw, known)
        count.experiments += 1
        if step == "keep":
            known.fade(mine)
            count.keeps, count.false = count.keeps + 1, count.false + (change >= 0)
            champion = mine
    count.runs += known.runs
    count.gains.append(champion.worth)


def simple(draw: random.Random, most_runs: int, effect: Effect, sigmas: float, count: Count) -> None:
    """One lab under a fixed rule: one run each, kept when better by so many deviations of three baselines."""
    baselines = [draw.gauss(0, 1) for _ in range(BASELINE_RUNS)]
    best, worth = (baselines[0], 0.0) if not sigmas else (statistics.fmean(baselines), 0.0)
    margin = sigmas * statistics.stdev(baselines)
    for _ in range(most_runs - (BASELINE_RUNS if sigmas else 1)):
        change = effect(draw)
        score = worth + change + draw.gauss(0, 1)
        count.experiments += 1
        if score < best - margin:
            count.keeps, count.false = count.keeps + 1, count.false + (change >= 0)
            best, worth = score, worth + change
    count.runs += most_runs
    count.gains.append(worth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nulls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    print("| rule, changes | false keeps a hundred | of its keeps | runs a hundred | worth at the end, in sigma |")
    print("|---|---|---|---|---|")
    for effect, runs in ((null, 125), (null, 350), (early, 150), (late, 150)):
        campaigns = arguments.nulls // runs if effect is null else 200
        for name, one in _rules(runs, effect):
            draw, count = random.Random(arguments.seed), Count()
            for _ in range(campaigns):
                one(draw, count)
            print(count.line(f"{name}, {effect.__name__}, {runs} runs"), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")


def _rules(runs: int, effect: Effect) -> list[tuple[str, Callable[[random.Random, Count], None]]]:
    rules: list[tuple[str, Callable[[random.Random, Count], None]]] = [
        (
            f"ours, prior x {prior:.2g}{', sigmas differ' if spread else ''}",
            lambda draw, count, prior=prior, spread=spread: campaign(draw, runs, effect, prior, spread, count),
        )
        for prior, spread in ((1.0, 0.0), (1 / 3, 0.0), (3.0, 0.0), (1.0, 0.5))
    ]
    return [
        *rules,
        ("upstream's: lower is kept", lambda draw, count: simple(draw, runs, effect, 0.0, count)),
        ("two sigma of three baselines", lambda draw, count: simple(draw, runs, effect, 2.0, count)),
    ]


if __name__ == "__main__":
    main()
