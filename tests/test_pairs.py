"""Two codes that draw alike from a seed have its luck in common: their difference is told seed by seed."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from research_loop import edits, noise
from research_loop.brief import brief
from research_loop.config import LabConfig
from research_loop.lab import open_lab
from research_loop.ledger import Ledger
from research_loop.levels import levels
from research_loop.loop import ensure_baseline
from research_loop.noise import Sigma
from research_loop.pairs import Pairs, pairs, same_seeds
from research_loop.records import Experiment, History, Proposal, Result, Run, Score, Verdict
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.verdict import Again, Rules, judge, revise
from research_loop.views.text import noise_line, status_json

KEEP = Verdict("keep", "lower", "", 0.0)
LUCK = (0.03, -0.02, 0.05, -0.04, 0.03, 0.01, 0.02, 0.04)
"""Of the seeds from 42 on."""
RULES = Rules("val_bpb")
KNOWN_PAIRED = 0.02
KNOWN = Sigma(0.07, 20.0, 18, Sigma(KNOWN_PAIRED, 20.0, 18))


def experiment(
    n: int, level: float, runs: int, *, own: float = 0.001, at: float = 0.0, first: int = 42, kept: bool = False
) -> Experiment:
    """Scores of the seeds from `first` on, begun one a second from `at` on: the luck of the seed, and a little more."""
    draw = random.Random(n)
    made = tuple(
        Run(n, k, first + k, at + k, result=result(level + LUCK[first + k - 42] + draw.gauss(0, own), first + k))
        for k in range(runs)
    )
    return Experiment(
        n, f"change {n}", "", "", "search", 0 if n else None, "c", f"{n}", at, made, KEEP if kept else None
    )


def result(value: float, seed: int, **facts: object) -> Result:
    known = {"steps_per_second": 10.0, "first_loss": 9.0 + seed / 1000, "machine": "a", **facts}
    return Result("scored", score=Score(value, "confirmed"), **known)  # type: ignore[arg-type]


def changed(before: Experiment, k: int, **facts: object) -> Experiment:
    """The same with other facts about run `k`."""
    runs = [
        replace(run, result=replace(run.result, **facts)) if run.k == k and run.result else run for run in before.runs
    ]
    return replace(before, runs=tuple(runs))


CHAMPION = experiment(0, 1.0, 4, kept=True)
CANDIDATE = experiment(1, 0.99, 3, at=10.0)


def test_runs_of_the_same_seed_that_began_alike_make_pairs() -> None:
    found = pairs(CANDIDATE, CHAMPION)
    assert len(found.differences) == 3 and found.differences == pytest.approx([-0.01] * 3, abs=0.004)
    assert found.drift == 0.0
    assert pairs(experiment(1, 0.99, 3, first=44), CHAMPION).differences == pytest.approx([-0.01] * 2, abs=0.004)
    assert pairs(experiment(1, 0.99, 2, first=46), CHAMPION) == Pairs()


@pytest.mark.parametrize("facts", [{"first_loss": 9.1}, {"first_loss": None}])
def test_one_that_began_otherwise_leaves_no_pair(facts: dict[str, object]) -> None:
    assert pairs(changed(CANDIDATE, 1, **facts), CHAMPION) == Pairs()
    assert pairs(CANDIDATE, changed(CHAMPION, 1, **facts)) == Pairs()
    neither = changed(CHAMPION, 1, first_loss=None)
    assert pairs(changed(CANDIDATE, 1, first_loss=None), neither) == Pairs(), "nothing is not alike"


def test_where_every_seed_begins_alike_the_first_loss_tells_nothing() -> None:
    one, other = CANDIDATE, CHAMPION
    for k in range(4):
        one, other = changed(one, k, first_loss=9.0), changed(other, k, first_loss=9.0)
    assert pairs(one, other) == Pairs()


def test_runs_of_another_machine_or_of_no_known_speed_are_no_pairs() -> None:
    assert pairs(CANDIDATE, changed(CHAMPION, 3, steps_per_second=None)) == Pairs()
    assert pairs(CANDIDATE, changed(CHAMPION, 1, steps_per_second=None)) == Pairs()
    elsewhere = CANDIDATE
    for k in range(3):
        elsewhere = changed(elsewhere, k, machine="b")
    assert pairs(elsewhere, CHAMPION) == Pairs()


def test_a_machine_that_became_faster_since_has_its_share_taken_off() -> None:
    drifted = pairs(CANDIDATE, changed(CHAMPION, 3, steps_per_second=10.2))
    assert drifted.differences == pairs(CANDIDATE, CHAMPION).differences
    assert drifted.drift == pytest.approx(1 - 10 / 10.2), "its newest run has no partner"
    still, moved = (noise.compare([1.0] * 3, [1.0] * 4, KNOWN, "lower", Pairs((-0.05,) * 3, d)) for d in (0.0, 0.2))
    assert still.p < noise.KEEP < moved.p < 0.01 and still.difference == moved.difference
    t = (-0.05 + noise.ELASTICITY * 0.2) / (KNOWN_PAIRED / math.sqrt(3))
    assert moved.p == pytest.approx(noise.chance_below(t, 20.0))
    up = noise.compare([1.0] * 3, [1.0] * 4, KNOWN, "higher", Pairs((0.05,) * 3, 0.2))
    assert up.p == pytest.approx(moved.p)


def test_the_next_seed_is_the_first_that_no_score_on_this_machine_had() -> None:
    assert same_seeds(experiment(1, 1.0, 0)) == 42 and same_seeds(CANDIDATE) == 45
    assert same_seeds(CANDIDATE, 100) == 100
    crashed = replace(
        CANDIDATE, runs=(*CANDIDATE.runs, Run(1, 3, 45, 99.0, result=Result("crash", "oom", machine="a")))
    )
    assert same_seeds(crashed) == 45, "a seed without a score is drawn again"
    moved = changed(CANDIDATE, 2, machine="b")
    assert same_seeds(moved) == 42, "what others get first on the new machine"


def test_pairs_count_where_a_smaller_difference_of_theirs_is_kept() -> None:
    sigma, scores = Sigma(0.03, 20.0, 18, Sigma(0.012, 8.0, 6)), ([0.99, 0.97, 1.01], [1.0, 0.98, 1.02, 0.9])
    gap = noise.compare(*scores, sigma, "lower", Pairs((-0.01, -0.011, -0.009)))
    t = -0.01 / (0.012 / math.sqrt(3))
    assert gap == noise.Gap(pytest.approx(-0.01), pytest.approx(noise.chance_below(t, 8.0)), 3)
    assert noise.compare(*scores, sigma, "higher", Pairs((-0.01,) * 3)).p == pytest.approx(
        1 - noise.chance_below(t, 8.0)
    )
    wide = replace(sigma, paired=Sigma(0.05, 8.0, 6))
    for other in (wide, replace(sigma, paired=None), replace(sigma, paired=Sigma(0.012, 2.0, 1))):
        assert noise.compare(*scores, other, "lower", Pairs((-0.01,) * 3)) == noise.compare(*scores, sigma, "lower")


def test_pairs_that_differ_more_than_others_did_are_judged_by_their_own_deviation() -> None:
    sigma = Sigma(0.03, 20.0, 18, Sigma(0.01, 30.0, 28))
    calm = noise.compare([1.0] * 3, [1.0] * 3, sigma, "lower", Pairs((-0.03, -0.031, -0.029)))
    wild = noise.compare([1.0] * 3, [1.0] * 3, sigma, "lower", Pairs((-0.055, -0.03, -0.005)))
    assert calm.pairs == wild.pairs == 3 and calm.difference == pytest.approx(wild.difference)
    assert calm.p < noise.KEEP < wild.p


def test_the_deviation_of_pairs_is_pooled_and_never_far_below_that_of_scores() -> None:
    found = noise.measure_sigma([CHAMPION, CANDIDATE, experiment(2, 1.02, 4)], 60.0)
    assert found is not None and found.paired is not None
    assert (found.paired.degrees, found.paired.repeats) == (7.0, 5)
    assert found.paired.value < 0.6 * math.sqrt(2) * found.value
    many = [CHAMPION, *(experiment(n, 1.0, 4, own=0.0) for n in range(1, 60))]
    floor = noise.measure_sigma(many, 60.0)
    assert floor and floor.paired and floor.paired.value == pytest.approx(0.25 * math.sqrt(2) * floor.value)


def test_before_pairs_are_measured_they_are_hoped_to_be_alike_but_nothing_is_kept_for_it() -> None:
    sigma = noise.measure_sigma([CHAMPION, experiment(1, 1.0, 1)], 60.0)
    assert sigma and sigma.paired and sigma.hoped and sigma.paired.repeats == 0, "one pair has no deviation"
    assert sigma.hoped.value == pytest.approx(0.45 * sigma.paired.value)
    gap = noise.compare([0.98], CHAMPION.scores, sigma, "lower", Pairs((-0.05,)))
    assert gap.pairs == 0 and gap.hope is not None and gap.hope < noise.DROP[0] < gap.p
    assert noise.next_step(gap, 1, 4) == "candidate" and noise.next_step(replace(gap, hope=None), 1, 4) == "discard"
    assert noise.next_step(noise.Gap(-0.05, 0.3, 3, 1e-9), 3, 4) == "candidate", "hope keeps nothing"
    many = noise.measure_sigma([CHAMPION, *(experiment(n, 1.0, 3) for n in (1, 2))], 60.0)
    assert many and many.hoped is None, "four degrees of freedom say it"


def test_a_keep_by_pairs_takes_three_of_them() -> None:
    three, two, one, unpaired = (noise.Gap(-0.1, 0.0001, count) for count in (3, 2, 1, 0))
    assert noise.next_step(three, 3, 3) == "keep" == noise.next_step(unpaired, 2, 3)
    assert noise.next_step(two, 2, 3) == "candidate" and noise.next_step(two, 3, 2) == "champion"
    assert noise.next_step(one, noise.MOST_RUNS, 9) == "discard", "with a champion that cannot be run there"


def test_a_gain_far_below_the_luck_of_seeds_is_kept_when_the_champion_ran_beside_it() -> None:
    good = experiment(1, 0.9, 4, at=10.0)
    before = judge(good, CHAMPION, RULES, KNOWN, 99.0)
    assert isinstance(before, Again) and before.who == "champion" and "only run before it" in before.why
    beside = experiment(0, 1.0, 5, at=10.5, kept=True)
    for run in (Run(0, 5, 47, 11.0), Run(0, 5, 47, 11.0, result=Result("slowed"))):
        unscored = judge(good, replace(CHAMPION, runs=(*CHAMPION.runs, run)), RULES, KNOWN, 99.0)
        assert isinstance(unscored, Again) and unscored.who == "champion", "one without a score says nothing of it"
    verdict = judge(good, beside, RULES, KNOWN, 99.0)
    assert isinstance(verdict, Verdict) and (verdict.kind, verdict.reason) == ("keep", "lower")
    assert "-0.099" in verdict.detail and "(4 seeds of both, p " in verdict.detail
    alone = judge(good, beside, RULES, replace(KNOWN, paired=None), 99.0)
    assert isinstance(alone, Again), "without pairs it could be noise"


def test_a_champion_with_unlucky_seeds_of_its_own_is_not_taken_back() -> None:
    before, champion = experiment(0, 1.0, 4, kept=True), replace(experiment(1, 0.999, 8), verdict=KEEP)
    assert champion.score and before.score and champion.score.value > before.score.value
    assert revise(champion, before, RULES, 0.0) is None
    few = revise(champion, experiment(0, 1.0, 2, kept=True), RULES, 0.0)
    assert few is not None, "two seeds in common are too few"
    found = revise(changed(champion, 1, first_loss=1.0), before, RULES, 0.0)
    assert found is not None and found.reason == "revised", "unlike: by their means"


def test_a_discarded_one_is_as_far_from_its_parent_as_their_seeds_are() -> None:
    one = replace(experiment(1, 0.99, 1, own=0.0), verdict=Verdict("discard", "noise", "", 0.0))
    base = experiment(0, 1.0, 4, own=0.0, kept=True)
    assert one.score and one.score.value > 1.0, "its seed is an unlucky one"
    known = levels(History((base, one)))
    assert known[1] == pytest.approx(known[0] - 0.01) and known[0] == pytest.approx(1.0 + sum(LUCK[:4]) / 4)
    unlike = changed(one, 0, first_loss=1.0)
    assert levels(History((base, unlike)))[1] == one.score.value
    kept = replace(one, verdict=KEEP)
    assert levels(History((base, kept)))[1] == one.score.value, "a champion's level is its own mean"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_look_is_due_below_the_score_that_would_decide_by_pairs(count: int) -> None:
    champion, mine = [1.0, 0.95, 1.02, 1.0], [0.99, 0.945, 1.01][:count]
    differences = tuple(a - b for a, b in zip(mine, champion, strict=False))
    edge = noise.keeps_below(mine, champion, KNOWN, 0.01, Pairs(differences, 0.01), champion[count])
    for moved in (-1e-6, 1e-6):
        more = Pairs((*differences, edge + moved - champion[count]), 0.01)
        gap = noise.compare([*mine, edge + moved], champion, KNOWN, "lower", more)
        wide = count > 1  # such a pair would be an outlier, and is looked at all the same
        assert gap.pairs == count + 1 and (gap.p < 0.01) is (moved < 0 and not wide)
    assert edge > noise.keeps_below(mine, champion, KNOWN, 0.01), "pairs decide for less"


def test_who_proposes_is_told_what_shows_where_both_begin_alike() -> None:
    sigma = noise.measure_sigma([CHAMPION, CANDIDATE], LabConfig().budget_seconds)
    assert sigma is not None and sigma.paired is not None
    text = brief(History((CHAMPION, CANDIDATE)), LabConfig())
    assert f"by {sigma.paired.value:.6f} between codes that draw alike from the same seed: less says nothing" in text


def test_before_pairs_are_measured_nothing_is_said_of_them() -> None:
    history = History((CHAMPION, experiment(1, 0.99, 1)))
    assert "alike" not in noise_line(history, LabConfig()) and "alike" not in brief(history, LabConfig())
    told = status_json(history, LabConfig(), place="", branch="", live=[])
    assert "sigma" in told["noise"] and "paired_sigma" not in told["noise"]
    known = status_json(History((CHAMPION, CANDIDATE)), LabConfig(), place="", branch="", live=[])
    assert known["noise"]["paired_sigma"] > 0 < known["noise"]["paired_detectable"]


def test_status_says_what_shows_where_both_begin_alike() -> None:
    history = History((CHAMPION, CANDIDATE))
    sigma = noise.measure_sigma(history.experiments, LabConfig().budget_seconds)
    assert sigma is not None
    line = noise_line(history, LabConfig())
    assert line.endswith(f" or more ({noise.detectable_pairs(sigma):.6f} where both begin alike)")
    assert "alike" not in noise_line(History((CHAMPION,)), LabConfig())


TRAIN = """
import os, random, time
SIZE = 8
RATE = 1.0
seed = int(os.environ["RESEARCH_LOOP_SEED"])
draw = random.Random(f"{seed} {SIZE}")
luck = draw.gauss(0, 0.03)
own = random.Random(f"{seed} {SIZE} {RATE}").gauss(0, 0.001)
for step in range(3):
    print(f"step {step} ({40 * step:.1f}%) | loss: {3.0 + draw.random() - step * 0.1 * RATE:.6f} |", flush=True)
