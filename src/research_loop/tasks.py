"""What the harness asks of a run, and hears of it: frozen, units in names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from research_loop.gpus import Gpu
from research_loop.records import Verified

Cut = tuple[int, int]
"""A range of validation rows: first and end."""


@dataclass(frozen=True, slots=True)
class Rival:
    """The champion's score, and its nats (little-endian float32) on the places of held rows that all runs are asked.

    `held_value` is the score of the runs that these are of, since others of its runs were luckier or less so; None
    where that is `value`.
    """

    value: float
    held_nats: bytes = b""
    held_value: float | None = None


@dataclass(frozen=True, slots=True)
class Exam:
    """What a run is asked; none of it is within its reach. `seed` chooses places and other futures.

    A score of `look_below` or less gets a second look, at the `held` rows too.
    `held_seed` chooses the places there, and stays the same, so that runs compare place by place: with the rival and
    with the `baseline`, or small false gains could follow upon each other.
    """

    validation: Path
    training: Path
    token_bytes: Path
    tokenizer: Path
    row_tokens: int
    scored: Cut
    held: Cut
    seed: int
    held_seed: int = 0
    rival: Rival | None = None
    baseline: Rival | None = None
    look_below: float = math.inf


@dataclass(frozen=True, slots=True)
class Marks:
    """What came of it. `value` and `exact` in bits per byte; seconds by the harness's clock: from the spawn until it
    was ready and until it had committed itself to a score, and from the one to the end of the exam."""

    value: float | None = None
    exact: float | None = None
    verified: Verified = "unverified"
    rejected: str = ""
    detail: str = ""
    ready_seconds: float | None = None
    committed_seconds: float | None = None
    exam_seconds: float | None = None
    held_nats: bytes = b""


@dataclass(frozen=True, slots=True)
class Pace:
    """The champion's curve, (share of the budget, loss in nats), how far its runs are apart there, and how strictly a
    run is held against it: from the share `first` on, with margins times `slack`. A run that is `spared` goes on even
    when it is hopeless."""

    points: tuple[tuple[float, float], ...]
    spread: tuple[tuple[float, float], ...]
    slack: float
    first: float
    spared: bool


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be started: a command in a prepared folder. With `exam`, the harness scores it.

    `limit_seconds` is the hard limit by the harness's clock, `budget_seconds` what the run is to train for. `gpu` is
    its own of those that `machine` names; None where there is no choice. `counts_passes` where lab.toml has a text: an
    `epoch: 2` in the log says then that it comes again, where in other tasks several are usual.
    """

    n: int
    k: int
    command: tuple[str, ...]
    folder: Path
    log: Path
    environment: Mapping[str, str]
    metric: str
    memory_metric: str
    budget_seconds: float
    limit_seconds: float
    exam: Exam | None = None
    pace: Pace | None = None
    gpu: Gpu | None = None
    machine: str | None = None
    counts_passes: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of a run while it goes on; values not yet seen are None."""

    n: int
    k: int
    seconds: float
    share: float | None = None
    loss: float | None = None
    line: str = ""
