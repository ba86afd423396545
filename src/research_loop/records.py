"""What the system knows, as frozen dataclasses. Units stand in the names; None means "not measured", never 0."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Files = Mapping[str, bytes]
"""Editable files of a lab: path relative to the lab's root -> content."""

Outcome = Literal["scored", "slowed", "rejected", "cut", "crash", "stopped", "lost"]
"""How a run ended: with a score; with one that does not count, for others slowed it; with one that the harness does not
believe; cut short, for it could not win; badly; stopped by the user; lost to a kill of the harness."""

VerdictKind = Literal["keep", "discard", "crash"]

Verified = Literal["unverified", "challenged", "confirmed"]


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
    places of its choice agreed with what it had reported, whatever text came after. confirmed: so they did at many
    more places, and on text that was never sent the model is as good. `exact` counts a token's true bytes, where
    `value` follows upstream's rule for tokens that are part of a character.
    """

    value: float
    verified: Verified = "unverified"
    exact: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the harness saw of one finished run.

    `reason` tells crashes apart: oom, nan, timeout, exit, signal, no-score; or rejected:<check> where the harness does
    not believe the score. `seconds` is spawn to end by the harness's clock; `startup_seconds` spawn to the first step,
    `ready_seconds` to "ready to be scored", `committed_seconds` to the answer that its score is made of; `exam_seconds`
    from ready to the last answer; the summary's figures are the run's own word. `hopeless_at` is the share of the
    budget at which its loss was too far above the champion's; some of such runs go on. `waited_share` is the share of
    its threads' time that other programs took, `braked_share` that of its time in which heat or the power supply held
    its GPU back. `machine` names what it trained on, `gpu` by its UUID which of several GPUs. `first_loss` is the first
    one that it printed.
    """

    outcome: Outcome
    reason: str = ""
    detail: str = ""
    score: Score | None = None
    exit_code: int | None = None
    seconds: float = 0.0
    startup_seconds: float | None = None
    ready_seconds: float | None = None
    committed_seconds: float | None = None
    exam_seconds: float | None = None
    training_seconds: float | None = None
    steps_per_second: float | None = None
    peak_vram_mb: float | None = None
    peak_ram_mb: float | None = None
    hopeless_at: float | None = None
    waited_share: float | None = None
    braked_share: float | None = None
    machine: str | None = None
    gpu: str | None = None
    first_loss: float | None = None
    summary: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()
    log_tail: str = ""
    held_nats: bytes = b""