print(f"---\\nval_bpb: {1.0 + 0.02 * RATE + luck + own:.6f}\\nnum_steps: 30\\ntraining_seconds: 3.0")
"""


def test_a_loop_keeps_a_gain_smaller_than_the_luck_of_its_seeds(tmp_path: Path) -> None:
    """Rates draw alike, sizes do not: the second cannot be told from luck. Real processes, a real ledger."""
    root = make_quick_lab(tmp_path / "lab", train=TRAIN).root
    (root / "lab.toml").write_text((root / "lab.toml").read_text().replace('noise = "none"', 'noise = "measured"'))
    with Session(open_lab(root), LocalRunner()) as session:
        ensure_baseline(session)
        source = session.open().files["train.py"].decode()

        def close(**values: float) -> Experiment:
            edited = edits.replace(source, values)  # type: ignore[arg-type]
            return session.close(Proposal({"train.py": edited.encode()}, f"{values}", parent=0))

        kept = close(RATE=-1.0)
        sized = close(SIZE=9)
    assert kept.kept and kept.verdict and len(kept.scores) > 3 and " seeds of both, p " in kept.verdict.detail
    assert sized.verdict and " seeds of both" not in sized.verdict.detail
    again = Ledger(open_lab(root).ledger_path, read_only=True)
    began = {run.seed: run.result.first_loss for run in again.experiment(0).runs if run.result}
    assert len(set(began.values())) == len(began) > 2 and None not in began.values()
    assert len(pairs(again.experiment(kept.n), again.experiment(0)).differences) > 3
