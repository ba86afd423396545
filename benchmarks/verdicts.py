"""False keeps and real gains of three rules, simulated: what a hundred experiments that change nothing cost each.

    ./uv run python benchmarks/verdicts.py [--nulls 100000] [--seed 1]

Scores are independent normal draws around what the code is truly worth, in units of sigma. `null` campaigns change
nothing. In the others 15 % of changes help, by 3 sigma on average, a third do next to nothing and the rest harm
("early"); or 5 % help, by 1.2 sigma ("late"). Gains are the champion's true worth. Where luck is "shared" that share of
the variance is the seed's, the same for all codes; "but for" is how many of the candidates have other luck than the
champion although they seem to begin like it.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from research_loop import noise
from research_loop.noise import BASELINE_RUNS
from research_loop.pairs import Pairs

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
    luck: Callable[[int], float] = lambda _k: 0.0
    scores: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)
    began: float = math.inf
    newest: int = 0

    def run(self, draw: random.Random, known: Known) -> None:
        runs = len(self.scores)
        speed = known.speed(draw)
        score = self.worth + self.luck(runs) + draw.gauss(0, self.sd) - known.faster_gains * (speed - 1)
        self.speeds.append(speed)
        self.began = min(self.began, known.runs)
        if runs:
            known.squares += runs / (runs + 1) * (score - statistics.fmean(self.scores)) ** 2
            known.degrees += 1
        self.scores.append(score)
        self.newest = known.runs
        known.runs += 1


@dataclass
class Known:
    """What a lab has measured."""

    squares: float = 0.0
    degrees: float = 0.0
    runs: int = 0
    pair_squares: float = 0.0
    pair_degrees: float = 0.0
    faster_gains: float = 0.0
    walk: float = 0.0
    budget: float = 60.0
    machine: float = 1.0

    def speed(self, draw: random.Random) -> float:
        """Of one more run: the machine's, which wanders and comes back, and 0.3 % of its own."""
        self.machine += draw.gauss(0, self.walk) - 0.05 * (self.machine - 1)
        return self.machine + draw.gauss(0, 0.003) * bool(self.walk)

    def sigma(self, level: float, pairs: Sequence[float]) -> noise.Sigma:
        """With what the pairs that are looked at say."""
        sigma = noise.pooled(self.squares, self.degrees, 0, level, self.budget)
        free = max(0, len(pairs) - 1)
        own = statistics.variance(pairs) * free if free else 0.0
        return noise.with_pairs(sigma, self.pair_squares + own, self.pair_degrees + free)

    def decided(self, pairs: Sequence[float], kept: bool) -> None:
        """Takes in the pairs of an experiment with its verdict."""
        share = noise.FADES if kept else 1.0
        free = max(0, len(pairs) - 1)
        own = statistics.variance(pairs) * free if free else 0.0
        self.pair_squares, self.pair_degrees = share * self.pair_squares + own, share * self.pair_degrees + free

    def fade(self, champion: Group) -> None:
        """All but what the new champion's own runs say."""
        free = len(champion.scores) - 1
        own = statistics.variance(champion.scores) * free
        self.squares = noise.FADES * (self.squares - own) + own
        self.degrees = noise.FADES * (self.degrees - free) + free


@dataclass(frozen=True)
class World:
    """How scores come about.

    `prior` is the prior's sigma where the baseline's true one is 1; candidates' own sigmas are `spread` around it, in
    powers of e; `shared` of the variance is the luck of the seed, for all but `but_for` of them. The machine's speed
    takes a `walk` of so much a run, and a score falls by a share of 0.06 of what it is faster.
    """

    name: str
    prior: float = 1.0
    spread: float = 0.0
    shared: float = 0.0
    but_for: float = 0.0
    walk: float = 0.0
    budget: float = 60.0


def campaign(draw: random.Random, most_runs: int, effect: Effect, world: World, count: Count) -> None:
    """One lab under our rule, for so many runs."""
    level = world.prior * world.budget / noise.PRIOR_SHARE_SECONDS
    drawn = [draw.gauss(0, world.shared**0.5) for _ in range(200 if world.shared else 0)]
    seeds = drawn.__getitem__ if world.shared else lambda _k: 0.0
    own = (1 - world.shared) ** 0.5
    champion, known = Group(0.0, own, seeds), Known(faster_gains=0.06 * level, walk=world.walk, budget=world.budget)
    for _ in range(BASELINE_RUNS):
        champion.run(draw, known)
    while known.runs < most_runs:
        change = effect(draw)
        other = draw.random() < world.but_for
        mine = Group(champion.worth + change, (1.0 if other else own) * math.exp(draw.gauss(0, world.spread)))
        mine.luck = mine.luck if other else seeds
        mine.run(draw, known)
        step = ""
        while step not in ("keep", "discard"):
            pairs = paired(mine, champion) if world.shared else noise.NO_PAIRS
            theirs = [level + score for score in champion.scores]
            sigma = known.sigma(level, pairs.differences)
            gap = noise.compare([level + score for score in mine.scores], theirs, sigma, "lower", pairs)
            step = noise.next_step(gap, len(mine.scores), len(champion.scores))
            if step == "keep" and gap.pairs and champion.newest < mine.began:
                step = "champion"
            if step in ("candidate", "champion"):
                (mine if step == "candidate" else champion).run(draw, known)
        count.experiments += 1
        known.decided(pairs.differences, step == "keep")
        if step == "keep":
            known.fade(mine)
            count.keeps, count.false = count.keeps + 1, count.false + (change >= 0)
            champion = mine
    count.runs += known.runs
    count.gains.append(champion.worth)


def paired(mine: Group, champion: Group) -> Pairs:
    found = tuple(a - b for a, b in zip(mine.scores, champion.scores, strict=False))
    return Pairs(found, abs(statistics.fmean(champion.speeds[: len(found)]) / champion.speeds[-1] - 1))


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


WORLDS = (
    World(", prior x 1"),
    World(", prior x 0.33", prior=1 / 3),
    World(", prior x 3", prior=3.0),
    World(", sigmas differ", spread=0.5),
    World(", luck shared 0.8", shared=0.8),
    World(", 0.8, sigmas differ", spread=0.5, shared=0.8),
    World(", 0.8, but for a tenth", shared=0.8, but_for=0.1),
    World(", 0.8, but for half", shared=0.8, but_for=0.5),
    World(", luck shared 0.98", shared=0.98),
    World(", unlike, speed wanders", shared=1e-9, walk=0.001),
    World(", 0.8, speed wanders", shared=0.8, walk=0.001),
    World(", 0.8, speed wanders, 300 s", shared=0.8, walk=0.001, budget=300.0),
    World(", unlike, speed wanders, 300 s", shared=1e-9, walk=0.001, budget=300.0),
)


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
        (f"ours{world.name}", lambda draw, count, world=world: campaign(draw, runs, effect, world, count))
        for world in WORLDS
    ]
    return [
        *rules,
        ("upstream's: lower is kept", lambda draw, count: simple(draw, runs, effect, 0.0, count)),
        ("two sigma of three baselines", lambda draw, count: simple(draw, runs, effect, 2.0, count)),
    ]


if __name__ == "__main__":
    main()
