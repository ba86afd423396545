"""Models of the score over the box: where to look next, and which experiment is best once luck is allowed for.

Tree-structured Parzen estimators by optuna (Bergstra et al., Algorithms for hyper-parameter optimization, 2011), asked
and told; where there is little noise a Gaussian process by scikit-learn, whose noise is the measured one, with a lower
confidence bound (Srinivas et al., Gaussian process optimization in the bandit setting, 2010); where there is much, a
Bayesian quadratic model with Thompson's sampling (Russo et al., A tutorial on Thompson sampling, 2018). What ran out of
memory or crashed counts as the worst score seen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from research_loop import parsing
from research_loop.proposers.search.space import Axis, Point

LEAST_FOR_PARZEN, LEAST_FOR_QUADRATIC, LEAST_FOR_PROCESS = 8, 12, 20
MOST_POINTS = 150
"""Models are told of so many, the nearest to the centre: a process' time grows with their cube."""
ASKED = 8
CANDIDATES = 1024
STEP = 0.15
"""Of the box: what is far from all that was tried looks good to a process only because it knows nothing there."""
MOST_TURNED = 5
HOPE = 0.5
"""Deviations by which a place may be better than a process expects: more looks farther, and finds less."""
DARING = 0.3
"""Deviations of what is drawn, in those of what is believed: more looks farther, and finds less."""
LEAST_NOISE = 0.05
"""Of the spread of the scores: without it a model believes every digit."""
MAD = 1.4826
"""Median absolute deviations in a standard deviation."""
WORST = 3.0
"""Spreads above the median: how much worse than that a place is says nothing of where the best one is."""
UNKNOWN, BEND = (4.0, 2.0, 1.0), 2.0
"""Variances of the level, slopes and bends before there are scores, and how far an axis bends then, in spreads."""
LEAST_STEP = 0.04
"""Of the box."""

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

Places = tuple[float, ...]
Array: TypeAlias = "NDArray[np.floating[Any]]"


@dataclass(frozen=True, slots=True)
class Hunch:
    """Where to look; `expected` is the score that a model expects there and `spread` its deviation, where it says."""

    places: Places
    expected: float | None = None
    spread: float | None = None


def told(points: list[Point]) -> list[tuple[Places, float, int]]:
    """Places, score and runs of all decided points; failures have the worst score."""
    worst = max((p.score for p in points if p.score is not None), default=0.0)
    return [(p.places, worst if p.score is None else p.score, max(1, p.runs)) for p in points if not p.open]


def nearest(points: list[Point], centre: Places) -> list[tuple[Places, float, int]]:
    """Of what is told, what a model is told."""
    return sorted(told(points), key=lambda one: math.dist(one[0], centre))[:MOST_POINTS]


def leader(points: list[Point], sigma: float) -> Point | None:
    """The best one that is not just lucky: by its mean, plus the deviation of such a mean."""
    scored = [p for p in points if p.score is not None]
    return min(scored, key=lambda p: (p.score or 0.0) + sigma / math.sqrt(p.runs), default=None)


def by_parzen(axes: list[Axis], points: list[Point], centre: Places, seed: int) -> Iterator[Hunch]:
    """A few axes of what optuna's TPE asks for, the others at the centre; what is open counts as running."""
    import optuna

    draw = random.Random(seed)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    box = {str(i): _distribution(axis) for i, axis in enumerate(axes)}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=LEAST_FOR_PARZEN))
    for places, score, _ in nearest(points, centre):
        study.add_trial(optuna.trial.create_trial(params=_params(axes, places), distributions=box, value=score))
    for point in points:
        if point.open:
            state = optuna.trial.TrialState.RUNNING
            study.add_trial(
                optuna.trial.create_trial(params=_params(axes, point.places), distributions=box, state=state)
            )
    for _ in range(ASKED):
        trial = study.ask(box)
        asked = [_place(axis, trial.params[str(i)]) for i, axis in enumerate(axes)]
        turned = draw.sample(range(len(axes)), min(len(axes), draw.randint(1, MOST_TURNED)))
        yield Hunch(tuple(asked[i] if i in turned else place for i, place in enumerate(centre)))


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return CategoricalDistribution(tuple(range(len(axis.options)))) if axis.options else FloatDistribution(0.0, 1.0)


def _params(axes: list[Axis], places: Places) -> dict[str, float | int]:
    return {
        str(i): round(place * (len(axis.options) - 1)) if axis.options else place
        for i, (axis, place) in enumerate(zip(axes, places, strict=True))
    }


def _place(axis: Axis, param: float) -> float:
    return param / (len(axis.options) - 1) if axis.options else float(param)


