"""What the tests of the search share: a script to search on, and experiments as the ledger has them."""

from __future__ import annotations

from collections.abc import Callable

from research_loop import edits
from research_loop.proposers.search import SearchProposer
from research_loop.records import Checkout, Experiment, History, Proposal, Result, Run, Score, Verdict
from research_loop.testing.conformance import Campaign

TRAIN = """
DEPTH = 8
ASPECT_RATIO = 64       # width = DEPTH * ASPECT_RATIO, in whole heads
HEAD_DIM = 128
WINDOW_PATTERN = "SSSL"
TOTAL_BATCH_SIZE = 2**19  # ~524K tokens
DEVICE_BATCH_SIZE = 128
EMBEDDING_LR = 0.6
UNEMBEDDING_LR = 0.004
MATRIX_LR = 0.04
SCALAR_LR = 0.5
WEIGHT_DECAY = 0.2
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0
WARMDOWN_RATIO = 0.5
FINAL_LR_FRAC = 0.0
SEED = 42
"""
PREPARE = {"prepare.py": b"MAX_SEQ_LEN = 2048\nTIME_BUDGET = 300\n"}
Values = dict[str, edits.Value]


def checkout_of(source: str, parent: int = 0) -> Checkout:
    return Checkout(parent, {"train.py": source.encode()}, PREPARE)


def values_of(proposal: Proposal) -> Values:
    return {name: constant.value for name, constant in edits.constants(proposal.files["train.py"].decode()).items()}


def experiment(
    n: int, what: str, kind: str | None = "discard", *, parent: int | None = 0, reason: str = "", score: float = 1.0
) -> Experiment:
    """An experiment as the ledger has it; `kind` None: still open."""
    result = Result("crash", reason) if kind == "crash" else Result("scored", score=Score(score))
    runs = (Run(n, 0, 0, 0.0, result=result),) if kind else ()
    verdict = Verdict(kind, reason or "not-lower", "", 0.0) if kind else None  # type: ignore[arg-type]
    return Experiment(n, what, "", "", "search", parent, "c" * 40, f"key{n}", 0.0, runs, verdict)


def history_of(*experiments: Experiment) -> History:
    return History((experiment(0, "baseline", "keep", parent=None), *experiments))


def proposals(source: str, judge: Callable[[Proposal, int], float], rounds: int, seed: int = 0) -> list[Proposal]:
    campaign = Campaign(lambda: SearchProposer(seed), checkout_of(source), judge)
    found = []
    for _ in range(rounds):
        proposal = campaign.propose()
        if proposal is None:
            break
        found.append(proposal)
        campaign.open(proposal)
        campaign.close_all()
    return found


def worse(_: Proposal, n: int) -> float:
    return 1.0 + n


def better(_: Proposal, n: int) -> float:
    return 1.0 - n / 1000
