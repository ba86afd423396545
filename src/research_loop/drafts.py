"""Drafts as the ledger keeps them: whom was asked, what that cost, and the proposal that came of it. Pure."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

from research_loop.records import Draft, Proposal

GIVEN_UP = "draft given up: "
"""With its number the key of a note in the ledger: why a proposal is not run."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One draft of `proposer`, made for the code of experiment `parent`; seconds are of wall clock, since `started_at`.

    `id` is its number in the ledger, from its begin on. The proposal stays here, so that one that was paid for and not
    run yet survives a kill.
    """

    proposer: str
    parent: int
    started_at: float
    seconds: float
    draft: Draft
    id: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums over drafts. `usd` is of those whose cost is known, `unknown` counts the others; `estimated` says that the
    sum holds estimates that are not zero."""

    drafts: int = 0
    proposals: int = 0
    tokens: int = 0
    usd: float = 0.0
    unknown: int = 0
    estimated: bool = False


NOTHING_SPENT = Spent()

# ------------------------------------------------------------------------------------------------------------ as text


def to_text(proposal: Proposal | None) -> str:
    """A proposal as JSON, its files compressed; empty for none."""
    if proposal is None:
        return ""
    files = {path: base64.b64encode(zlib.compress(data)).decode() for path, data in proposal.files.items()}
    return json.dumps({"zlib": files, "what": proposal.what, "why": proposal.why, "risk": proposal.risk})


def from_text(text: str, proposer: str, parent: int) -> Proposal | None:
    if not text:
        return None
    saved = json.loads(text)
    plain = {path: base64.b64decode(data) for path, data in saved.pop("files", {}).items()}  # as format 5 had them
    packed = {path: zlib.decompress(base64.b64decode(data)) for path, data in saved.pop("zlib", {}).items()}
    files = plain | packed
    return Proposal(files, **saved, proposer=proposer, parent=parent)
