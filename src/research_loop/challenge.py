"""What the harness asks and what the answers mean: pure functions of numbers.

Tolerances come from measurement: honest models in bf16 under torch.compile on an H100 gave the same nats to the bit
whatever the text after a place and the rows beside it were; their uncompiled logits were off by 0.014 nats (one
standard deviation), 0.14 at most, and 0.001 in the mean. A CPU in float32 is off by 0.000002. docs/trust.md has what
still fits between these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Nats = NDArray[np.floating]
Places = NDArray[np.integer]

PREFIX_TOLERANCE_NATS = 0.01
"""Of one prediction, with its own and with another future: one graph, one prefix."""

LOSS_TOLERANCE_NATS = 0.003
STANDARD_ERRORS = 5.0
"""Of the mean difference between committed nats and those of the logits, whose rounding is another graph's."""

ROUNDING_NATS = 0.15
ROUNDING_DEVIATION, TURNED_DEVIATION = 0.03, 0.05
"""A run chooses its own differences, so the standard error that it is granted is bounded: between the means of rows
there is a deviation of so many nats, where no place counts for more than rounding was ever seen to change; and of so
many, where a place that a router turned at counts whole."""

OUTLIER_NATS = 0.5
FLATTERED, FLATTERED_SHARE = 10, 3.0
"""So many places may be better by OUTLIER_NATS than their logits say, and three for each that is worse by as much:
rounding turns a router's choice now and then, and as often for the worse."""

LUCK, LUCK_DEVIATIONS = 5.0, 5.0
"""What the probabilities of random tokens may sum to beyond their expectation: fixed, and in standard deviations."""

CLIP_NATS, CLIP_UNPAIRED_NATS = 2.0, 20.0
"""What one place may add to a standard error: a run that spoils a place must not buy tolerance for the others."""

FEWEST_HELD_ROWS = 12
"""Five standard errors of fewer are no rare chance."""

MEMORY_TOLERANCE_NATS = 0.02
MEMORY_TOLERANCE_SHARE = 0.1
"""Of the loss on text never sent against that on scored text: beside a rival's on the same places, and without one."""


quiet = np.errstate(over="ignore", invalid="ignore")
"""For functions of numbers that a run sends: where those are infinite, the answer says so, and numpy need not."""


@dataclass(frozen=True, slots=True)
class Look:
    """How much one look asks for, in rows: with another future, at random, for logits at some places each."""

    changed_rows: int
    random_rows: int
    logit_rows: int
    logit_places: int


HELD_PLACES = 1024
"""Prefixes of held rows in a second look."""


def first_look() -> Look:
    """At every run."""
    return Look(changed_rows=96, random_rows=32, logit_rows=96, logit_places=8)


