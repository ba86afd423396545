"""The built-in search beside others, on a made-up lab: the champion's true score against runs spent.

    ./uv run python benchmarks/search.py [--runs 120] [--seeds 8] [--sigma 0.0006] [--away 2] [--policies ours random]
                                                   [--overhead]

The made-up score is a bowl in the logarithms of a train.py's constants, as far from its bottom as upstream's recipe is
from the best that its users found, with noise on every run and runs that end out of memory. It compares policies in
seconds, not models; `benchmarks/race.py` runs the same policies on a real CPU lab.
Ours is the search with our verdict, whose repeats count as runs. The others decide by one run each: optuna's TPE as it
comes (ranges a factor of eight wide, ten random trials first), random search in the same ranges, and upstream's rule
with one random move of one constant at a time.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import optuna

from research_loop import edits, noise, verdict
from research_loop.edits import Value
from research_loop.proposers.search import SearchProposer, dials, rules
from research_loop.records import Checkout, Experiment, History, Proposal, Result, Run, Score, Verdict
from research_loop.verdict import Again, Rules

TRAIN = """DEPTH = 8
ASPECT_RATIO = 64
HEAD_DIM = 128
TOTAL_BATCH_SIZE = 2**19
DEVICE_BATCH_SIZE = 128
EMBEDDING_LR = 0.6
UNEMBEDDING_LR = 0.004
MATRIX_LR = 0.04
SCALAR_LR = 0.5
WEIGHT_DECAY = 0.2
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0
WARMDOWN_RATIO = 0.5
FINAL_LR_FRAC = 0.0
"""
PREPARE = {"prepare.py": b"MAX_SEQ_LEN = 2048\n"}
BUDGET = 300.0
SMALL_MEMORY = 128 * 8 * 8 * 64 * 1.6
"""Rows times depth times width, in the search's own unit, above which a run is out of memory."""
Values = dict[str, Value]
Curve = list[float]
"""The champion's true score after each run."""


class Bowl:
    """What a seed's best constants are, and the true score of any others; None where memory runs out."""

    def __init__(self, seed: int, away: float = 1.0) -> None:
        draw = random.Random(seed)
        self.best = {
            "TOTAL_BATCH_SIZE": 19 - away * (2 - draw.choice((0, 1))),
            "DEPTH": max(2, 8 + round(away * draw.choice((0, 1, 2)))),
            "ASPECT_RATIO": math.log(64) + away * math.log(draw.uniform(0.8, 1.3)),
            "EMBEDDING_LR": math.log(0.6) + away * math.log(draw.uniform(0.8, 2.0)),
            "UNEMBEDDING_LR": math.log(0.004) + away * math.log(draw.uniform(0.6, 2.0)),
            "MATRIX_LR": math.log(0.04) + away * math.log(draw.uniform(0.7, 1.6)),
            "SCALAR_LR": math.log(0.5) + away * math.log(draw.uniform(0.4, 2.0)),
            "WEIGHT_DECAY": math.log(0.2) + away * math.log(draw.uniform(0.3, 1.5)),
            "WARMDOWN_RATIO": draw.uniform(0.5, 0.8),
            "FINAL_LR_FRAC": draw.uniform(0.0, 0.1),
            "WARMUP_RATIO": draw.uniform(0.0, 0.05),
        }

    def score(self, values: Values) -> float | None:
        depth, aspect, rows = (float(str(values[name])) for name in ("DEPTH", "ASPECT_RATIO", "DEVICE_BATCH_SIZE"))
        if rows * depth * depth * aspect > SMALL_MEMORY:
            return None
        at = {name: self._place(name, values[name]) - best for name, best in self.best.items()}
        beta = math.log(1 - float(str(values["ADAM_BETAS"][1]))) - math.log(0.05)  # type: ignore[index]
        # a smaller batch wants a smaller rate: the couplings that a search of one constant at a time has to climb
        rate = at["MATRIX_LR"] - 0.25 * at["TOTAL_BATCH_SIZE"]
        table = at["EMBEDDING_LR"] - 0.2 * at["TOTAL_BATCH_SIZE"]
        return 0.975 + sum(
            [
                0.0045 * at["TOTAL_BATCH_SIZE"] ** 2,
                0.0012 * at["DEPTH"] ** 2 + 0.02 * (at["ASPECT_RATIO"] + 0.1 * at["DEPTH"]) ** 2,
                0.006 * rate**2 + 0.003 * table**2 + 0.002 * at["UNEMBEDDING_LR"] ** 2 + 0.0007 * at["SCALAR_LR"] ** 2,
                0.001 * at["WEIGHT_DECAY"] ** 2 + 0.03 * at["WARMDOWN_RATIO"] ** 2 + 0.1 * at["FINAL_LR_FRAC"] ** 2,
                0.2 * at["WARMUP_RATIO"] ** 2 + 0.002 * beta**2,
            ]
        )

    @staticmethod
    def _place(name: str, value: Value) -> float:
        number = float(str(value))
        if name == "TOTAL_BATCH_SIZE":
            return math.log2(number)
        linear = name in ("DEPTH", "WARMDOWN_RATIO", "WARMUP_RATIO", "FINAL_LR_FRAC")
        return number if linear else math.log(max(number, 1e-9))