def by_quadratic(axes: list[Axis], points: list[Point], centre: Places, sigma: float, seed: int) -> Iterator[Hunch]:
    """Where a score would be lowest that is a sum of quadratic functions of the axes, each drawn from what is believed
    of them after the scores. Of the axes those leave the centre that gain most."""
    import numpy as np

    draw, middle, known = np.random.default_rng(seed), np.array(centre), nearest(points, centre)
    running = [p.places for p in points if p.open]
    scores = np.array([one[1] for one in known])
    real = np.array([p.score for p in points if p.score is not None])  # what failed has one score
    usual = float(np.median(real))
    spread = max(sigma, MAD * float(np.median(np.abs(real - usual)))) or 1.0
    noise = np.array([max((sigma / spread) ** 2 / runs, LEAST_NOISE**2) for _, _, runs in known])
    terms = _terms(np.array([one[0] for one in known]) - middle)
    believed, covariance = _believed(terms, np.minimum((scores - usual) / spread, WORST), noise)
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance)))
    for _ in range(4 * ASKED):
        drawn = believed + DARING * (root @ draw.standard_normal(len(believed)))
        slopes, bends = np.split(drawn[1:], 2)
        steps = [_step(axis, *one) for axis, *one in zip(axes, centre, slopes, bends, strict=True)]
        away = np.array([step if abs(step) >= LEAST_STEP else 0.0 for step in steps])
        away[np.argsort(slopes * away + bends * away**2)[MOST_TURNED:]] = 0.0
        there = _terms(away[None])[0]
        place = tuple(float(number) for number in middle + away)
        if any(math.dist(place, other) <= STEP for other in running):
            continue
        expected, deviation = float(there @ believed), math.sqrt(max(there @ covariance @ there, 0.0))
        yield Hunch(place, usual + spread * expected, spread * deviation)


def _terms(away: Array) -> Array:
    """[n, axes] -> [n, 1 + 2 axes]: one, the distances from the centre, and their squares."""
    import numpy as np

    return np.hstack([np.ones((len(away), 1)), away, away**2])


def _believed(terms: Array, scores: Array, noise: Array) -> tuple[Array, Array]:
    """Mean and covariance of the terms' weights after the scores: Bayesian linear regression, whose prior is that every
    axis is best at the centre."""
    import numpy as np

    axes = terms.shape[1] // 2
    prior, certain = np.repeat([0.0, 0.0, BEND], [1, axes, axes]), 1 / np.repeat(UNKNOWN, [1, axes, axes])
    covariance = np.linalg.inv(np.diag(certain) + terms.T @ (terms / noise[:, None]))
    return covariance @ (certain * prior + terms.T @ (scores / noise)), covariance


def _step(axis: Axis, place: float, slope: float, bend: float) -> float:
    """How far the lowest place of one axis is from the centre's, of those in the box that some value has."""
    if axis.options:
        ways = [k / (len(axis.options) - 1) - place for k in range(len(axis.options))]
    else:
        lowest = [min(max(-slope / (2 * bend), -place), 1 - place)] if bend > 0 else []
        there = [axis.encode(axis.decode(place + way)) for way in (-place, 1 - place, *lowest)]
        ways = [0.0, *(other - place for other in there if other is not None)]
    return min(ways, key=lambda way: slope * way + bend * way * way)


def by_process(axes: list[Axis], points: list[Point], centre: Places, sigma: float, seed: int) -> Iterator[Hunch]:
    """Candidates around the centre, those first that a Gaussian process holds for the best."""
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern
    from threadpoolctl import threadpool_limits

    known = nearest(points, centre)
    places, scores = np.array([one[0] for one in known]), np.array([one[1] for one in known])
    mean, spread = scores.mean(), max(scores.std(), 1e-12)
    noise = np.array([max((sigma / spread) ** 2 / runs, LEAST_NOISE**2) for _, _, runs in known])
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(np.ones(len(axes)), (0.1, 30.0), nu=2.5)
    process = GaussianProcessRegressor(kernel, alpha=noise, random_state=seed)
    running = [p.places for p in points if p.open]
    asked = np.array(_candidates(axes, centre, running, random.Random(seed)))
    with parsing.quietly(), threadpool_limits(1):  # threads wait for each other where others have the cores
        process.fit(places, (scores - mean) / spread)  # a length at its bound, of which it warns, is as good an answer
        expected, deviation = process.predict(asked, return_std=True)
    order = np.argsort(expected - HOPE * deviation, kind="stable")
    for i in order[: 4 * ASKED]:
        place = tuple(float(number) for number in asked[i])
        yield Hunch(place, float(mean + spread * expected[i]), float(spread * deviation[i]))


def _candidates(axes: list[Axis], centre: Places, running: list[Places], draw: random.Random) -> list[Places]:
    """Steps of one to five axes from the centre; never where an experiment is under way."""
    found: list[Places] = []
    for _ in range(CANDIDATES):
        places = list(centre)
        for j in draw.sample(range(len(axes)), min(len(axes), draw.randint(1, MOST_TURNED))):
            step = draw.random() if axes[j].options else draw.gauss(places[j], STEP)
            places[j] = min(max(step, 0.0), 1.0)
        found.append(tuple(places))
    return [places for places in found if all(math.dist(places, other) > STEP for other in running)]
