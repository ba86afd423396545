"""What the system knows, as frozen dataclasses. Units stand in the names; None means "not measured", never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Files = Mapping[str, bytes]
"""Editable files of a lab: path relative to the lab's root -> content."""

Outcome = Literal["scored", "rejected", "crash", "stopped", "lost"]
"""How a run ended: with a score; with one that the harness does not believe; badly; stopped by the user; lost to a
kill of the harness."""

VerdictKind = Literal["keep", "discard", "crash"]


@dataclass(frozen=True, slots=True)
class Point:
    """One progress line of a run: share of the time budget (0 to 1), seconds since spawn, training loss in nats."""

    share: float
    seconds: float
    loss: float


@dataclass(frozen=True, slots=True)
class Score:
    """A run's metric and how far it was verified.

    unverified: it is the run's own word. challenged: the harness held the validation rows, and the model's logits at
    places of its choice agreed with what it had reported, whatever text came after.
    """

    value: float
    verified: Literal["unverified", "challenged"] = "unverified"


@dataclass(frozen=True, slots=True)
class Result:
    """What the harness saw of one finished run.

    `reason` tells crashes apart: oom, nan, timeout, exit, signal, no-score; or rejected:<check> where the harness does
    not believe the score. `seconds` is spawn to end by the
    harness's clock; `startup_seconds` spawn to the first step; the summary's figures are the run's own word.
    """

    outcome: Outcome
    reason: str = ""
    detail: str = ""
    score: Score | None = None
    exit_code: int | None = None
    seconds: float = 0.0
    startup_seconds: float | None = None
    ready_seconds: float | None = None
    training_seconds: float | None = None
    peak_vram_mb: float | None = None
    peak_ram_mb: float | None = None
    summary: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One training process of an experiment; `k` counts from 0. `result` is None while it runs."""

    n: int
    k: int
    seed: int
    started_at: float
    keeper_pid: int | None = None
    keeper_create_time: float | None = None
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """keep, discard or crash; `reason` is a word (lower, not-lower, oom, nan, timeout ...), `detail` a sentence."""

    kind: VerdictKind
    reason: str
    detail: str
    decided_at: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """Edited files with what, why and risk. `parent` is the experiment whose code was edited, None for a baseline."""

    files: Files
    what: str
    why: str = ""
    risk: str = ""
    proposer: str = "user"
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One proposal and what came of it. `key` is the canonical hash of its code, `commit` its git commit."""

    n: int
    what: str
    why: str
    risk: str
    proposer: str
    parent: int | None
    commit: str
    key: str
    created_at: float
    runs: tuple[Run, ...] = ()
    verdict: Verdict | None = None

    @property
    def score(self) -> Score | None:
        """Mean over the scored runs, verified as far as all of them; None when none was scored."""
        scores = [r.result.score for r in self.runs if r.result and r.result.score]
        if not scores:
            return None
        challenged = all(score.verified == "challenged" for score in scores)
        return Score(sum(s.value for s in scores) / len(scores), "challenged" if challenged else "unverified")

    @property
    def last(self) -> Result | None:
        """Result of the newest finished run."""
        return next((r.result for r in reversed(self.runs) if r.result), None)

    @property
    def kept(self) -> bool:
        return self.verdict is not None and self.verdict.kind == "keep"


@dataclass(frozen=True, slots=True)
class History:
    """All experiments in order of their number: what a proposer sees and every view shows."""

    experiments: tuple[Experiment, ...] = ()

    @property
    def baseline(self) -> Experiment | None:
        """The first one kept without a parent."""
        return next((e for e in self.experiments if e.parent is None and e.kept), None)

    @property
    def champion(self) -> Experiment | None:
        """The newest one kept: the tip of the branch."""
        return next((e for e in reversed(self.experiments) if e.kept), None)

    @property
    def open(self) -> tuple[Experiment, ...]:
        """Proposed, not yet decided."""
        return tuple(e for e in self.experiments if e.verdict is None)

    def by_key(self, key: str) -> Experiment | None:
        return next((e for e in self.experiments if e.key == key), None)


@dataclass(frozen=True, slots=True)
class Checkout:
    """The champion's files, for whoever edits; `context` holds locked files that may be read, not changed."""

    parent: int
    files: Files
    context: Files = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exam:
    """What a run is asked; none of it is within its reach. `seed` chooses positions and replacements."""

    validation: Path
    training: Path
    token_bytes: Path
    row_tokens: int
    rows: int
    seed: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What came of it. `ready_seconds` is the harness's clock since the spawn; `value` bits per byte."""

    value: float | None = None
    verified: Literal["unverified", "challenged"] = "unverified"
    rejected: str = ""
    detail: str = ""
    ready_seconds: float | None = None
    exam_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be started: a command in a prepared folder. With `exam`, the harness scores it.

    `limit_seconds` is the hard limit by the harness's clock, `budget_seconds` what the run is to train for.
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


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of a run while it goes on; values not yet seen are None."""

    n: int
    k: int
    seconds: float
    share: float | None = None
    loss: float | None = None
    line: str = ""
