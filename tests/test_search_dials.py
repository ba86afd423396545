"""What the search may turn, by how much, and what must hold between constants."""

from __future__ import annotations

import random

import pytest

from research_loop import edits
from research_loop.proposers.search import changes, couplings, dials, rules, space
from research_loop.proposers.search.moves import MOVES

Values = dict[str, edits.Value]
SHAPE_AND_BATCH: Values = {
    "DEPTH": 8,
    "ASPECT_RATIO": 64,
    "HEAD_DIM": 128,
    "WINDOW_PATTERN": "SSSL",
    "TOTAL_BATCH_SIZE": 2**19,
    "DEVICE_BATCH_SIZE": 128,
    "ADAM_BETAS": (0.8, 0.95),
    "WARMUP_RATIO": 0.0,
    "WARMDOWN_RATIO": 0.5,
}


# What a change is called


def test_a_change_reads_back_from_its_own_text() -> None:
    old: Values = {"A": 2**19, "B": (0.8, 0.95), "C": "SSSL", "D": 3e-5, "E": True}
    new: Values = {"A": 2**18, "B": (0.8, 0.97), "C": "SL", "D": 4e-5, "E": False}
    text = changes.describe(old, new)
    assert text.startswith("A 2**19 -> 2**18; B (0.8, 0.95) -> (0.8, 0.97); ")
    assert changes.read(text) == {name: (old[name], new[name]) for name in old}


@pytest.mark.parametrize(
    "text", ["baseline", "", "use GeLU", "DEPTH 8 -> deeper", "DEPTH 8 -> 9 and GeLU", "A 1 -> 2; tidy up", "A -> B"]
)
def test_free_words_are_no_change(text: str) -> None:
    assert changes.read(text) is None


# Dials


@pytest.mark.parametrize(
    "name",
    [
        "SEED",
        "DATA_SEED",
        "CACHE_DIR",
        "VOCAB_SIZE",
        "MAX_SEQ_LEN",
        "TIME_BUDGET",
        "EVAL_TOKENS",
        "EVAL_BATCH_SIZE",
        "H100_BF16_PEAK_FLOPS",
        "LOG_EVERY",
        "NUM_WORKERS",
        "ADAM_EPS",
        "UNTIMED_STEPS",
        "BOS_TOKEN_ID",
        "HASH_PRIME",
    ],
)
def test_constants_whose_meaning_is_no_dial_are_left_alone(name: str) -> None:
    assert dials.kind_of(name, 64) is None
    assert dials.kind_of(name, 0.5) is None


@pytest.mark.parametrize("value", ["bfloat16", "cuda", "", "S", -1])
def test_words_and_sentinels_are_no_dials(value: edits.Value) -> None:
    assert dials.kind_of("X", value) is None


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("LOGIT_SOFTCAP", 15.0, "scale"),
        ("PEAK_LR", 0.01, "rate"),
        ("DEVICE_BATCH_SIZE", 128, "size"),
        ("TOTAL_BATCH_SIZE", 147456, "size"),
        ("DEPTH", 16, "count"),
        ("N_HEADS", 4, "count"),
        ("ROPE_BASE", 10_000, "scale"),
        ("MUON_MOMENTUM", 0.95, "beta"),
        ("WARMDOWN_RATIO", 0.5, "ratio"),
        ("MLP_RATIO", 4, "count"),
        ("WINDOW_PATTERN", "SSSL", "pattern"),
        ("USE_VALUE_EMBEDDINGS", True, "switch"),
        ("WEIGHT_DECAY", 0.2, "scale"),
    ],
)
def test_the_kind_of_a_dial_follows_from_name_and_value(name: str, value: edits.Value, kind: str) -> None:
    assert dials.kind_of(name, value) == kind


