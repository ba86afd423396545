"""What the tests of exams share: an exam over a real socket, and a model to be tampered with."""

from __future__ import annotations

import socket
import threading
import time
from types import ModuleType
from typing import Any

import torch

from research_loop.exam import examine
from research_loop.tasks import Exam, Marks

Tensor = torch.Tensor


def marks_of(prepare: ModuleType, model: Any, exam: Exam, batch: int = 8) -> Marks:
    """The exam over a real socket, the model's side in a thread."""
    ours, theirs = socket.socketpair()
    said: list[float] = []
    run = threading.Thread(target=lambda: said.append(prepare.answer_harness(model, batch, theirs.fileno())))
    with ours, theirs, torch.no_grad():
        torch.set_grad_enabled(False)
        run.start()
        marks = examine(ours, exam, time.monotonic(), 120)
        run.join()
    assert said == [marks.value] or (marks.value is None and said[0] != said[0])
    return marks


class Wrapped(torch.nn.Module):
    """A model whose answers somebody has tampered with."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def logits(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
        logits = self.logits(x)
        if y is None:
            return logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction=reduction)
