"""What a proposal says of itself: why it could help, and what may go wrong."""

from __future__ import annotations

import itertools
import random
from typing import get_args

import pytest

from research_loop import edits
from research_loop.proposers.search import dials, guesses, small, words
from research_loop.proposers.search.guesses import Family
from research_loop.proposers.search.lessons import learn
from research_loop.records import History
from searching import TRAIN, Values, experiment, history_of


def parsed(source: str) -> Values:
    return {name: constant.value for name, constant in edits.constants(source).items()}


@pytest.mark.parametrize(
    ("source", "direction", "why", "risk"),
    [
        ("LEARNING_RATE = 6e-4\n", 1, "a larger learning rate makes more of few steps.", "Instability"),
        ("TOTAL_BATCH_SIZE = 2**18\n", -1, "more steps in the same time, if noisier ones.", "Noisier gradients."),
        ("BATCH_SIZE = 32\n", 1, "smoother gradients", "Fewer updates; more VRAM"),
        ("DEVICE_BATCH_SIZE = 32\n", 1, "more rows a pass", "More VRAM."),
        ("N_LAYER = 6\n", 1, "more layers", "Slower steps, so fewer in the budget; more VRAM."),
        ("N_EMBD = 384\n", 1, "a wider model", "Slower steps, so fewer in the budget; more VRAM."),
        ("N_HEAD = 6\n", 1, "more heads", "Attention kernels"),
        ("MIN_LR = 6e-5\n", -1, "a lower rate at the end", "The last steps teach less."),
        ("ADAM_BETAS = (0.8, 0.95)\n", 1, "a longer average", "Slower to adapt."),
        ("WARMUP_ITERS = 100\n", -1, "less of a short run", "Instability in the first steps."),
        ("LR_DECAY_ITERS = 5000\n", -1, "the decay ends within", "Time at the lowest rate."),
        ("DROPOUT = 0.2\n", -1, "who sees each token about once", "Overfits"),
        ("GAIN = 1.5\n", 1, "nobody knows", "Little: one number by a step."),
    ],
)
def test_reason_and_risk_follow_from_what_is_turned_and_which_way(
    source: str, direction: int, why: str, risk: str
) -> None:
    dial = dials.dials(parsed(source))[0]
    assert words.reason(dial, direction).startswith(why)
    assert words.risk([(dial, direction)]).startswith(risk)


@pytest.mark.parametrize("kind", get_args(dials.Kind))
@pytest.mark.parametrize("direction", [1, -1])
def test_every_kind_of_dial_has_a_reason_each_way(kind: dials.Kind, direction: int) -> None:
    assert words.reason(dials.Dial("Q", (), kind, 1.0), direction).endswith(".")


def test_a_first_small_move_says_why_it_could_help_not_that_it_is_untried() -> None:
    values = parsed(TRAIN)
    ideas = list(itertools.islice(small.around(values, learn(history_of(), 0), 2048, random.Random(0)), 40))
    assert len(ideas) == 40
    for idea in ideas:
        assert "untried" not in idea.why and "local step" not in idea.risk


def test_that_an_ablation_is_needed_is_said_of_several_constants_and_not_of_one() -> None:
    values = parsed(TRAIN)
    one, two = {"MATRIX_LR": 0.05}, {"MATRIX_LR": 0.05, "DEPTH": 9}
    assert words.risk_of(values, one) == "Instability, a NaN in the worst case."
    assert "Several" not in words.risk_of(values, {"ADAM_BETAS": (0.9, 0.99)})
    assert "Several" not in words.risk_of(values, {"TOTAL_BATCH_SIZE": 2**17, "DEVICE_BATCH_SIZE": 64})
    assert words.risk_of(values, two) == (
        "Instability, a NaN in the worst case. Slower steps, so fewer in the budget; more VRAM. "
        "Several constants at once: which of them it was, an ablation tells."
    )


def test_a_models_proposal_says_one_constant_where_it_is_one() -> None:
    values = parsed("A_LR = 0.1\nB_LR = 0.2\n")
    past = [experiment(n, f"A_LR 0.1 -> {0.1 + n / 100:.2f}", score=1 + n / 100) for n in range(1, 13)]
    family = Family.of(History((experiment(0, "baseline", "keep", parent=None), *past)), 0, values, None)
    ideas = [idea for seed in range(3) for idea in guesses.parzen(family, random.Random(seed))]
    assert {len(idea.changes) for idea in ideas} == {1, 2}
    assert all(("Several constants" in idea.risk) == (len(idea.changes) == 2) for idea in ideas)