@pytest.mark.parametrize(
    ("name", "value"),
    [("A_LR", 0.04), ("B_MOMENTUM", 0.95), ("C_RATIO", 0.5), ("DEPTH", 3), ("E_SIZE", 64), ("F", 15.0), ("G", 10_000)],
)
@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("scale", [0.15, 1.0, 2.0])
def test_neighbours_lie_on_the_asked_side_and_keep_the_type(
    name: str, value: float, direction: int, scale: float
) -> None:
    (dial,) = dials.dials({name: value})
    near = dials.neighbours(dial, direction, scale, random.Random(0))
    assert near
    assert all(dials.directions(name, value, new) == {name: direction} for new in near)
    assert {type(new) for new in near} == {type(value)}


def test_numbers_within_nested_tuples_and_lists_are_dials() -> None:
    values: Values = {"ADAM_BETAS": ((0.8, 0.95), [0.9, 0.99]), "DEPTHS": [2, (3,)], "EMPTY": ((), [])}
    found = {dial.key: dial for dial in dials.dials(values)}
    assert list(found) == [*(f"ADAM_BETAS[{i}][{j}]" for i in (0, 1) for j in (0, 1)), "DEPTHS[0]", "DEPTHS[1][0]"]
    changed = dials.put(values, found["ADAM_BETAS[1][0]"], 0.85)
    assert changed == ((0.8, 0.95), [0.85, 0.99]) and values["ADAM_BETAS"] == ((0.8, 0.95), [0.9, 0.99])
    assert dials.directions("ADAM_BETAS", values["ADAM_BETAS"], changed) == {"ADAM_BETAS[1][0]": -1}
    assert dials.directions("ADAM_BETAS", values["ADAM_BETAS"], (0.8, 0.95)) == {}, "another shape: not comparable"


def test_a_step_in_a_learning_rate_is_a_factor_of_about_1_2_to_1_6() -> None:
    (dial,) = dials.dials({"MATRIX_LR": 0.04})
    for direction in (1, -1):
        for seed in range(50):
            for new in dials.neighbours(dial, direction, 1.0, random.Random(seed)):
                assert isinstance(new, float)
                assert 1.15 < (new / 0.04) ** direction < 1.67


@pytest.mark.parametrize(
    ("name", "value", "direction"),
    [
        ("A_RATIO", 1.0, 1),
        ("A_RATIO", 0.0, -1),
        ("DEPTH", 1, -1),
        ("A_SIZE", 33, -1),
        ("FLAG", True, 1),
        ("X", 0.0, -1),
    ],
)
def test_there_is_nothing_beyond_the_end_of_a_dial(name: str, value: edits.Value, direction: int) -> None:
    (dial,) = dials.dials({name: value})
    assert dials.neighbours(dial, direction, 1.0, random.Random(0)) == []


@pytest.mark.parametrize("cap", [15, 1, 2, 16, 64, 100, 15.0, 0.01])
def test_what_divides_the_logits_is_never_turned_to_zero(cap: float) -> None:
    (dial,) = dials.dials({"SOFTCAP": cap})
    (axis,) = space.axes_around({"SOFTCAP": cap}, wider=4.0)
    proposed = [axis.decode(0.0)]
    for scale in (0.15, 1.0, 3.0):
        proposed += dials.neighbours(dial, -1, scale, random.Random(0))
    assert all(isinstance(new, int | float) and new > 0 for new in proposed)


def test_patterns_change_by_a_letter_and_never_into_the_same_windows() -> None:
    (dial,) = dials.dials({"WINDOW_PATTERN": "SL"})
    near = {new for d in (1, -1) for new in dials.neighbours(dial, d, 1.0, random.Random(0))}
    assert {"SSL", "SLL", "S", "L"} <= near
    assert all(dials.root(str(new)) == new != "SL" for new in near)


# Rules