def start() -> Values:
    return {name: constant.value for name, constant in edits.constants(TRAIN).items()}


# -------------------------------------------------------------------------------------------------------------- ours


class Timed(SearchProposer):
    """The search, with the CPU seconds of every proposal."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.spent: list[float] = []

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        began = time.process_time()
        proposal = super().propose(checkout, history)
        self.spent.append(time.process_time() - began)
        return proposal


def ours(bowl: Bowl, sigma: float, runs: int, seed: int, searcher: SearchProposer | None = None) -> tuple[Curve, int]:
    """The product's own search and verdict over a history in memory; the curve and how many runs failed."""
    draw, curve, failed = random.Random(seed), [], 0
    sources = {0: TRAIN}
    found = [Experiment(0, "baseline", "", "", "baseline", None, "c", edits.key(_files(TRAIN)), 0.0)]
    searcher = searcher or SearchProposer(seed)

    def once(n: int) -> None:
        nonlocal failed
        true = bowl.score(_values(sources[n]))
        score = None if true is None else Score(true + draw.gauss(0, sigma), "confirmed")
        result = Result("scored", score=score, seconds=300) if score else Result("crash", "oom", seconds=30)
        failed += score is None
        found[n] = replace(found[n], runs=(*found[n].runs, Run(n, len(found[n].runs), 42, 0.0, result=result)))
        champion = History(tuple(found)).champion
        curve.append(bowl.score(_values(sources[champion.n if champion else 0])) or math.nan)

    n = 0
    while len(curve) < runs:
        if not found[n].runs:
            once(n)
        ruled = _judge(found, n)
        if isinstance(ruled, Again):
            champion = History(tuple(found)).champion
            once(n if ruled.who == "candidate" or champion is None else champion.n)
            continue
        found[n] = replace(found[n], verdict=ruled)
        history = History(tuple(found))
        champion = history.champion
        assert champion is not None
        checkout = Checkout(champion.n, {"train.py": sources[champion.n].encode()}, PREPARE)
        proposal = searcher.propose(checkout, history)
        if proposal is None:
            break
        n = len(found)
        sources[n] = proposal.files["train.py"].decode()
        words = (proposal.what, proposal.why, proposal.risk, proposal.proposer, champion.n, "c")
        found.append(Experiment(n, *words, edits.key(proposal.files), 0.0))
    return curve[:runs], failed


def _judge(found: list[Experiment], n: int) -> Verdict | Again:
    history = History(tuple(found))
    sigma = noise.measure_sigma(history.experiments, BUDGET)
    return verdict.judge(found[n], history.champion, Rules("val_bpb"), sigma, 0.0)


def _files(source: str) -> dict[str, bytes]:
    return {"train.py": source.encode()}


def _values(source: str) -> Values:
    return {name: constant.value for name, constant in edits.constants(source).items()}


# ------------------------------------------------------------------------------------------------------------ others


