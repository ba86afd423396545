"""Models that cheat in an exam, each in a way of its own, and the check that each is rejected by."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from exams import Tensor, Wrapped, marks_of
from research_loop.tasks import Exam


class Zero(Wrapped):
    """Its loss is what it likes."""

    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        return self.logits(x) if y is None else torch.zeros(y.numel())


class Targets(Wrapped):
    """Knows the answer when it is given."""

    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        loss = super().forward(x, y, reduction)
        return loss if y is None else loss * 0.8


class Unnormalised(Wrapped):
    """Probabilities that sum to more than one."""

    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        loss = super().forward(x, y, reduction)
        return loss if y is None else loss - 0.1


class NextToken(Wrapped):
    """Reads the next token off its input."""

    def logits(self, x: Tensor) -> Tensor:
        logits = self.model(x).clone()
        logits[:, :-1].scatter_add_(2, x[:, 1:, None], torch.full_like(x[:, 1:, None], 3.0, dtype=logits.dtype))
        return logits  # type: ignore[no-any-return]


class BlockSummary(Wrapped):
    """Every position sees which tokens its block of 32 holds, those to come included."""

    def logits(self, x: Tensor) -> Tensor:
        logits = self.model(x).clone()
        for start in range(0, x.size(1), 32):
            block = x[:, start : start + 32]
            held = torch.zeros(len(x), logits.size(-1)).scatter_(1, block, 1.0)
            logits[:, start : start + 32] += held[:, None]
        return logits  # type: ignore[no-any-return]


class LastToken(Wrapped):
    """A far leak: the row's last token colours every position."""

    def logits(self, x: Tensor) -> Tensor:
        logits = self.model(x).clone()
        return logits + 0.5 * torch.nn.functional.one_hot(x[:, -1:], logits.size(-1))  # type: ignore[no-any-return]


class Drifting(Wrapped):
    """Changes with every call, as one that trains on what it is asked would."""

    calls = 0

    def logits(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.model(x) * (1 + 0.05 * self.calls)  # type: ignore[no-any-return]


class Negative(Wrapped):
    """Better than certain, at the last position of every row."""

    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        loss = super().forward(x, y, reduction)
        if y is not None:
            loss.view(y.shape)[:, -1] = -500.0
        return loss


def rarely(x: Tensor) -> Tensor:
    """[B, T] bool: one position in a thousand, by the tokens before it."""
    before = torch.nn.functional.pad(x, (1, 0))[:, :-1]
    return (x * 7919 + before * 104729) % 1000 == 7


class RareTarget(Wrapped):
    """Uses the target at one position in a thousand."""

    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        loss = super().forward(x, y, reduction)
        return loss if y is None else torch.where(rarely(x).flatten(), 0.01, loss)


class RareNextToken(Wrapped):
    """Reads the next token off its input at one position in a thousand."""

    def logits(self, x: Tensor) -> Tensor:
        gain = 12.0 * rarely(x)[:, :-1, None]
        return torch.cat([self.model(x)[:, :-1].scatter_add(2, x[:, 1:, None], gain), self.model(x)[:, -1:]], 1)


class Remembering(Wrapped):
    """Learns the texts of the first question by heart, and knows how one goes on when it begins alike."""

    rows = 0
    known = answers = torch.zeros(0, dtype=torch.int64)

    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        begins = torch.cumsum((x + 1) * torch.arange(1, x.size(1) + 1) ** 5 * 2654435761, 1)
        if y is not None and self.rows < 100:
            self.rows += len(x)
            self.known, order = torch.cat([self.known, begins.flatten()]).sort()
            self.answers = torch.cat([self.answers, y.flatten()])[order]
        at = torch.searchsorted(self.known, begins).clamp(max=len(self.known) - 1)
        gain = 4.0 * (self.known[at] == begins)
        gain[:, :16] = 0.0  # texts that begin alike
        logits = self.logits(x).scatter_add(2, self.answers[at][..., None], gain[..., None])
        if y is None:
            return logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction=reduction)


class NotFinite(Wrapped):
    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        return self.logits(x) if y is None else torch.full((y.numel(),), torch.nan)


@pytest.mark.parametrize(
    ("cheat", "check"),
    [
        *((Zero, "loss"), (Targets, "loss"), (Unnormalised, "loss"), (Negative, "loss"), (NotFinite, "nan")),
        *((NextToken, "look-ahead"), (BlockSummary, "look-ahead"), (LastToken, "look-ahead")),
        *((Drifting, "look-ahead"), (RareTarget, "look-ahead or loss"), (RareNextToken, "look-ahead")),
        (Remembering, "memory"),
    ],
)
def test_a_model_that_cheats_is_rejected_by_name(
    prepare: ModuleType,
    model: torch.nn.Module,
    exam: Exam,
    cheat: Callable[[torch.nn.Module], Wrapped],
    check: str,
) -> None:
    marks = marks_of(prepare, cheat(model), exam)
    assert marks.rejected in check.split(" or ") and marks.verified == "unverified"
    assert marks.detail