@pytest.mark.parametrize(
    ("wanted", "settled"),
    [
        ({"TOTAL_BATCH_SIZE": 2**18}, {"TOTAL_BATCH_SIZE": 2**18}),
        ({"TOTAL_BATCH_SIZE": 2**17}, {"TOTAL_BATCH_SIZE": 2**17, "DEVICE_BATCH_SIZE": 64}),
        ({"TOTAL_BATCH_SIZE": 2**10}, None),
        ({"DEVICE_BATCH_SIZE": 512}, None),
        ({"TOTAL_BATCH_SIZE": 2**20, "DEVICE_BATCH_SIZE": 1024}, None),
        ({"DEVICE_BATCH_SIZE": 256}, {"DEVICE_BATCH_SIZE": 256}),
        ({"ASPECT_RATIO": 60}, None),
        ({"ASPECT_RATIO": 80}, {"ASPECT_RATIO": 80}),
        ({"HEAD_DIM": 64}, {"HEAD_DIM": 64}),
        ({"HEAD_DIM": 1024}, None),
        ({"DEPTH": 0}, None),
        ({"DEPTH": 8}, None),
        ({"WARMUP_RATIO": 0.5}, {"WARMUP_RATIO": 0.5}),
        ({"WARMUP_RATIO": 0.51}, None),
        ({"ADAM_BETAS": (0.8, 1.0)}, None),
        ({"WINDOW_PATTERN": "SSSSSSSSL"}, None),
    ],
)
def test_what_must_hold_between_constants_holds(wanted: Values, settled: Values | None) -> None:
    assert rules.settle(SHAPE_AND_BATCH, wanted, 2048) == settled


@pytest.mark.parametrize(
    ("pattern", "window", "allowed"), [("SL", 512, True), ("SL", 2048, False), ("SL", 0, False), ("L", 512, False)]
)
def test_a_window_must_be_some_layers_and_shorter_than_the_row(pattern: str, window: int, allowed: bool) -> None:
    values: Values = {"WINDOW_PATTERN": pattern, "SHORT_WINDOW": 256}
    assert (rules.settle(values, {"SHORT_WINDOW": window}, 2048) is not None) is allowed


@pytest.mark.parametrize(
    ("depth", "old", "new", "same"),
    [
        (4, "SSSL", "S", True),
        (3, "SL", "SLL", True),
        (8, "SSSSSL", "SSSSSLS", True),
        (8, "SSSL", "SSSSL", True),
        (8, "SSSL", "SSLS", True),
        (8, "SSSL", "SSSSSSSL", False),
        (5, "SSSL", "S", False),
        (4, "SSSL", "SL", False),
        (1, "S", "L", True),
    ],
)
def test_a_pattern_has_more_long_layers_or_fewer_as_its_share_says(depth: int, old: str, new: str, same: bool) -> None:
    source = f"DEPTH = {depth}\nWINDOW_PATTERN = {old!r}\n"
    values = {name: constant.value for name, constant in edits.constants(source).items()}
    assert (rules.settle(values, {"WINDOW_PATTERN": new}, 2048) is None) is same
    elsewhere: Values = {"WINDOW_PATTERN": old, "N_LAYER": depth}
    assert (rules.settle(elsewhere, {"WINDOW_PATTERN": new}, 2048) is None) is same
    deeper: Values = {"WINDOW_PATTERN": new, "DEPTH": depth + 1}
    assert rules.settle(values, deeper, 2048) == deeper, "another model"


def test_a_pattern_of_no_depth_that_is_known_may_change() -> None:
    assert rules.settle({"WINDOW_PATTERN": "SSSL"}, {"WINDOW_PATTERN": "S"}, 2048) == {"WINDOW_PATTERN": "S"}


@pytest.mark.parametrize("other", [{"SHORT_WINDOW": 512}, {"ADAM_BETAS": (0.9, 0.95)}])
def test_one_constant_that_holds_does_not_excuse_another(other: Values) -> None:
    values: Values = {"SHORT_WINDOW": 256, "ADAM_BETAS": (0.8, 0.95), "WARMUP_RATIO": 0.0, "WARMDOWN_RATIO": 0.5}
    assert rules.settle(values, other, 2048) == other
    assert rules.settle(values, {**other, "WARMUP_RATIO": 0.6}, 2048) is None


