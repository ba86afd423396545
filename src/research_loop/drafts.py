"""Drafts as the ledger keeps them: whom was asked, what that cost, and the proposal that came of it. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass

from research_loop.records import Draft, History, Proposal


@dataclass(frozen=True, slots=True)
class Asked:
    """One draft of `proposer`, made for the code of experiment `parent`; seconds are of wall clock, since `started_at`.

    `id` is its number in the ledger, below zero before it has one. The proposal stays here, so that one that was paid
    for and not run yet survives a kill.
    """

    proposer: str
    parent: int
    started_at: float
    seconds: float
    draft: Draft
    id: int = -1


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums over drafts. `usd` is of those whose cost is known, `unknown` counts the others; `estimated` says that the
    sum holds estimates."""

    drafts: int = 0
    proposals: int = 0
    tokens: int = 0
    usd: float = 0.0
    unknown: int = 0
    estimated: bool = False


def spent(asked: Iterable[Asked]) -> Spent:
    """What they cost together."""
    done = list(asked)
    usages = [one.draft.usage for one in done]
    return Spent(
        drafts=len(done),
        proposals=sum(one.draft.proposal is not None for one in done),
        tokens=sum((usage.tokens_in or 0) + (usage.tokens_out or 0) for usage in usages),
        usd=sum(usage.usd or 0.0 for usage in usages),
        unknown=sum(usage.usd is None for usage in usages),
        estimated=any(usage.cost == "estimated" for usage in usages),
    )


def waiting(asked: Iterable[Asked], history: History) -> list[Asked]:
    """Those whose proposal is for the champion's code and was never run, the oldest first."""
    run = {experiment.draft for experiment in history.experiments}
    champion = history.champion
    return [one for one in asked if champion and one.parent == champion.n and one.draft.proposal and one.id not in run]


# ------------------------------------------------------------------------------------------------------------ as text


def to_text(proposal: Proposal | None) -> str:
    """A proposal as JSON, its files as base64; empty for none."""
    if proposal is None:
        return ""
    files = {path: base64.b64encode(data).decode() for path, data in proposal.files.items()}
    return json.dumps({"files": files, "what": proposal.what, "why": proposal.why, "risk": proposal.risk})


def from_text(text: str, proposer: str, parent: int) -> Proposal | None:
    if not text:
        return None
    saved = json.loads(text)
    files = {path: base64.b64decode(data) for path, data in saved.pop("files").items()}
    return Proposal(files, **saved, proposer=proposer, parent=parent)
