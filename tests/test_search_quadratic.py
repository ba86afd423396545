"""The quadratic model of the search: where it looks after so many scores."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import replace

import pytest
from threadpoolctl import threadpool_info

from research_loop.proposers.search import SearchProposer, model, space
from research_loop.proposers.search.space import Axis, Point
from research_loop.records import Experiment, History, Result, Run, Score, Verdict
from searching import checkout_of, experiment, history_of

AXES = space.axes_around({f"{name}_LR": 0.1 for name in "ABCDEFGH"})
CENTRE = (0.5,) * len(AXES)


def scored(score: Callable[[tuple[float, ...]], float], count: int, axes: list[Axis] = AXES) -> list[Point]:
    """So many places drawn anywhere in the box, one run each."""
    draw = random.Random(0)
    discarded = Experiment(1, "", "", "", "", 0, "c", "k", 0.0, verdict=Verdict("discard", "noise", "", 0.0))
    places = [tuple(draw.random() for _ in axes) for _ in range(count)]
    return [Point(place, discarded, score(place), 1) for place in places]


def bowl(place: tuple[float, ...]) -> float:
    """Two axes have their best elsewhere, one of them at the border; nothing else does anything."""
    return 1 + 0.3 * (place[0] - 0.8) ** 2 + 0.3 * place[1]


def test_it_looks_where_a_bowl_is_lowest_and_says_what_it_expects_there() -> None:
    first = next(model.by_quadratic(AXES, scored(bowl, 60), CENTRE, 0.003, 0))
    assert first.places[0] == pytest.approx(0.8, abs=0.1) and first.places[1] < 0.05
    assert first.expected == pytest.approx(bowl(first.places), abs=0.02)
    assert first.spread is not None and 0 < first.spread < 0.05


def test_of_many_axes_five_at_most_leave_the_centre_those_that_gain_most() -> None:
    def tilted(place: tuple[float, ...]) -> float:
        return 1 + sum((i + 1) * x for i, x in enumerate(place)) / 10

    for hunch in model.by_quadratic(AXES, scored(tilted, 80), CENTRE, 0.001, 1):
        turned = {i for i, x in enumerate(hunch.places) if x != 0.5}
        assert len(turned) <= model.MOST_TURNED and {5, 6, 7} <= turned


def test_noisy_scores_are_believed_less_and_looks_spread_wider() -> None:
    def distances(sigma: float) -> list[float]:
        draw = random.Random(2)
        points = scored(lambda place: bowl(place) + draw.gauss(0, sigma), 30)
        found = itertools.islice(model.by_quadratic(AXES, points, CENTRE, sigma, 3), 32)
        return [abs(hunch.places[0] - 0.8) for hunch in found]

    assert statistics.fmean(distances(0.001)) < 0.5 * statistics.fmean(distances(0.3))


def test_a_disaster_far_away_hides_nothing() -> None:
    disasters = [Point((1.0, *place.places[1:]), place.experiment, 50.0, 1) for place in scored(bowl, 8)]
    first = next(model.by_quadratic(AXES, scored(bowl, 60) + disasters, CENTRE, 0.003, 0))
    assert first.places[1] < 0.05 and first.expected == pytest.approx(bowl(first.places), abs=0.5)


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_scores_that_are_all_the_same_are_no_error(count: int, sigma: float) -> None:
    hunches = list(model.by_quadratic(AXES, scored(lambda _: 1.0, count), CENTRE, sigma, 0))
    assert hunches and all(0 <= x <= 1 for hunch in hunches for x in hunch.places)


@pytest.mark.parametrize("disasters", [0, 1])
def test_where_most_have_failed_the_others_still_tell(disasters: int) -> None:
    """What failed counts as the worst score, however bad that is."""
    failed = [Point(point.places, point.experiment, None, 0) for point in scored(lambda _: 0.0, 90)[30:]]
    worst = [Point((1.0,) * len(AXES), point.experiment, 50.0, 1) for point in scored(bowl, disasters)]
    draw = random.Random(4)
    known = scored(lambda place: bowl(place) + draw.gauss(0, 0.01), 30)
    first = next(model.by_quadratic(AXES, known + worst + failed, CENTRE, 0.01, 0))
    assert first.places[1] < 0.1 and first.expected == pytest.approx(bowl(first.places), abs=0.25)
    assert first.spread is not None and first.spread > 0.001, "a model of a few scores is not sure"


def test_it_counts_on_no_place_that_no_value_has() -> None:
    axes = space.axes_around({"WARMUP_RATIO": 0.0, "FINAL_LR_FRAC": 0.0, "A_LR": 0.1})

    def reached(place: tuple[float, ...]) -> float:
        return 1 + 0.1 * sum(max(x, 0.5) for x in place[:2]) + 0.04 * place[2]

    points = [
        replace(p, places=(max(p.places[0], 0.5), max(p.places[1], 0.5), p.places[2]))
        for p in scored(reached, 60, axes)
    ]
    for hunch in model.by_quadratic(axes, points, (0.5,) * 3, 0.001, 0):
        assert min(hunch.places[:2]) == 0.5 and hunch.expected == pytest.approx(reached(hunch.places), abs=0.01)


def test_it_looks_nowhere_near_what_is_under_way() -> None:
    known = scored(bowl, 60)
    first = next(model.by_quadratic(AXES, known, CENTRE, 0.003, 0))
    under_way = [Point(first.places, replace(known[0].experiment, verdict=None), None, 0)]
    for hunch in model.by_quadratic(AXES, known + under_way, CENTRE, 0.003, 0):
        assert math.dist(hunch.places, first.places) > model.STEP


def test_a_process_is_fitted_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine two wait for each other for seconds."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    seen: list[int] = []
    fit = GaussianProcessRegressor.fit

    def fitted(self: GaussianProcessRegressor, *data: object) -> GaussianProcessRegressor:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return fit(self, *data)

    monkeypatch.setattr(GaussianProcessRegressor, "fit", fitted)
    assert next(model.by_process(AXES, scored(bowl, 30), CENTRE, 0.003, 0)) and set(seen) == {1}


def test_a_tuple_of_another_length_is_another_code() -> None:
    source = "A_LR = 1.0\nSTEPS = [10, 20]\n"
    longer = [experiment(n, f"STEPS [10, 20] -> [10, 20, 30]; A_LR 1.0 -> {n / 10}", score=0.8) for n in range(1, 26)]
    same = [experiment(n, f"STEPS [10, 20] -> [10, {n}]; A_LR 1.0 -> {n / 40}", score=0.9) for n in range(26, 52)]
    for seed in range(10):
        assert SearchProposer(seed).propose(checkout_of(source), history_of(*longer, *same))


def test_what_has_no_order_goes_to_one_of_its_options() -> None:
    axes = space.axes_around({"A_LR": 0.1, "WINDOW_PATTERN": "SSSL", "FAST": False})
    places = [(0.5, 0.0, 0.0), (0.5, 1.0, 0.0), (0.5, 0.0, 1.0), (0.2, 0.5, 1.0)] * 4
    points = [Point(place, scored(bowl, 1)[0].experiment, 1.0 - place[2] / 10, 1) for place in places]
    for hunch in model.by_quadratic(axes, points, (0.5, 0.0, 0.0), 0.001, 0):
        assert axes[1].decode(hunch.places[1]) in axes[1].options and axes[2].decode(hunch.places[2]) is True


def test_the_search_asks_it_from_twelve_scores_on_where_there_is_much_noise() -> None:
    source = "A_LR = 1.0\nB_LR = 1.0\n"
    draw = random.Random(0)
    places = [(round(draw.uniform(0.4, 2.5), 2), round(draw.uniform(0.4, 2.5), 2)) for _ in range(40)]
    tried = [
        experiment(n, f"A_LR 1.0 -> {a}; B_LR 1.0 -> {b}", score=0.975 + (a - 0.5) ** 2 / 10)
        for n, (a, b) in enumerate(places, 1)
    ]
    few = [replace(one, runs=()) if one.n > 10 else one for one in tried]

    def arms(experiments: list[Experiment], noise: float) -> set[str]:
        runs = [Run(0, k, k, 0.0, result=Result("scored", score=Score(1 + noise * k))) for k in (-1, 0, 1)]
        baseline = replace(history_of().experiments[0], runs=tuple(runs))
        history = History((baseline, *experiments))
        asked = [SearchProposer(seed).propose(checkout_of(source), history) for seed in range(30)]
        return {proposal.proposer.removeprefix("search/") for proposal in asked if proposal}

    assert "quadratic" in arms(tried, 0.01) and "process" not in arms(tried, 0.01)
    assert "process" in arms(tried, 0.001) and "quadratic" not in arms(tried, 0.001)
    assert "quadratic" not in arms(few, 0.01)
