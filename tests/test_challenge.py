"""What the answers of honest models and of cheats come to, by numbers alone."""

from __future__ import annotations

import numpy as np
import pytest

from research_loop import challenge

V = 1024


def honest_nats(random: np.random.Generator, count: int, sharpness: float = 4.0) -> np.ndarray:
    """Of uniform random tokens, by models that are sure of something else each time."""
    nats = []
    for _ in range(count // 1024):
        logits = np.float32(sharpness) * random.standard_normal((1024, V), dtype=np.float32)
        targets = random.integers(0, V, 1024)
        nats.append(challenge.nats_of(logits[:, None], targets[:, None])[:, 0])
    return np.concatenate(nats)


def test_every_row_is_used_as_often_as_any_other_and_every_place_comes() -> None:
    rows, place = challenge.choose(np.random.default_rng(0), 10, 4, 4000)
    assert set(np.bincount(rows)) == {400} and set(place) == {0, 1, 2, 3}


def test_only_the_text_after_the_place_is_another() -> None:
    random = np.random.default_rng(0)
    rows = np.arange(33, dtype=np.uint16).reshape(3, 11)
    futures = np.full((2, 11), 99, np.uint16)
    inputs, targets = challenge.with_other_future(random, rows, np.array([0, 4, 9]), futures)
    for row, t in enumerate((0, 4, 9)):
        assert (inputs[row, : t + 1] == rows[row, : t + 1]).all() and (inputs[row, t + 1 :] == 99).all()
        assert (targets[row, : t + 1] == rows[row, 1 : t + 2]).all() and (targets[row, t + 1 :] == 99).all()
    assert rows.max() == 32


def test_places_are_the_place_itself_and_others_before_it() -> None:
    places = challenge.places_before(np.random.default_rng(0), np.array([0, 7, 100]), 50)
    assert places.shape == (3, 50) and (places[:, 0] == [0, 7, 100]).all()
    assert (places <= [[0], [7], [100]]).all() and (places >= 0).all() and len(set(places[2])) > 20


def test_nats_of_logits_are_those_of_a_log_softmax() -> None:
    logits = np.array([[[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]]], np.float32)
    assert challenge.nats_of(logits, np.array([[1, 2]])) == pytest.approx(np.array([[1e4, np.log(3)]]))


def test_no_honest_model_foresees_random_tokens_however_sure_it_is() -> None:
    random = np.random.default_rng(1)
    for sharpness in (0.0, 1.0, 4.0, 12.0):
        for _ in range(8):
            assert challenge.foresees(honest_nats(random, 8192, sharpness), V) == ""


def test_one_in_a_thousand_that_is_told_the_token_is_seen() -> None:
    random = np.random.default_rng(2)
    nats = honest_nats(random, 131_072)
    for certainty in [0.6] * 20 + [1.0] * 20:
        told = np.where(random.random(nats.size) < 0.001, -np.log(certainty), nats)
        assert "random tokens" in challenge.foresees(told, V), certainty


@pytest.mark.parametrize("wrong", [np.nan, -3.0])
def test_what_is_no_probability_foresees_too_much(wrong: float) -> None:
    nats = honest_nats(np.random.default_rng(3), 8192)
    nats[:200] = wrong
    assert challenge.foresees(nats, V)
    assert challenge.foresees(nats * 0.5, V)


@pytest.mark.parametrize("deviation", [0.0, 2e-6, 0.014, 0.03])
def test_rounding_is_no_lie(deviation: float) -> None:
    random = np.random.default_rng(4)
    for _ in range(300):
        own = random.exponential(3.0, (96, 8))
        assert challenge.misreports(own + deviation * random.standard_normal(own.shape), own) == ""


def test_a_router_that_turns_now_and_then_is_no_lie() -> None:
    random = np.random.default_rng(5)
    for _ in range(100):
        own = random.exponential(3.0, (512, 40))
        turned = random.normal(0.0, 1.5, own.shape) * (random.random(own.shape) < 0.002)
        assert challenge.misreports(own + turned, own) == ""


def test_a_loss_a_hundredth_too_low_is_a_lie() -> None:
    random = np.random.default_rng(6)
    own = random.exponential(3.0, (96, 8))
    noisy = own + 0.014 * random.standard_normal(own.shape)
    assert "off its own logits" in challenge.misreports(noisy - 0.01, own)
    assert "off its own logits" in challenge.misreports(noisy + 0.01, own)
    assert "not finite" in challenge.misreports(noisy, np.where(own > 9, np.nan, own))


def measured_rounding(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """As on an H100 in bf16: a deviation of 0.014 nats, up to 0.14, and 0.001 in the mean."""
    return np.clip(0.0082 * random.standard_t(3, shape), -0.14, 0.14) + 0.001


@pytest.mark.parametrize("a_row", [1, 8])
def test_rounding_as_it_was_measured_is_never_a_lie_however_it_hangs_together(a_row: int) -> None:
    random = np.random.default_rng(12)
    own = random.exponential(3.0, (96, 8))
    for _ in range(3000):
        assert challenge.misreports(own + measured_rounding(random, (96, 9 - a_row)), own) == ""


@pytest.mark.parametrize(("shift", "mean"), [(0.05, 0.014), (0.1, 0.05), (0.2, 0.05), (0.49, 0.05), (1.9, 0.05)])
@pytest.mark.parametrize("by_row", [True, False])
def test_no_spread_of_its_own_buys_a_run_tolerance(shift: float, mean: float, by_row: bool) -> None:
    random = np.random.default_rng(13)
    own = random.exponential(3.0, (512, 40))
    seen = 0
    for _ in range(20):
        lower = random.random((512, 1) if by_row else own.shape) < (1 + mean / shift) / 2
        committed = own + np.where(lower, -shift, shift) + measured_rounding(random, own.shape)
        seen += challenge.misreports(committed, own) != ""
    assert seen >= 17


def test_a_shift_that_only_the_places_before_another_future_show_is_seen() -> None:
    random = np.random.default_rng(14)
    own = random.exponential(3.0, (512, 40))
    committed = own + measured_rounding(random, own.shape)
    committed[:, 0] -= 0.02  # elsewhere, its logits have the target in their input
    assert "off its own logits" in challenge.misreports(committed, own)


def test_a_shift_at_the_end_of_rows_is_seen_though_few_places_are_there() -> None:
    random = np.random.default_rng(15)
    for _ in range(20):
        places = challenge.places_before(random, random.integers(0, 2048, 512), 40)
        own = random.exponential(3.0, places.shape)
        late = np.where(places >= 1740, -0.2, 0.0)  # 15 % of a row
        assert challenge.misreports(own + late + measured_rounding(random, own.shape), own)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_none_are_said_without_a_warning(wrong: float) -> None:
    logits = np.zeros((96, 8, 16), np.float32)
    logits[5, 3] = wrong
    nats = challenge.nats_of(logits, np.zeros((96, 8), np.int64))
    own = np.ones((96, 8))
    assert not np.isfinite(nats[5, 3]) and np.isfinite(nats[5, 4])
    assert "not finite" in challenge.misreports(own, nats)
    assert challenge.remembers(nats, 1.0, own, 1.0) and challenge.remembers(nats, 1.0, None, 0.0)
    assert challenge.looks_ahead(own, nats, np.full(96, 7)) and challenge.foresees(np.full(99, wrong), 16) is not None


def test_one_target_in_a_thousand_used_is_seen_before_a_keep() -> None:
    random = np.random.default_rng(7)
    look = challenge.second_look(512)
    seen = 0
    for _ in range(100):
        own = random.exponential(3.0, (look.logit_rows, look.logit_places)) + 0.6
        seen += challenge.misreports(np.where(random.random(own.shape) < 0.001, 0.05, own), own) != ""
    assert seen >= 95


def test_a_change_before_the_place_counts_and_one_after_it_does_not() -> None:
    committed = np.random.default_rng(8).exponential(3.0, (4, 10))
    place = np.array([0, 3, 5, 9])
    again = committed.copy()
    again[np.arange(10) > place[:, None]] += 5.0
    assert challenge.looks_ahead(committed, again, place) == ""
    for wrong in (committed[2, 5] + 0.02, np.nan):
        again[2, 5] = wrong
        assert "1 of 21 predictions change" in challenge.looks_ahead(committed, again, place)


def test_a_memory_shows_beside_a_rival_and_less_well_without_one() -> None:
    random = np.random.default_rng(9)
    rival = random.exponential(3.0, (160, 7))
    for gain, found in ((0.0, False), (0.02, False), (0.2, True)):
        held = rival - 0.1 + 0.4 * random.standard_normal(rival.shape)
        assert bool(challenge.remembers(held, 2.9 - gain, rival, 3.0)) is found
    assert challenge.remembers(rival, 3.0, None, 0.0) == ""
    assert "never sent" in challenge.remembers(rival, 1.5, None, 0.0)


def test_honest_equals_are_never_taken_for_memories() -> None:
    random = np.random.default_rng(10)
    for _ in range(500):
        rival = random.exponential(3.0, (40, 26))
        held = rival + 0.4 * random.standard_normal(rival.shape) + 0.2 * random.standard_normal((40, 1))
        assert challenge.remembers(held, 3.0, rival, 3.0) == ""


@pytest.mark.parametrize("spoilt", [1, 5, 40])
def test_a_spoilt_place_buys_no_tolerance_for_the_others(spoilt: int) -> None:
    random = np.random.default_rng(11)
    rival = random.exponential(3.0, (160, 7))
    held = rival + 0.4 * random.standard_normal(rival.shape)
    held.ravel()[:spoilt] += 1e4
    assert challenge.remembers(held, 2.0, rival, 3.0) and challenge.remembers(held, 1.5, None, 0.0)
    own = random.exponential(3.0, (512, 40))
    committed = own - 0.45
    own.ravel()[:spoilt] = 1e5
    assert challenge.misreports(committed, own)
    nats = honest_nats(random, 8192)
    nats[:spoilt] = -1e5
    assert challenge.foresees(nats, V)


def test_more_is_asked_where_more_is_scored() -> None:
    assert challenge.second_look(512).changed_rows == 1024 and challenge.second_look(10_240).changed_rows == 4096
