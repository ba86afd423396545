"""The harness asks a model that trained, and believes what survives its questions."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from exams import Tensor, Wrapped, marks_of
from research_loop.challenge import HELD_PLACES
from research_loop.data.preparation import prepare_lab
from research_loop.exam import set_exam
from research_loop.lab import Lab, open_lab
from research_loop.tasks import Exam, Marks, Rival


@pytest.fixture(scope="module")
def honest(prepare: ModuleType, model: torch.nn.Module, exam: Exam) -> Marks:
    return marks_of(prepare, model, exam)


def test_an_honest_model_is_challenged_and_scored_as_by_hand(
    prepare: ModuleType, model: torch.nn.Module, exam: Exam, honest: Marks
) -> None:
    by_hand = prepare.evaluate_bpb(model, prepare.Tokenizer.from_directory(), 4)
    for marks in (honest, marks_of(prepare, model, exam, batch=37)):
        assert (marks.verified, marks.rejected) == ("confirmed", ""), marks.detail
        assert marks.value == pytest.approx(by_hand, rel=1e-3)
        assert marks.exact is not None and marks.exact == pytest.approx(by_hand, rel=0.05)
        assert marks.ready_seconds is not None and marks.committed_seconds is not None
        assert 0 <= marks.ready_seconds < marks.committed_seconds


def test_a_second_look_is_for_what_would_be_kept_and_compares_place_by_place(
    prepare: ModuleType, model: torch.nn.Module, exam: Exam, honest: Marks
) -> None:
    assert honest.value is not None and len(honest.held_nats) >= 4 * HELD_PLACES
    behind = marks_of(prepare, model, replace(exam, look_below=honest.value - 0.1))
    assert (behind.verified, behind.held_nats) == ("challenged", b"")
    ahead = marks_of(prepare, model, replace(exam, seed=6, rival=Rival(honest.value + 0.1, honest.held_nats)))
    assert ahead.rejected == "memory"  # as good on held rows as its equal, and 0.1 better by its score
    luckier = replace(exam, seed=6, rival=Rival(honest.value + 0.1, honest.held_nats, honest.value))
    assert marks_of(prepare, model, luckier).verified == "confirmed", "compared with the score of the same runs"
    equal = replace(exam, seed=6, rival=Rival(honest.value + 1e-9, honest.held_nats))
    assert marks_of(prepare, model, equal).verified == "confirmed"


def test_with_too_few_rows_held_back_a_score_stays_challenged(
    prepare: ModuleType, model: torch.nn.Module, exam: Exam
) -> None:
    marks = marks_of(prepare, model, replace(exam, held=(exam.held[0], exam.held[0] + 11)))
    assert (marks.verified, marks.rejected, marks.held_nats) == ("challenged", "", b"")


@pytest.mark.parametrize(("rows", "said"), [(11, True), (12, False)])
def test_too_few_rows_held_back_are_said_when_a_lab_is_prepared(
    gpt_lab: Lab, tmp_path: Path, rows: int, said: bool
) -> None:
    lab = open_lab(Path(shutil.copytree(gpt_lab.root, tmp_path / "lab", symlinks=True)))
    report = lab.root / "data" / "prepared.json"
    prepared = json.loads(report.read_text())
    prepared["cuts"]["confirm"] = [100, 100 + rows]
    report.write_text(json.dumps(prepared))
    lines: list[str] = []
    prepare_lab(lab, say=lines.append)
    found = [line for line in lines if "11 rows of it are never sent" in line and "give more text" in line]
    assert len(found) == int(said)


def test_a_model_without_logits_is_unverified_and_says_so(
    prepare: ModuleType,
    model: torch.nn.Module,
    exam: Exam,
) -> None:
    class LossOnly(Wrapped):
        def forward(self, x: Tensor, y: Tensor | None = None, reduction: str = "none") -> Tensor:
            if y is None:
                raise TypeError("targets are needed")
            return super().forward(x, y, reduction)

    marks = marks_of(prepare, LossOnly(model), exam)
    assert marks.value is not None and marks.verified == "unverified" and not marks.rejected
    assert "gives no logits" in marks.detail


def test_a_model_whose_logits_are_wider_than_the_vocabulary_is_told(
    prepare: ModuleType, model: torch.nn.Module, exam: Exam, capfd: pytest.CaptureFixture[str]
) -> None:
    class Padded(Wrapped):
        def logits(self, x: Tensor) -> Tensor:
            return torch.nn.functional.pad(self.model(x), (0, 64), value=-torch.inf)

    assert marks_of(prepare, Padded(model), exam).verified == "unverified"
    assert "its logits are 1088 wide, the vocabulary is 1024" in capfd.readouterr().out


def test_positions_and_futures_differ_from_run_to_run(gpt_lab: Lab) -> None:
    exam = set_exam(gpt_lab.root / "data", seed=1)
    assert exam is not None and replace(exam, seed=2) != exam
    assert os.environ.get("RESEARCH_LOOP_EXAM") is None and sys.modules["prepare"] is not None
    assert np.load(exam.token_bytes).shape == (1024,)
