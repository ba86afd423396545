"""The search on a train.py by somebody else: other names, and what has to divide what."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from research_loop import edits
from research_loop.proposers.search import SearchProposer, changes, couplings, dials, moves, ranking, rules
from research_loop.proposers.search.field_moves import FIELD_MOVES
from research_loop.proposers.search.lessons import learn, turns_of
from research_loop.proposers.search.moves import Idea
from research_loop.records import History
from searching import TRAIN, Values, checkout_of, experiment, history_of, values_of

ELSEWHERE = """
N_LAYER = 6
N_HEAD = 6
N_EMBD = 384            # whole heads
BLOCK_SIZE = 256
BATCH_SIZE = 32
GRADIENT_ACCUMULATION_STEPS = 4
LEARNING_RATE = 6e-4
MIN_LR = 6e-5
WARMUP_ITERS = 100
LR_DECAY_ITERS = 5000
WEIGHT_DECAY = 1e-1
BETA1 = 0.9
BETA2 = 0.95
GRAD_CLIP = 1.0
DROPOUT = 0.2
OPTIM = (("adamw", 3e-4, (0.9, 0.95)), ("muon", 0.02, 0.95))
HEAD_SIZE = 64
MODEL_DIM = 512         # a multiple of HEAD_SIZE
MICRO_BATCH = 8
TOKENS_PER_STEP = 32 * 2048
"""


def parsed(source: str) -> Values:
    return {name: constant.value for name, constant in edits.constants(source).items()}


def faults(values: Values) -> list[str]:
    """What would end a run of ELSEWHERE at once."""
    numbers = {name: value for name, value in values.items() if isinstance(value, int)}
    width, heads = numbers["N_EMBD"], numbers["N_HEAD"]
    step = numbers["MICRO_BATCH"] * 2048
    found = ["N_EMBD"] if width % heads or width // heads % 2 else []
    found += ["MODEL_DIM"] if numbers["MODEL_DIM"] % numbers["HEAD_SIZE"] else []
    found += ["TOKENS_PER_STEP"] if numbers["TOKENS_PER_STEP"] % step else []
    betas = [dict(dials.leaves(values["OPTIM"]))[path] for path in ((0, 2, 0), (0, 2, 1), (1, 2))]
    betas += [values[name] for name in ("BETA1", "BETA2", "DROPOUT") if name in values]
    return found + [f"{beta}" for beta in betas if not (isinstance(beta, float) and 0 <= beta < 1)]


def test_proposals_for_a_foreign_script_hold_its_widths_batches_and_betas() -> None:
    draw, past = random.Random(2), [experiment(0, "baseline", "keep", parent=None)]
    for n in range(1, 19):
        proposal = SearchProposer(2).propose(checkout_of(ELSEWHERE), History(tuple(past)))
        assert proposal is not None
        assert faults(values_of(proposal)) == [], proposal.what
        other = experiment(n, proposal.what, reason="noise", score=1 + abs(draw.gauss(0, 0.001)))
        past.append(replace(other, key=edits.key(proposal.files), proposer=proposal.proposer))


@pytest.mark.parametrize(
    ("wanted", "settled"),
    [
        ({"N_EMBD": 380}, {"N_EMBD": 336}),
        ({"N_EMBD": 530}, {"N_EMBD": 528}),
        ({"N_EMBD": 390}, {"N_EMBD": 432}),
        ({"N_HEAD": 7}, {"N_HEAD": 8}),
        ({"N_HEAD": 5}, {"N_HEAD": 4}),
        ({"N_HEAD": 7, "N_EMBD": 400}, {"N_HEAD": 7, "N_EMBD": 392}),
        ({"HEAD_SIZE": 96}, {"HEAD_SIZE": 128}),
        ({"HEAD_SIZE": 1024}, None),
        ({"TOKENS_PER_STEP": 40_000}, {"TOKENS_PER_STEP": 32_768}),
        ({"TOKENS_PER_STEP": 8192}, {"TOKENS_PER_STEP": 8192, "MICRO_BATCH": 4}),
        ({"TOKENS_PER_STEP": 1024}, None),
        ({"MICRO_BATCH": 32}, {"MICRO_BATCH": 32}),
        ({"MICRO_BATCH": 64}, None),
        ({"BATCH_SIZE": 60}, {"BATCH_SIZE": 56}),
        ({"LEARNING_RATE": 1e-3}, {"LEARNING_RATE": 1e-3}),
    ],
)
def test_what_divided_before_divides_afterwards_at_the_nearest_value_that_does(
    wanted: Values, settled: Values | None
) -> None:
    values = parsed(ELSEWHERE)
    del values["HEAD_SIZE" if "N_EMBD" in wanted or "N_HEAD" in wanted else "N_EMBD"]
    assert rules.settle(values, wanted, 2048) == settled


def test_what_did_not_divide_before_need_not_afterwards() -> None:
    values = parsed("N_EMBD = 384\nN_HEAD = 7\nBATCH_TOKENS = 1000\nMICRO_BATCH = 3\n")
    assert rules.settle(values, {"N_HEAD": 5}, None) == {"N_HEAD": 5}
    assert rules.settle(values, {"MICRO_BATCH": 7}, None) == {"MICRO_BATCH": 7}


def test_a_batch_that_is_counted_in_rows_is_whole_device_batches() -> None:
    values = parsed("GLOBAL_BATCH_SIZE = 512\nMICRO_BATCH_SIZE = 8\n")
    assert rules.settle(values, {"GLOBAL_BATCH_SIZE": 300}, 2048) == {"GLOBAL_BATCH_SIZE": 296}
    assert rules.settle(values, {"GLOBAL_BATCH_SIZE": 4}, 2048) == {"GLOBAL_BATCH_SIZE": 4, "MICRO_BATCH_SIZE": 4}
    assert rules.settle(values, {"MICRO_BATCH_SIZE": 12}, 2048) is None


def test_rows_that_follow_a_step_are_not_the_idea() -> None:
    both: Mapping[str, changes.Change] = {"TOKENS_PER_STEP": (2**14, 2**13), "MICRO_BATCH": (8, 4)}
    assert turns_of(both) == {("TOKENS_PER_STEP", -1)}


def test_heads_are_whole_groups_of_key_heads() -> None:
    values = parsed("D_MODEL = 512\nNUM_HEADS = 8\nNUM_KV_HEADS = 2\n")
    assert rules.settle(values, {"NUM_KV_HEADS": 3}, None) == {"NUM_KV_HEADS": 4}
    assert rules.settle(values, {"NUM_HEADS": 9}, None) == {"NUM_HEADS": 16}


@pytest.mark.parametrize(
    ("shape", "wanted", "settled"),
    [
        ("N_EMBD = 512\nHEAD_SIZE = 64\n", {"N_EMBD": 640}, {"N_EMBD": 768}),
        ("N_EMBD = 512\nHEAD_SIZE = 64\n", {"N_KV_HEADS": 5}, {"N_KV_HEADS": 8}),
        ("N_EMBD = 512\nHEAD_SIZE = 64\n", {"HEAD_SIZE": 256}, None),
        ("DEPTH = 8\nASPECT_RATIO = 64\nHEAD_DIM = 64\n", {"ASPECT_RATIO": 72}, None),
        ("DEPTH = 8\nASPECT_RATIO = 64\nHEAD_DIM = 64\n", {"ASPECT_RATIO": 96}, {"ASPECT_RATIO": 96}),
        ("DEPTH = 8\nASPECT_RATIO = 64\nHEAD_DIM = 64\n", {"N_KV_HEADS": 3}, {"N_KV_HEADS": 2}),
        ("DEPTH = 8\nASPECT_RATIO = 64\nHEAD_DIM = 64\n", {"HEAD_DIM": 256}, None),
    ],
)
def test_heads_that_no_constant_counts_are_whole_groups_of_key_heads(
    shape: str, wanted: Values, settled: Values | None
) -> None:
    assert rules.settle(parsed(f"{shape}N_KV_HEADS = 4\n"), wanted, None) == settled


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("N_EMBD", "width"),
        ("D_MODEL", "width"),
        ("HIDDEN_SIZE", "width"),
        ("NUM_HEADS", "heads"),
        ("N_KV_HEAD", "key heads"),
        ("HEAD_DIM", "head size"),
        ("GLOBAL_BATCH_SIZE", "step"),
        ("MICRO_BATCH_SIZE", "rows"),
        ("ASPECT_RATIO", None),
        ("DEPTH", None),
        ("HEADROOM", None),
    ],
)
def test_names_say_what_divides_what(name: str, role: str | None) -> None:
    assert couplings.role(name) == role


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ('OPTIM = (("adamw", 3e-4, (0.9, 0.95)), ("muon", 0.02, 0.95))\n', ["scale", "beta", "beta", "scale", "beta"]),
        ("EMA_DECAY = 0.999\n", ["beta"]),
        ("ADAM_B1 = 0.9\nADAM_B2 = 0.99\n", ["beta", "beta"]),
        ("MOMENTUM = 0.0\n", ["beta"]),
        ("ATTN_DROP_RATE = 0.1\n", ["ratio"]),
        ("LABEL_SMOOTHING = 0.0\n", ["ratio"]),
        ("GROUP_LR = (0.6, 0.004)\n", ["rate", "rate"]),
        ("SOFTCAP = 0.9\n", ["scale"]),
        ("N_EMBD = 384\n", ["width"]),
    ],
)
def test_averages_and_shares_are_known_by_name_or_by_their_place_in_a_tuple(source: str, kinds: list[str]) -> None:
    assert [dial.kind for dial in dials.dials(parsed(source))] == kinds


@pytest.mark.parametrize(
    ("source", "new"),
    [
        ("BETAS = (0.9, 0.95)\n", (0.9, 1.0)),
        ("OPTIM = ('muon', (0.02, 0.95))\n", ("muon", (0.02, 1.3))),
        ("MOMENTUM = 0.9\n", -0.1),
        ("DROPOUT = 0.9\n", 1.0),
        ("WARMUP_SHARE = 0.9\n", 1.1),
    ],
)
def test_a_beta_a_dropout_and_a_share_stay_within_their_limits(source: str, new: edits.Value) -> None:
    values = parsed(source)
    (name,) = values
    assert rules.settle(values, {name: new}, None) is None
    assert rules.settle(parsed("WARMUP_SHARE = 0.9\n"), {"WARMUP_SHARE": 1.0}, None) == {"WARMUP_SHARE": 1.0}


# Ranked moves


def ranked(source: str, most: int = 1) -> list[Idea]:
    return list(ranking.ranked(parsed(source), learn(history_of(), 0), 2048, most=most))


def test_a_script_with_the_fields_names_gets_first_moves_for_its_batch_shape_rates_and_schedule() -> None:
    source = ELSEWHERE[: ELSEWHERE.index("OPTIM")]
    turned = list(dict.fromkeys(next(iter(idea.changes)) for idea in ranked(source)))
    assert turned[:6] == [
        "BATCH_SIZE",
        "GRADIENT_ACCUMULATION_STEPS",
        "N_EMBD",
        "N_LAYER",
        "LEARNING_RATE",
        "WARMUP_ITERS",
    ]
    later = {"LR_DECAY_ITERS", "MIN_LR", "BETA1", "BETA2", "DROPOUT", "GRAD_CLIP", "WEIGHT_DECAY"}
    assert later < set(turned)


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("LR = 1e-3\n", {"LR": 0.0014}),
        ("MAX_LR = 1e-3\n", {"MAX_LR": 0.0014}),
        ("NUM_LAYERS = 6\n", {"NUM_LAYERS": 7}),
        ("D_MODEL = 512\n", {"D_MODEL": 640}),
        ("N_EMBD = 384\nN_HEAD = 6\n", {"N_EMBD": 480}),
        ("WARMUP_STEPS = 100\n", {"WARMUP_STEPS": 50}),
        ("GRAD_ACCUM = 8\n", {"GRAD_ACCUM": 4}),
        ("TOKENS_PER_STEP = 65_536\nMICRO_BATCH = 8\n", {"TOKENS_PER_STEP": 32_768}),
        ("BETAS = (0.9, 0.95)\n", {"BETAS": (0.9, 0.975)}),
        ("DROPOUT = 0.2\n", {"DROPOUT": 0.1}),
        ("MLP_MULT = 4\n", {"MLP_MULT": 5}),
    ],
)
def test_the_first_move_is_found_under_each_common_name(source: str, change: Values) -> None:
    assert ranked(source)[0].changes == change


@pytest.mark.parametrize(
    ("source", "why", "risk"),
    [
        (
            "TOKENS_PER_STEP = 16_384\nMICRO_BATCH = 8\n",
            "More steps in the same time, if noisier ones.",
            "Noisier gradients.",
        ),
        ("MLP_MULT = 4\n", "Most of what a transformer knows is in its MLPs", "Slower steps"),
        ("GRADIENT_NORM = 1.0\n", "Where most gradients are clipped", "Instability after a bad batch."),
    ],
)
def test_a_move_of_the_field_says_what_its_constant_does(source: str, why: str, risk: str) -> None:
    first = ranked(source)[0]
    assert first.why.startswith(why) and first.risk.startswith(risk)


def test_a_file_with_upstreams_names_gets_upstreams_moves_alone() -> None:
    values = parsed(TRAIN + "BATCH_SIZE = 32\n")
    ours = list(ranking.ranked(values, learn(history_of(), 0), 2048, table=moves.MOVES))
    assert list(ranking.ranked(values, learn(history_of(), 0), 2048)) == ours


@pytest.mark.parametrize("move", FIELD_MOVES, ids=lambda move: move.name)
def test_a_move_of_the_field_survives_constants_of_another_type(move: moves.Move) -> None:
    names = [*edits.constants(ELSEWHERE), "MLP_RATIO", "LABEL_SMOOTHING"]
    assert any(re.fullmatch(move.needs[0], name) for name in names)
    for value in ("auto", True, 0, -1.0, (), ("a",), 1):
        applied = move.apply(dict.fromkeys(names, value))
        assert applied is None or set(applied) <= set(names)


@pytest.mark.parametrize(
    "turned", [{"DIM": 640}, {"DIM": 384}, {"N_HEADS": 16}, {"HEAD_DIM": 32}, {"DIM": 768, "HEAD_DIM": 96}]
)
def test_a_width_that_is_heads_times_their_size_stays_so(turned: Values) -> None:
    values: Values = {"DIM": 512, "N_HEADS": 8, "HEAD_DIM": 64, "N_KV_HEADS": 2}
    settled = rules.settle(values, turned, 1024)
    assert settled is not None and all(settled[name] == value for name, value in turned.items())
    after = {**values, **settled}
    assert after["DIM"] == after["N_HEADS"] * after["HEAD_DIM"] and after["N_HEADS"] % after["N_KV_HEADS"] == 0  # type: ignore[operator]
    apart = {**values, "HEAD_DIM": 32}
    assert rules.settle(apart, {"DIM": 640}, 1024) == {"DIM": 640}


def test_a_width_that_is_heads_times_their_size_is_told_from_another_width() -> None:
    values: Values = {"DIM": 576, "N_HEADS": 9, "HEAD_DIM": 64, "HIDDEN_DIM": 1536}
    assert rules.settle(values, {"DIM": 1152}, 1024) == {"DIM": 1152, "N_HEADS": 18}
    assert rules.settle(values, {"HIDDEN_DIM": 2048}, 1024) == {"HIDDEN_DIM": 2048}


def test_a_batch_is_whole_rows_of_the_scripts_own_length_where_it_has_one() -> None:
    values: Values = {"SEQ_LEN": 384, "TOTAL_BATCH_SIZE": 40320, "DEVICE_BATCH_SIZE": 15}
    for length in (2048, None):
        assert rules.settle(values, {"TOTAL_BATCH_SIZE": 20160}, length) == {"TOTAL_BATCH_SIZE": 17280}


def test_a_size_of_heads_goes_to_the_next_that_divides_however_far() -> None:
    assert rules.settle({"N_EMBD": 1024, "HEAD_SIZE": 128}, {"HEAD_SIZE": 192}, None) == {"HEAD_SIZE": 256}


def test_a_batch_that_is_counted_in_tokens_stays_whole_passes_of_rows() -> None:
    values: Values = {"BATCH_SIZE": 2**17, "DEVICE_BATCH_SIZE": 32}
    assert rules.settle(values, {"BATCH_SIZE": 2**16}, 2048) == {"BATCH_SIZE": 2**16}
    halved = rules.settle({**values, "BATCH_SIZE": 2**16}, {"BATCH_SIZE": 2**15}, 2048)
    assert halved == {"BATCH_SIZE": 2**15, "DEVICE_BATCH_SIZE": 16}
    assert rules.settle({"BATCH_SIZE": 64, "DEVICE_BATCH_SIZE": 32}, {"BATCH_SIZE": 96}, 2048) == {"BATCH_SIZE": 96}