def test_one_aspect_ratio_stands_for_all_that_give_its_width() -> None:
    values: Values = {"DEPTH": 4, "ASPECT_RATIO": 128, "HEAD_DIM": 128}
    for aspect in (129, 150, 160):
        assert rules.settle(values, {"ASPECT_RATIO": aspect}, None) == {"ASPECT_RATIO": 160}
    assert rules.settle(values, {"ASPECT_RATIO": 127}, None) is None
    assert rules.settle({**values, "DEPTH": 3}, {"ASPECT_RATIO": 129}, None) == {"ASPECT_RATIO": 170}
    assert rules.settle(values, {"DEPTH": 5, "ASPECT_RATIO": 150}, None) == {"DEPTH": 5, "ASPECT_RATIO": 153}
    assert rules.settle(values, {"DEPTH": 5, "ASPECT_RATIO": 127}, None) == {"DEPTH": 5}


def test_fewer_long_windows_are_fewer_layers_with_them() -> None:
    (shorter,) = (move for move in MOVES if move.name == "shorter windows")
    found = {
        (pattern, depth): (shorter.apply({"WINDOW_PATTERN": pattern, "DEPTH": depth}) or {}).get("WINDOW_PATTERN")
        for pattern, depth in [("SSSL", 8), ("SSSL", 16), ("SSSL", 4), ("L", 8), ("L", 2), ("L", 1), ("SL", 4)]
    }
    assert list(found.values()) == ["SSSSSSSL", "SSSSSL", None, "SSSL", "SL", None, "SSSL"]


def test_n_grams_that_are_not_in_the_embedding_are_put_there_whole() -> None:
    (joined,) = (move for move in MOVES if move.name == "n-grams in the embedding")
    tables: Values = {"BIGRAM_ROWS": 32, "TRIGRAM_ROWS": 64}
    assert joined.apply({"NGRAM_INPUT": 0.0, **tables}) == {"NGRAM_INPUT": 1.0, **tables}
    for share in (0.7, 0, False):
        assert joined.apply({"NGRAM_INPUT": share, **tables}) is None
    assert joined.apply({"NGRAM_INPUT": 0.0, **tables, "TRIGRAM_ROWS": 0}) is None, "there is nothing to put there"


def test_an_average_of_the_weights_comes_with_the_rate_that_it_bears() -> None:
    (averaged,) = (move for move in MOVES if move.name == "averaged weights")
    assert averaged.apply({"AVERAGE_HALF_LIFE": 0.0, "FINAL_LR_FRAC": 0.05}) == {
        "AVERAGE_HALF_LIFE": 0.08,
        "FINAL_LR_FRAC": 0.35,
    }
    assert (averaged.apply({"AVERAGE_HALF_LIFE": 0.0, "FINAL_LR_FRAC": 0.5}) or {})["FINAL_LR_FRAC"] == 0.5
    for half_life, final in ((0.08, 0.05), (False, 0.05), (0.0, 1.0), (0.0, -0.1)):
        assert averaged.apply({"AVERAGE_HALF_LIFE": half_life, "FINAL_LR_FRAC": final}) is None


def test_other_heads_keep_the_width_with_another_aspect_ratio() -> None:
    values: Values = {"DEPTH": 9, "ASPECT_RATIO": 64, "HEAD_DIM": 128}
    settled = rules.settle(values, {"HEAD_DIM": 64}, None)
    assert settled == {"HEAD_DIM": 64, "ASPECT_RATIO": 71}
    assert couplings.width(9, 71, 64) == couplings.width(9, 64, 128) == 640


def test_the_batch_is_not_checked_where_the_length_of_rows_is_unknown() -> None:
    values: Values = {"TOTAL_BATCH_SIZE": 96, "DEVICE_BATCH_SIZE": 64}
    assert rules.settle(values, {"TOTAL_BATCH_SIZE": 48}, None) == {"TOTAL_BATCH_SIZE": 48}