def parzen(bowl: Bowl, sigma: float, runs: int, seed: int) -> tuple[Curve, int]:
    """optuna's TPE with its own defaults; failures have the worst score seen."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def ask() -> tuple[Values, Callable[[float], None]]:
        trial = study.ask()
        values = _wide(lambda name, low, high: trial.suggest_float(name, low, high, log=True), trial.suggest_int)
        return values, lambda score: study.tell(trial, score)

    return _one_run_each(bowl, sigma, runs, seed, ask)


def randomly(bowl: Bowl, sigma: float, runs: int, seed: int) -> tuple[Curve, int]:
    draw = random.Random(seed)

    def ask() -> tuple[Values, Callable[[float], None]]:
        values = _wide(
            lambda name, low, high: math.exp(draw.uniform(math.log(low), math.log(high))),
            lambda name, low, high: draw.randint(low, high),
        )
        return values, lambda score: None

    return _one_run_each(bowl, sigma, runs, seed, ask)


def _one_run_each(
    bowl: Bowl, sigma: float, runs: int, seed: int, ask: Callable[[], tuple[Values, Callable[[float], object]]]
) -> tuple[Curve, int]:
    """Each asked point has one run; the best score seen is the champion. Failures are told the worst score seen."""
    draw, failed = random.Random(seed + 1), 0
    first = bowl.score(start())
    assert first is not None
    best = worst = first + draw.gauss(0, sigma)
    true, curve = first, [first]
    while len(curve) < runs:
        values, tell = ask()
        worth = bowl.score(values)
        seen = None if worth is None else worth + draw.gauss(0, sigma)
        failed, worst = failed + (seen is None), max(worst, seen or 0.0)
        tell(worst if seen is None else seen)
        if seen is not None and worth is not None and seen < best:
            best, true = seen, worth
        curve.append(true)
    return curve, failed


def _wide(real: Callable[[str, float, float], float], whole: Callable[[str, int, int], int]) -> Values:
    values = start()
    for name in ("EMBEDDING_LR", "UNEMBEDDING_LR", "MATRIX_LR", "SCALAR_LR", "WEIGHT_DECAY"):
        centre = float(str(values[name]))
        values[name] = real(name, centre / 8, centre * 8)
    values["ASPECT_RATIO"] = round(real("ASPECT_RATIO", 32, 128))
    values["DEPTH"], values["TOTAL_BATCH_SIZE"] = whole("DEPTH", 4, 16), 2 ** whole("TOTAL_BATCH_SIZE", 16, 20)
    for name in ("WARMDOWN_RATIO", "FINAL_LR_FRAC", "WARMUP_RATIO"):
        values[name] = real(name, 0.01, 0.9 if name == "WARMDOWN_RATIO" else 0.3)
    return values


def upstream(bowl: Bowl, sigma: float, runs: int, seed: int) -> tuple[Curve, int]:
    """One random move of one constant; kept when its one score is lower."""
    draw, failed = random.Random(seed), 0
    values = start()
    true = bowl.score(values)
    assert true is not None
    best, curve = true + draw.gauss(0, sigma), [true]
    while len(curve) < runs:
        dial = draw.choice(dials.dials(values))
        near = dials.neighbours(dial, draw.choice((1, -1)), draw.uniform(0.5, 2.0), draw)
        settled = rules.settle(values, {dial.name: dials.put(values, dial, near[0])}, 2048) if near else None
        if not settled:
            continue
        worth = bowl.score({**values, **settled})
        failed += worth is None
        if worth is not None and (seen := worth + draw.gauss(0, sigma)) < best:
            best, true, values = seen, worth, {**values, **settled}
        curve.append(true)
    return curve, failed


def overhead(runs: int, sigma: float) -> str:
    timed = Timed(1)
    ours(Bowl(1), sigma, runs, 1, timed)
    last = timed.spent[-50:]
    costs = f"{statistics.median(last):.2f} s median, {max(last):.2f} s at most"
    return f"the last {len(last)} of {len(timed.spent)} proposals: {costs}, of CPU"


POLICIES: dict[str, Callable[[Bowl, float, int, int], tuple[Curve, int]]] = {
    "ours": ours,
    "TPE as it comes": parzen,
    "random": randomly,
    "upstream's rule": upstream,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--sigma", type=float, default=0.0006)
    parser.add_argument("--away", type=float, default=1.0, help="so many times as far from the best constants")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--overhead", action="store_true", help="only what a proposal of ours costs after so many runs")
    arguments = parser.parse_args()
    if arguments.overhead:
        return print(overhead(arguments.runs, arguments.sigma))
    quarters = [max(0, arguments.runs * i // 4 - 1) for i in (1, 2, 3, 4)]
    print(f"true score of the champion after so many runs, mean (standard deviation) of {arguments.seeds} seeds")
    print("| policy | " + " | ".join(str(at + 1) for at in quarters) + " | failed runs | s |")
    print("|---" * (len(quarters) + 3) + "|")
    for name in arguments.policies:
        began, bowls = time.monotonic(), [Bowl(seed, arguments.away) for seed in range(arguments.seeds)]
        done = [POLICIES[name](bowl, arguments.sigma, arguments.runs, seed) for seed, bowl in enumerate(bowls)]
        cells = []
        for at in quarters:
            at_time = [curve[min(at, len(curve) - 1)] for curve, _ in done]
            cells.append(f"{statistics.fmean(at_time):.5f} ({statistics.stdev(at_time):.5f})")
        share = sum(failed for _, failed in done) / (arguments.runs * arguments.seeds)
        print(f"| {name} | {' | '.join(cells)} | {100 * share:.0f} % | {time.monotonic() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
