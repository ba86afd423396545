"""The ranked moves: which are due, in which order, and by how large a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from research_loop import edits
from research_loop.proposers.search import SearchProposer, couplings, moves, ranking, rules
from research_loop.proposers.search.lessons import learn
from research_loop.records import History, Proposal, Result, Run, Score
from searching import TRAIN, Values, better, checkout_of, experiment, history_of, proposals, values_of, worse


def test_the_first_move_quarters_the_batch_and_says_what_why_and_risk() -> None:
    proposal = SearchProposer().propose(checkout_of(TRAIN), history_of())
    assert proposal is not None
    assert proposal.what == "TOTAL_BATCH_SIZE 2**19 -> 2**17; DEVICE_BATCH_SIZE 128 -> 64"
    edited = TRAIN.replace("2**19", "2**17").replace("DEVICE_BATCH_SIZE = 128", "DEVICE_BATCH_SIZE = 64")
    assert proposal.files["train.py"].decode() == edited
    assert (proposal.proposer, proposal.parent) == ("search/ranked", 0)
    assert proposal.why.endswith(".") and proposal.risk.endswith(".")


def test_every_ranked_move_comes_once_when_all_fail_and_one_of_a_size_by_half_the_step_again() -> None:
    found = proposals(TRAIN, worse, 20)
    ideas = [learn(history_of(experiment(1, proposal.what)), 0).ideas.keys() for proposal in found]
    turns = [next(iter(idea - {frozenset()})) for idea in ideas]
    sizes = {"TOTAL_BATCH_SIZE", "ASPECT_RATIO", "DEPTH"}
    assert all(turns.count(turn) == (2 if sizes & {key for key, _ in turn} else 1) for turn in turns[:14]), turns
    assert [proposal.what for proposal in found[:3]] == [
        "TOTAL_BATCH_SIZE 2**19 -> 2**17; DEVICE_BATCH_SIZE 128 -> 64",
        "TOTAL_BATCH_SIZE 2**19 -> 2**18",
        "ASPECT_RATIO 64 -> 96",
    ]


def test_a_size_goes_on_once_after_a_keep_and_by_a_shorter_step_after_a_failure() -> None:
    def best(proposal: Proposal, _: int) -> float:
        return 1 + abs(math.log2(float(str(values_of(proposal)["TOTAL_BATCH_SIZE"]))) - 16) / 10

    found = proposals(TRAIN, best, 6)
    assert [proposal.what for proposal in found] == [
        "TOTAL_BATCH_SIZE 2**19 -> 2**17; DEVICE_BATCH_SIZE 128 -> 64",
        "TOTAL_BATCH_SIZE 2**17 -> 2**15; DEVICE_BATCH_SIZE 64 -> 16",
        "TOTAL_BATCH_SIZE 2**17 -> 2**16; DEVICE_BATCH_SIZE 64 -> 32",
        "ASPECT_RATIO 64 -> 96",
        "ASPECT_RATIO 64 -> 80",
        "DEPTH 8 -> 10; ASPECT_RATIO 64 -> 76",
    ]
    assert found[1].why.startswith("It helped once (-0.2000 in experiment 1). More updates fit")


def test_a_rate_goes_on_once_after_a_keep_and_is_left_after_a_failure() -> None:
    def ranked(judge: Callable[[Proposal, int], float]) -> list[str]:
        found = proposals("MATRIX_LR = 0.04\n", judge, 6)
        return [proposal.what for proposal in found if proposal.proposer == "search/ranked"]

    assert ranked(better) == ["MATRIX_LR 0.04 -> 0.068", "MATRIX_LR 0.068 -> 0.11"]
    assert ranked(worse) == ["MATRIX_LR 0.04 -> 0.068", "MATRIX_LR 0.04 -> 0.022"], "up, then down"


def test_a_direction_that_failed_by_a_short_step_is_not_tried_by_the_same_again() -> None:
    near = history_of(experiment(1, "TOTAL_BATCH_SIZE 2**19 -> 2**18"))
    proposal = SearchProposer().propose(checkout_of(TRAIN), near)
    assert proposal is not None and proposal.what == "ASPECT_RATIO 64 -> 96"


def test_half_a_head_is_another_idea_than_more_heads_in_the_same_width() -> None:
    values: Values = {"DEPTH": 1, "ASPECT_RATIO": 64, "HEAD_DIM": 64, "TOTAL_BATCH_SIZE": 2**11}
    failed = history_of(experiment(1, "ASPECT_RATIO 64 -> 32; HEAD_DIM 64 -> 32"))
    found = [idea.changes for idea in ranking.ranked(values, learn(failed, 0), None) if "HEAD_DIM" in idea.changes]
    assert found == [{"HEAD_DIM": 16}, {"HEAD_DIM": 32}]


def test_a_pattern_is_tried_by_a_shorter_step_as_well() -> None:
    failed = history_of(experiment(1, 'WINDOW_PATTERN "SSSL" -> "SSSSSSSL"'))
    for layers in ("DEPTH", "N_LAYERS"):
        values: Values = {"WINDOW_PATTERN": "SSSL", layers: 16}
        found = [idea.changes for idea in ranking.ranked(values, learn(failed, 0), None)]
        assert {"WINDOW_PATTERN": "SSSSSL"} in found and {"WINDOW_PATTERN": "SSSSSSSL"} not in found


def test_a_rate_is_not_tried_by_a_shorter_step() -> None:
    values: Values = {"MATRIX_LR": 0.04}
    fresh = [idea.changes for idea in ranking.ranked(values, learn(history_of(), 0), None)]
    assert fresh == [{"MATRIX_LR": 0.068}, {"MATRIX_LR": 0.022}]
    failed = history_of(experiment(1, "MATRIX_LR 0.04 -> 0.2"))
    assert [idea.changes for idea in ranking.ranked(values, learn(failed, 0), None)] == [{"MATRIX_LR": 0.022}]


def test_first_steps_are_longer_where_runs_of_the_same_code_differ_much() -> None:
    def first_move(scores: list[float]) -> str:
        runs = tuple(Run(0, k, 42 + k, 0.0, result=Result("scored", score=Score(s))) for k, s in enumerate(scores))
        baseline = replace(history_of().experiments[0], runs=runs)
        proposal = SearchProposer().propose(checkout_of(TRAIN), History((baseline,)))
        assert proposal is not None
        return proposal.what.split(";")[0]

    assert first_move([0.998, 1.0, 1.002]) == "TOTAL_BATCH_SIZE 2**19 -> 2**17"
    assert first_move([0.98, 1.0, 1.02]) == "TOTAL_BATCH_SIZE 2**19 -> 2**16"
    assert first_move([0.0]) == "TOTAL_BATCH_SIZE 2**19 -> 2**17", "one run says nothing of noise"
    values: Values = {"MATRIX_LR": 0.04}
    long = [idea.changes for idea in ranking.ranked(values, learn(history_of(), 0), None, most=3)]
    assert long == [{"MATRIX_LR": 0.088}, {"MATRIX_LR": 0.017}]
    batch: Values = {"TOTAL_BATCH_SIZE": 2**11}
    failed = history_of(experiment(1, "TOTAL_BATCH_SIZE 2**11 -> 256"))
    assert next(ranking.ranked(batch, learn(failed, 0), None, most=3)).changes == {"TOTAL_BATCH_SIZE": 2**10}


def test_a_step_ends_where_the_next_would_be_another_idea() -> None:
    narrower = next(move for move in moves.MOVES if move.name == "narrower")
    two_heads: Values = {"DEPTH": 1, "ASPECT_RATIO": 128, "HEAD_DIM": 64}
    assert narrower.apply(two_heads, 2) == narrower.apply(two_heads) == {"DEPTH": 1, "ASPECT_RATIO": 64, "HEAD_DIM": 64}


def test_numbers_beyond_all_measure_are_no_error() -> None:
    assert couplings.width(10**400, 64, 128) == 64 * 10**400
    values: Values = {"WARMUP_RATIO": 10**400, "WARMDOWN_RATIO": 0.5}
    assert rules.settle(values, {"WARMDOWN_RATIO": 0.6}, None) is None


def test_a_shorter_step_is_for_where_the_usual_one_does_not_fit() -> None:
    values: Values = {"DEPTH": 2, "ASPECT_RATIO": 64, "HEAD_DIM": 64}
    ideas = list(ranking.ranked(values, learn(history_of(), 0), None))
    assert next(idea.changes for idea in ideas if "shallower" in idea.why or "Fewer layers" in idea.why) == {
        "DEPTH": 1,
        "ASPECT_RATIO": 128,
    }


def test_a_shorter_step_waits_for_the_verdict_on_the_longer_one() -> None:
    history = history_of(experiment(1, "TOTAL_BATCH_SIZE 2**19 -> 2**17", None))
    proposal = SearchProposer().propose(checkout_of(TRAIN), history)
    assert proposal is not None and proposal.what == "ASPECT_RATIO 64 -> 96"


@pytest.mark.parametrize(("batches", "second"), [(150, "DEPTH 8 -> 6"), (1500, "ASPECT_RATIO 64 -> 96")])
def test_smaller_models_come_before_larger_ones_where_there_are_few_tokens_a_weight(batches: int, second: str) -> None:
    """25 M weights in blocks: 150 batches are 3 tokens each, 1500 are 31."""
    known = history_of(*(experiment(n, "TOTAL_BATCH_SIZE 2**19 -> 2**18") for n in (1, 2)))
    baseline = known.experiments[0]
    result = replace(baseline.runs[0].result or Result("crash"), steps_per_second=batches / 60, training_seconds=60.0)
    seen = replace(baseline, runs=(replace(baseline.runs[0], result=result),))
    lost = replace(seen, runs=(*seen.runs, replace(seen.runs[0], k=1, result=Result("lost"))))
    for champion in (seen, lost):
        proposal = SearchProposer().propose(checkout_of(TRAIN), History((champion, *known.experiments[1:])))
        assert proposal is not None and proposal.what.startswith(second)


def test_a_model_of_one_head_becomes_narrower_by_half_of_it() -> None:
    values: Values = {"DEPTH": 1, "ASPECT_RATIO": 64, "HEAD_DIM": 64}
    narrower = next(move for move in moves.MOVES if move.name == "narrower")
    assert narrower.apply(values) == {"DEPTH": 1, "ASPECT_RATIO": 32, "HEAD_DIM": 32}
    assert narrower.apply(values, 2) == {"DEPTH": 1, "ASPECT_RATIO": 16, "HEAD_DIM": 16}
    assert narrower.apply(values, 9) == narrower.apply(values, 2)
    assert narrower.apply({**values, "ASPECT_RATIO": 128}) == {"DEPTH": 1, "ASPECT_RATIO": 64, "HEAD_DIM": 64}


def test_a_direction_that_someone_else_tried_is_not_repeated_nor_a_kept_one_undone() -> None:
    failed = history_of(experiment(1, "TOTAL_BATCH_SIZE 2**19 -> 2**18"))
    kept = history_of(experiment(1, "TOTAL_BATCH_SIZE 2**18 -> 2**19", "keep", score=0.9))
    for history, parent in ((failed, 0), (kept, 1)):
        values = values_of(Proposal(checkout_of(TRAIN).files, ""))
        ideas = list(ranking.ranked(values, learn(history, parent), 2048))
        assert len(ideas) > 10
        assert all(idea.changes.get("TOTAL_BATCH_SIZE") != 2**18 for idea in ideas)


def test_the_moves_know_the_constants_of_a_grown_script() -> None:
    values: Values = {
        "MUON_MOMENTUM": 0.95,
        "MUON_BETA2": 0.9,
        "ROPE_BASE": 10_000,
        "X0_INIT": 0.1,
        "INIT_SCALE": 1.0,
        "NGRAM_TABLE": 2**16,
        "SOFTCAP": 15.0,
    }
    turned = {name for idea in ranking.ranked(values, learn(history_of(), 0), None) for name in idea.changes}
    assert turned == set(values)


@pytest.mark.parametrize("move", moves.MOVES, ids=lambda move: move.name)
def test_a_move_survives_constants_of_another_type(move: moves.Move) -> None:
    for value in ("auto", True, 0, -1.0, (), ("a",), 1):
        values: Values = dict.fromkeys(edits.constants(TRAIN), value)
        applied = move.apply(values)
        assert applied is None or set(applied) <= set(values)
