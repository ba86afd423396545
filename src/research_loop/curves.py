"""Learning curves: whether a run that is still going on can end better than the champion. Pure functions.

A run is hopeless when its training loss lies further above the champion's, at the same share of the budget, than any
later winner was ever seen to lie (in published logs of modded-nanogpt: 3.1 % above at a quarter of the run, 2.8 % at
half, 1.3 % at three quarters, 0.5 % at nine tenths), and as much again, for those were validation losses. Changes of
schedule, batch, rates or code cross late, so for them only the end counts, and the margins are half as much again. The
idea is that of Domhan et al., Speeding up automatic hyperparameter optimization by extrapolation of learning curves,
2015; here nothing is extrapolated.

Nor is a run looked at once it sees its text again: what learns that anew has a higher loss for a while, sooner or later
than the champion's had. Passes are counted only where lab.toml has a text ([data]): elsewhere several are usual.
"""

from __future__ import annotations

import bisect
import itertools
import random
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from research_loop.records import Point
from research_loop.tasks import Pace

MARGINS = ((0.25, 0.06), (0.5, 0.04), (0.75, 0.02), (0.9, 0.009))
"""Share of the budget, and how far above the champion's loss, as a share of it; straight lines between."""
EVERY, LAST = 0.05, 0.95
"""Where it is looked at; two looks in a row have to agree."""
LATE, WIDER = 0.75, 1.5
NOISE = 4.0
"""Deviations between the champion's own curves, on top of the margin."""
EPOCHS = "epochs"
"""In a run's summary: the pass over its text that its log came to, where that is not the first."""
SPARED = 0.1
"""Of hopeless runs go on all the same: those that end better tell how often the rule is wrong."""
_CROSSES = re.compile(
    r"(.*_)?(WARM\w*|COOL\w*|LR|RATE|FINAL|DECAY|BATCH|SCHEDULE|MOMENTUM|DIP|BETAS?|AVERAGE|EMA)(_.*)?"
)


@dataclass(slots=True)
class Gate:
    """Looks at one run; `see` is told of its progress and says once that it is hopeless."""

    pace: Pace
    hopeless_at: float | None = None
    _next: float = field(init=False)
    _over: int = 0

    def __post_init__(self) -> None:
        self._next = self.pace.first

    def see(self, share: float | None, loss: float | None) -> bool:
        """True at the look, once, at which it turns out hopeless. `share` is of the budget, `loss` in nats."""
        if share is None or loss is None or share < self._next or share > LAST or self.hopeless_at is not None:
            return False
        self._next = share + EVERY
        usual = loss_at(self.pace.points, share)
        spread = loss_at(self.pace.spread, share) or 0.0
        if usual is None or usual <= 0:  # shares of a loss below zero mean nothing
            return False
        worse = loss > usual * (1 + margin(share) * self.pace.slack) + NOISE * spread
        self._over = self._over + 1 if worse else 0
        if self._over < 2:
            return False
        self.hopeless_at = share
        return True


def margin(share: float) -> float:
    """How far above is too far, as a share of the champion's loss."""
    places, margins = zip(*MARGINS, strict=True)
    if share >= places[-1]:
        return float(margins[-1])
    i = max(1, bisect.bisect_right(places, share))
    left = (share - places[i - 1]) / (places[i] - places[i - 1])
    return float(margins[i - 1] + left * (margins[i] - margins[i - 1]))


def loss_at(points: Sequence[tuple[float, float]], share: float) -> float | None:
    """Of a curve of (share, loss), between its points; None outside them."""
    for (a, low), (b, high) in itertools.pairwise(points):
        if a <= share <= b:
            return low if a == b else low + (share - a) / (b - a) * (high - low)
    return None


def pace_of(curves: Iterable[tuple[Point, ...]], changed: Iterable[str] | None, seed: int) -> Pace | None:
    """What a new run is held against: the median of the champion's curves on a grid of hundredths.

    `changed` names the constants that differ, None where code does. None where the champion has not two curves, by
    which to tell how much losses differ by themselves.
    """
    known = [[(point.share, point.loss) for point in curve] for curve in curves if len(curve) > 1]
    points, spread = [], []
    for share in (i / 100 for i in range(101)):
        losses = [loss for curve in known if (loss := loss_at(curve, share)) is not None]
        if len(losses) > 1:
            points.append((share, statistics.median(losses)))
            spread.append((share, statistics.stdev(losses)))
    if len(points) < 2:
        return None
    crosses = changed is None or any(_CROSSES.fullmatch(name) for name in changed)
    spared = random.Random(seed).random() < SPARED
    return Pace(tuple(points), tuple(spread), WIDER if crosses else 1.0, LATE if crosses else MARGINS[0][0], spared)


def text_again(summaries: Iterable[Mapping[str, float]]) -> str:
    """What to do about runs that see their text more than once; "" where none does."""
    last = max((int(summary.get(EPOCHS, 1)) for summary in summaries), default=1)
    cure = "a new lab with more of it (`--num-shards`, `--data`), or with a shorter --budget, tells more"
    return f"text: runs come to pass {last} over it, and learn some of it by heart: {cure}" if last > 1 else ""
