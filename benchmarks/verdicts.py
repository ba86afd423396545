"""False keeps and real gains of three rules, simulated: what a hundred experiments that change nothing cost each.

    ./uv run python benchmarks/verdicts.py [--nulls 100000] [--seed 1]

Scores are independent normal draws around what the code is truly worth, in units of sigma. `null` campaigns change
nothing. In the others 15 % of changes help, by 3 sigma on average, a third do next to nothing and the rest harm
("early"); or 5 % help, by 1.2 sigma ("late"). Gains are the champion's true worth.
"""

from __future__ import annotations

import argparse
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
    """Runs of one code, and the squares that they add to sigma."""

    worth: float
    scores: list[float] = field(default_factory=list)

    def run(self, draw: random.Random) -> float:
        """Another run; what it adds to the sum of squares around the mean."""
        score = self.worth + draw.gauss(0, 1)
        known = len(self.scores)
        added = known / (known + 1) * (score - statistics.fmean(self.scores)) ** 2 if known else 0.0
        self.scores.append(score)
        return added


def campaign(draw: random.Random, most_runs: int, effect: Effect, prior: float, count: Count) -> None:
    """One lab under our rule, for so many runs; `prior` is the prior's sigma, where the true one is 1."""
    level = prior * BUDGET / noise.PRIOR_SHARE_SECONDS
    champion = Group(0.0)
    squares, repeats, runs = sum(champion.run(draw) for _ in range(BASELINE_RUNS)), BASELINE_RUNS - 1, BASELINE_RUNS
    while runs < most_runs:
        change = effect(draw)
        mine = Group(champion.worth + change)
        mine.run(draw)
        runs += 1
        step = ""
        while step not in ("keep", "discard"):
            sigma = noise.pooled(squares, repeats, level, BUDGET)
            gap = noise.compare(mine.scores, champion.scores, sigma, "lower")
            step = noise.next_step(gap.p, len(mine.scores), len(champion.scores))
            if step in ("candidate", "champion"):
                squares += (mine if step == "candidate" else champion).run(draw)
                repeats, runs = repeats + 1, runs + 1
        count.experiments += 1
        if step == "keep":
            count.keeps, count.false = count.keeps + 1, count.false + (change >= 0)
            champion = mine
    count.runs += runs
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
        (f"ours, prior x {prior:g}", lambda draw, count, prior=prior: campaign(draw, runs, effect, prior, count))
        for prior in (1.0, 1 / 3, 3.0)
    ]
    return [
        *rules,
        ("upstream's: lower is kept", lambda draw, count: simple(draw, runs, effect, 0.0, count)),
        ("two sigma of three baselines", lambda draw, count: simple(draw, runs, effect, 2.0, count)),
    ]


if __name__ == "__main__":
    main()
