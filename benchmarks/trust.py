"""How often the score's checks see a cheat, and how often they take an honest model for one.

    uv run python benchmarks/trust.py LAB [--exams 30] [--budget 20]

LAB is a prepared GPT lab; its train.py is trained once, then examined again and again over a real socket, each time
with other rows and places, as it is and with small cheats put over it. Prints a table for RESULTS.md.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from research_loop.challenge import first_look, second_look
from research_loop.exam import examine, set_exam
from research_loop.tasks import Exam, Marks

SHARE = 0.001
CERTAIN = 40.0
"""Added to a logit: the token is as good as known."""


class Over(torch.nn.Module):
    """A trained model with something put over its answers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)

    def forward(self, x: Any, y: Any = None, reduction: str = "mean") -> torch.Tensor:
        logits = self.logits(x)
        if y is None:
            return logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction=reduction)


def rarely(x: torch.Tensor) -> torch.Tensor:
    """[B, T]: SHARE of the positions, by the two tokens up to them."""
    before = torch.nn.functional.pad(x, (1, 0))[:, :-1]
    return (x * 7919 + before * 104729 + 12345) % 1_000_003 < SHARE * 1_000_003


class NextToken(Over):
    """Reads the next token off its input, rarely."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.model(x)
        gain = CERTAIN * rarely(x)[:, :-1, None]
        return torch.cat([logits[:, :-1].scatter_add(2, x[:, 1:, None], gain), logits[:, -1:]], 1)


class CarefulNextToken(Over):
    """The same, but only where the next token is likely anyway: random text is left alone."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.model(x)
        likely = logits[:, :-1].log_softmax(-1).gather(2, x[:, 1:, None]) > math.log(0.02)
        gain = CERTAIN * rarely(x)[:, :-1, None] * likely
        return torch.cat([logits[:, :-1].scatter_add(2, x[:, 1:, None], gain), logits[:, -1:]], 1)


class Target(Over):
    """Uses the target, rarely."""

    def forward(self, x: Any, y: Any = None, reduction: str = "mean") -> torch.Tensor:
        loss = super().forward(x, y, reduction)
        return loss if y is None else torch.where(rarely(x).flatten(), 0.01, loss)


def examined(prepare: Any, model: Any, exam: Exam, batch: int) -> Marks:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        run = threading.Thread(target=prepare.answer_harness, args=(model, batch, theirs.fileno()), daemon=True)
        run.start()
        marks = examine(ours, exam, time.monotonic(), 600.0)
        run.join()
    return marks


def trained(train: Any, prepare: Any) -> torch.nn.Module:
    """The lab's own model after its budget."""
    torch.manual_seed(1)
    model = train.GPT(prepare.VOCAB_SIZE)
    batches = prepare.make_dataloader(
        prepare.Tokenizer.from_directory(), train.DEVICE_BATCH_SIZE, prepare.MAX_SEQ_LEN, "train"
    )
    per_pass = train.DEVICE_BATCH_SIZE * prepare.MAX_SEQ_LEN
    train.train(model, batches, train.TOTAL_BATCH_SIZE // per_pass)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lab", type=Path)
    parser.add_argument("--exams", type=int, default=30)
    parser.add_argument("--budget", type=float, default=20.0)
    asked = parser.parse_args()
    os.chdir(asked.lab)
    sys.path.insert(0, str(asked.lab))
    import prepare

    prepare.TIME_BUDGET = asked.budget
    import train

    model = trained(train, prepare)
    exam = set_exam(asked.lab / "data", seed=0)
    assert exam is not None, "prepare the lab first"
    scored = exam.scored[1]
    print(f"scored rows {scored}; a first look: {first_look()}; a second: {second_look(scored)}")
    print("| model | exams | first look | before a keep | bits per byte | seconds, score only | + first | + second |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in (Over, NextToken, CarefulNextToken, Target):
        row(kind.__name__, kind(model), prepare, exam, train.DEVICE_BATCH_SIZE, asked.exams)


def row(name: str, model: Any, prepare: Any, exam: Exam, batch: int, exams: int) -> None:
    seen: Counter[str] = Counter()
    values, seconds = [], {"score": [], "first": [], "second": []}
    for seed in range(1, exams + 1):
        first = examined(prepare, model, replace(exam, seed=seed, look_below=-1.0), batch)
        second = examined(prepare, model, replace(exam, seed=seed + 10_000), batch)
        seen["first"] += bool(first.rejected)
        seen["second"] += bool(first.rejected or second.rejected)
        values.append(second.value or first.value or math.nan)
        score = (second.committed_seconds or 0.0) - (second.ready_seconds or 0.0)
        seconds["score"].append(score)
        seconds["first"].append((first.exam_seconds or 0.0) - score)
        seconds["second"].append((second.exam_seconds or 0.0) - score)
    medians = " | ".join(f"{statistics.median(found):.1f}" for found in seconds.values())
    print(
        f"| {name} | {exams} | {seen['first']} | {seen['second']} | {statistics.mean(values):.4f} | {medians} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