def second_look(scored_rows: int) -> Look:
    """Before a keep. More where a score is of more rows: there it costs no more beside it."""
    return Look(max(1024, scored_rows * 2 // 5), random_rows=512, logit_rows=512, logit_places=40)


def choose(random: np.random.Generator, rows: int, row_tokens: int, count: int) -> tuple[Places, Places]:
    """`count` rows, each as often as any other, in random order, and a place in each."""
    repeated = np.concatenate([random.permutation(rows) for _ in range(math.ceil(count / rows))])[:count]
    return repeated, random.integers(0, row_tokens, size=count)


def with_other_future(
    random: np.random.Generator, rows: NDArray[np.uint16], place: Places, futures: NDArray[np.uint16]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Inputs and targets [n, T] of rows [n, T + 1] whose text after `place` [n] is that of some row of `futures`.

    Only the target at the place itself is still the old text's: the targets must not give the old future away.
    """
    changed = rows.copy()
    for i, t in enumerate(place):
        changed[i, t + 1 :] = futures[random.integers(len(futures)), t + 1 :]
    targets = changed[:, 1:].copy()
    targets[np.arange(len(rows)), place] = rows[np.arange(len(rows)), place + 1]
    return np.ascontiguousarray(changed[:, :-1]), targets


def random_rows(
    random: np.random.Generator, starts: NDArray[np.uint16], row_tokens: int, vocabulary: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Inputs and targets [n, T] of uniform random tokens after the `starts` [n] of rows."""
    rows = random.integers(0, vocabulary, (len(starts), row_tokens + 1), dtype=np.uint16)
    rows[:, 0] = starts
    return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])


def places_before(random: np.random.Generator, place: Places, count: int) -> Places:
    """[n, count]: the place itself and others at random before it."""
    others = (random.random((len(place), count - 1)) * (place[:, None] + 1)).astype(np.int64)
    return np.concatenate([place[:, None], others], axis=1)


@quiet
def nats_of(logits: NDArray[np.float32], targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """-log softmax(logits)[target], float64 [n, k] of logits [n, k, vocab]; off by 1e-6 of the largest difference."""
    below = logits - logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(below).sum(axis=-1, dtype=np.float64))
    chosen = np.take_along_axis(below, targets.astype(np.int64)[..., None], axis=-1)[..., 0]
    return np.asarray(total - chosen, dtype=np.float64)


def impossible(nats: Nats) -> tuple[str, str]:
    """The check, and what is wrong with nats that no probabilities have; two empty words when nothing is."""
    if not np.isfinite(nats).all():
        return "nan", "the model's loss is not finite on validation text"
    if nats.min() < -PREFIX_TOLERANCE_NATS:
        return "loss", f"the model's loss is {nats.min():.3f} nats at one place: that is a probability above one"
    return "", ""


@quiet
def looks_ahead(committed: Nats, again: Nats, place: Places) -> str:
    """What gives a model away whose nats [n, T] up to `place` [n] change with the text after it; "" when none do."""
    shown = np.arange(committed.shape[1]) <= place[:, None]
    moved = np.abs(again - committed)[shown]
    if moved.max() <= PREFIX_TOLERANCE_NATS:
        return ""
    count = int((~(moved <= PREFIX_TOLERANCE_NATS)).sum())
    return (
        f"{count} of {moved.size} predictions change with the text after them, the rows beside them or from call to "
        f"call (dropout?), by {moved.max():.3g} nats at most"
    )


@quiet
def foresees(nats: Nats, vocabulary: int) -> str:
    """What gives a model away that predicts random tokens, by its nats of them; "" when it does not.

    Whatever a causal model thinks, a uniform random token gets 1 / vocabulary of its probability on average, as long
    as that sums to one: the sum is a martingale's, whose chance is bounded (Ville, Etude critique de la notion de
    collectif, 1939). One that sees the token, is told it, or does not sum to one gets more, however rarely it does.
    """
    likely = np.exp(-np.clip(nats.astype(np.float64), -300.0, 300.0))
    expected = nats.size / vocabulary
    allowed = expected + LUCK + LUCK_DEVIATIONS * math.sqrt(float(np.minimum(likely, likely**2).sum()))
    if likely.sum() <= allowed:
        return ""
    return (
        f"it gives {nats.size} random tokens {likely.sum():.1f} of probability where chance is {expected:.1f} "
        f"({allowed:.1f} at most): it sees them, is told them, or does not sum to one"
    )


@quiet
def misreports(committed: Nats, own: Nats) -> str:
    """What gives a model away whose committed nats [n, k] are not those of its logits; "" when they are.

    Two ways: off on average, by more than rounding; or flattered at single places, as a few targets used would. The
    first column holds the places whose text after them was replaced. It is looked at alone, too: each of its places is
    as likely as any other, and only there do the logits not have the target in their input.
    """
    if not np.isfinite(own).all():
        return "the model's logits are not finite where its loss is"
    difference = committed.astype(np.float64) - own
    if fact := _off(difference[:, :1]) or _off(difference):
        return fact
    better, worse = int((difference < -OUTLIER_NATS).sum()), int((difference > OUTLIER_NATS).sum())
    if better > FLATTERED + FLATTERED_SHARE * worse:
        return f"{better} of {difference.size} places are over {OUTLIER_NATS} nats better than their own logits say"
    return ""


def _off(difference: NDArray[np.float64]) -> str:
    """What is wrong with differences [rows, k] that are not zero on average; "" when rounding explains them."""
    clipped = np.clip(difference, -ROUNDING_NATS, ROUNDING_NATS)
    for some, most in ((clipped, ROUNDING_DEVIATION), (difference, TURNED_DEVIATION)):
        chance = min(standard_error(some, CLIP_NATS), most / math.sqrt(len(some)))
        allowed = LOSS_TOLERANCE_NATS + STANDARD_ERRORS * chance
        if abs(some.mean()) > allowed:
            fact = f"the loss it reported is {difference.mean():+.4f} nats off its own logits on average"
            return f"{fact}, where {allowed:.4f} is rounding"
    return ""


@quiet
def remembers(held: Nats, scored_mean: float, rival: Nats | None, rival_mean: float) -> str:
    """What gives a model away that does worse on prefixes it was never sent than its score says; "" when it does not.

    `held` [rows, rounds]: nats on such prefixes; `rival`: the champion's on the same, with the mean nats of both
    scores. Without a rival the two texts are compared as they are, with the tolerance that this needs.
    """
    if rival is not None and rival.shape == held.shape:
        excess = held.astype(np.float64) - rival - (scored_mean - rival_mean)
        allowed = MEMORY_TOLERANCE_NATS + STANDARD_ERRORS * standard_error(excess, CLIP_NATS)
    else:
        excess = held.astype(np.float64) - scored_mean
        allowed = MEMORY_TOLERANCE_SHARE * scored_mean + STANDARD_ERRORS * standard_error(excess, CLIP_UNPAIRED_NATS)
    if excess.mean() <= allowed and math.isfinite(allowed):
        return ""
    fact = f"on text it was never sent its loss is {excess.mean():.3f} nats higher than its score promises"
    return f"{fact}, where {allowed:.3f} would be chance"


def standard_error(values: NDArray[np.float64], clip: float) -> float:
    """Of the mean of values [rows, k], whose rows are independent and whose columns need not be; none counts for more
    than `clip`."""
    means = np.clip(values, -clip, clip).mean(axis=1)
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.inf