SAME_SPEED = 0.08
"""Runs of one code whose steps a second differ by a smaller share ran under the same conditions."""


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
    """Edited files with what, why and risk. `parent` is the experiment whose code was edited, None for a baseline;
    `draft` the number of the draft that it comes of."""

    files: Files
    what: str
    why: str = ""
    risk: str = ""
    proposer: str = "user"
    parent: int | None = None
    draft: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a model read and wrote, and what that cost; None where nobody said."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    usd: float | None = None
    cost: Literal["reported", "estimated", "unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class Draft:
    """What came of asking a model or an agent. `detail` says why there is no proposal, or what else was seen: other
    files that were touched, rights that were refused. `session` is the agent's own name for its conversation."""

    proposal: Proposal | None
    detail: str = ""
    usage: Usage = Usage()
    session: str = ""


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
    draft: int | None = None

    @property
    def scored(self) -> tuple[Result, ...]:
        """Results of its runs with a score, in their order."""
        return tuple(run.result for run in self.runs if run.result and run.result.score)

    @property
    def alike(self) -> tuple[Result, ...]:
        """Results with a score that count, in their order: those of the machine of the newest.

        Of a kept one and of a baseline only those whose speed was about that of its newest three: others ran on a
        machine that was busy, hot or cold, and say nothing about the next run.
        """
        return self.on(self.machine)

    def on(self, machine: str | None) -> tuple[Result, ...]:
        """The same of one machine."""
        scored = tuple(result for result in self.scored if result.machine == machine)
        speeds = [result.steps_per_second for result in scored[-3:] if result.steps_per_second]
        usual = statistics.median_high(speeds) if speeds and (self.kept or self.parent is None) else None
        if not usual:
            return scored
        return tuple(r for r in scored if abs((r.steps_per_second or usual) / usual - 1) <= SAME_SPEED)

    def by_seed(self, results: Iterable[Result]) -> dict[int, Result]:
        """Some of its results, by their run's seed; of several with the same the newest."""
        counted = {id(result) for result in results}
        return {run.seed: run.result for run in self.runs if run.result and id(run.result) in counted}

    @property
    def machine(self) -> str | None:
        """What its newest run with a score trained on; None where that was not written down, or there is none."""
        return self.scored[-1].machine if self.scored else None

    @property
    def steady(self) -> bool:
        """Whether its newest score counts: where it does not, the machine may be about to change."""
        scored = self.scored
        return not scored or any(result is scored[-1] for result in self.alike)

    @property
    def counted(self) -> tuple[Score, ...]:
        """Scores that count."""
        return tuple(result.score for result in self.alike if result.score)

    @property
    def scores(self) -> tuple[float, ...]:
        """Their values."""
        return tuple(score.value for score in self.counted)

    @property
    def score(self) -> Score | None:
        """Mean of those that count; None when none was scored. Unverified when one of them is; confirmed when one is,
        since it is the same code."""
        scores = self.counted
        if not scores:
            return None
        seen = {score.verified for score in scores}
        verified: Verified = "confirmed" if "confirmed" in seen else "challenged"
        exact = [score.exact for score in scores if score.exact is not None]
        return Score(
            sum(score.value for score in scores) / len(scores),
            "unverified" if "unverified" in seen else verified,
            sum(exact) / len(exact) if len(exact) == len(scores) else None,
        )

    @property
    def last(self) -> Result | None:
        """Result of the newest finished run."""
        return next((r.result for r in reversed(self.runs) if r.result), None)

    @property
    def kept(self) -> bool:
        return self.verdict is not None and self.verdict.kind == "keep"


@dataclass(frozen=True, slots=True)
class History:
    """All experiments in order of their number: what a proposer sees and every view shows. `higher` says whether higher
    scores are better in this lab, `vram_mb` is the memory of the GPU that runs get."""

    experiments: tuple[Experiment, ...] = ()
    higher: bool = False
    vram_mb: float | None = None

    @property
    def baseline(self) -> Experiment | None:
        """The first one kept without a parent."""
        return next((e for e in self.experiments if e.parent is None and e.kept), None)

    @property
    def kept(self) -> tuple[Experiment, ...]:
        """In the order of their verdicts: with several runs at once that need not be the order of their numbers."""
        found = (e for e in self.experiments if e.kept)
        return tuple(sorted(found, key=lambda e: e.verdict.decided_at if e.verdict else 0.0))

    @property
    def champion(self) -> Experiment | None:
        """The last one kept: the tip of the branch."""
        kept = self.kept
        return kept[-1] if kept else None

    @property
    def open(self) -> tuple[Experiment, ...]:
        """Proposed, not yet decided."""
        return tuple(e for e in self.experiments if e.verdict is None)

    def line(self, n: int | None) -> tuple[Experiment, ...]:
        """Experiment `n` and those whose code it was made of, the newest first; empty for None."""
        known = {e.n: e for e in self.experiments}
        found: list[Experiment] = []
        while n is not None:
            found.append(known[n])
            n = known[n].parent
        return tuple(found)

    def authors(self, n: int | None) -> set[str]:
        """Proposers of an experiment and of all that its code was made of."""
        return {e.proposer for e in self.line(n)}

    def ours(self, proposer: str, parent: int | None) -> bool:
        """Whether no model wrote any of a code by this proposer on that parent."""
        return all(trusted(who) for who in (proposer, *self.authors(parent)))

    def by_key(self, key: str) -> Experiment | None:
        return next((e for e in self.experiments if e.key == key), None)


@dataclass(frozen=True, slots=True)
class Audit:
    """An experiment's code trained anew, with a seed of its own, and scored on text that nothing else was scored on."""

    n: int
    seed: int
    started_at: float
    result: Result


@dataclass(frozen=True, slots=True)
class Checkout:
    """The champion's files, for whoever edits; `context` holds locked files that may be read, not changed."""

    parent: int
    files: Files
    context: Files = field(default_factory=dict)


def trusted(proposer: str) -> bool:
    """Whether its code is the baseline's, or that with the built-in search's edits: no model can have written it."""
    return proposer.split("/")[0] in ("baseline", "search")
