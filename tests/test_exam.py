"""The harness asks a model that trained, and believes what survives its questions."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from research_loop.challenge import HELD_PLACES
from research_loop.channel import Channel
from research_loop.errors import SandboxError
from research_loop.exam import examine, set_exam, show_training_data
from research_loop.lab import Lab, open_lab
from research_loop.loop import ensure_baseline
from research_loop.records import Exam, Marks, Proposal, Rival
from research_loop.runners.local import LocalRunner
from research_loop.sandbox import choose
from research_loop.session import Session
from runs import make_job, run

Tensor = torch.Tensor


@pytest.fixture(scope="module")
def exam(gpt_lab: Lab) -> Exam:
    found = set_exam(gpt_lab.root / "data", seed=5)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def model(train: ModuleType, prepare: ModuleType) -> Iterator[torch.nn.Module]:
    """A model of two seconds' training: its predictions are sharp enough to leak something."""
    torch.manual_seed(1)
    made = train.GPT(1024)
    optimizer = train.Optimizer(made)
    batches = prepare.make_dataloader(prepare.Tokenizer.from_directory(), 8, 256, "train")
    for step in range(30):
        x, y, _ = next(batches)
        made(x, y).backward()
        optimizer.step(0.2, step)
    yield made.eval()


def marks_of(prepare: ModuleType, model: Any, exam: Exam, batch: int = 32) -> Marks:
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


def test_an_honest_model_is_challenged_and_scored_as_by_hand(
    prepare: ModuleType,
    model: torch.nn.Module,
    exam: Exam,
) -> None:
    by_hand = prepare.evaluate_bpb(model, prepare.Tokenizer.from_directory(), 4)
    for batch in (16, 37):
        marks = marks_of(prepare, model, exam, batch)
        assert (marks.verified, marks.rejected) == ("confirmed", ""), marks.detail
        assert marks.value == pytest.approx(by_hand, rel=1e-3)
        assert marks.exact is not None and marks.exact == pytest.approx(by_hand, rel=0.05)
        assert marks.ready_seconds is not None and marks.committed_seconds is not None
        assert 0 <= marks.ready_seconds < marks.committed_seconds


def test_a_second_look_is_for_what_would_be_kept_and_compares_place_by_place(
    prepare: ModuleType, model: torch.nn.Module, exam: Exam
) -> None:
    first = marks_of(prepare, model, exam)
    assert first.value is not None and len(first.held_nats) >= 4 * HELD_PLACES
    behind = marks_of(prepare, model, replace(exam, rival=Rival(first.value - 0.1)))
    assert (behind.verified, behind.held_nats) == ("challenged", b"")
    ahead = marks_of(prepare, model, replace(exam, seed=6, rival=Rival(first.value + 0.1, first.held_nats)))
    assert ahead.rejected == "memory"  # as good on held rows as its equal, and 0.1 better by its score
    equal = replace(exam, seed=6, rival=Rival(first.value + 1e-9, first.held_nats))
    assert marks_of(prepare, model, equal).verified == "confirmed"


def test_with_too_few_rows_held_back_a_score_stays_challenged(
    prepare: ModuleType, model: torch.nn.Module, exam: Exam
) -> None:
    marks = marks_of(prepare, model, replace(exam, held=(exam.held[0], exam.held[0] + 11)))
    assert (marks.verified, marks.rejected, marks.held_nats) == ("challenged", "", b"")


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
    """Every position sees which tokens its block of 64 holds, those to come included."""

    def logits(self, x: Tensor) -> Tensor:
        logits = self.model(x).clone()
        for start in range(0, x.size(1), 64):
            block = x[:, start : start + 64]
            held = torch.zeros(len(x), logits.size(-1)).scatter_(1, block, 1.0)
            logits[:, start : start + 64] += held[:, None]
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
        if y is not None and self.rows < 60:
            self.rows += len(x)
            self.known, order = torch.cat([self.known, begins.flatten()]).sort()
            self.answers = torch.cat([self.answers, y.flatten()])[order]
        at = torch.searchsorted(self.known, begins).clamp(max=len(self.known) - 1)
        gain = 3.0 * (self.known[at] == begins)
        gain[:, :32] = 0.0  # texts that begin alike
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
        *((Drifting, "look-ahead"), (RareTarget, "look-ahead"), (RareNextToken, "look-ahead")),
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
    assert marks.rejected == check and marks.verified == "unverified"
    assert marks.detail


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


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello\n",
        b'{"bytes": 1e99}\n',
        b'{"bytes": -1}\n',
        b"[]\n",
        b"x" * 10_000,
        b'{"bytes": 0}\n{"bytes": 4}\nabcd',
    ],
)
def test_a_run_that_talks_nonsense_or_ends_gets_no_marks(exam: Exam, answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        marks = examine(ours, exam, time.monotonic(), 2)
        theirs.close()
    assert marks.value is None and marks.verified == "unverified" and marks.detail


def test_a_run_that_never_answers_is_given_up_in_time(exam: Exam) -> None:
    ours, theirs = socket.socketpair()
    start = time.monotonic()
    with ours, theirs:
        assert "did not answer in time" in examine(ours, exam, start, 0.2).detail
    assert time.monotonic() - start < 5


def test_a_message_larger_than_asked_for_is_not_read(exam: Exam) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(json.dumps({"bytes": 10**12}).encode() + b"\n")
        with pytest.raises(Exception, match="1000000000000 bytes where 8 at most"):
            Channel(ours, 1.0).receive(most_bytes=8)


def test_no_validation_text_is_in_a_runs_data(gpt_lab: Lab, tmp_path: Path) -> None:
    show_training_data(gpt_lab.root / "data", tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert "train_256.u16" in names and "tokenizer.json" in names
    assert not any(name.startswith("val_") for name in names)
    shards = sorted((tmp_path / "data" / "shards").iterdir())
    assert [path.stat().st_size > 0 for path in shards] == [True] * (len(shards) - 1) + [False]


CHEATS_AT_THE_END = 'print("---\\nval_bpb:          0.100000")\n'


def test_the_loop_keeps_what_was_challenged_and_not_what_only_prints(gpt_lab: Lab) -> None:
    lab = open_lab(gpt_lab.root)
    with Session(lab, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None and baseline.score is not None and baseline.score.verified == "confirmed"
        last = baseline.last
        assert last is not None and last.ready_seconds is not None and last.committed_seconds is not None
        assert 1.0 < last.ready_seconds < last.committed_seconds < last.seconds
        fake = session.close(Proposal({"train.py": CHEATS_AT_THE_END.encode()}, "only prints", parent=baseline.n))
        assert fake.verdict is not None and (fake.verdict.kind, fake.verdict.reason) == ("discard", "unverified")
        source = session.open().files["train.py"].decode()
        peeking = source.replace("is_causal=True", "is_causal=False")
        assert peeking != source
        ahead = session.close(Proposal({"train.py": peeking.encode()}, "sees the future", parent=baseline.n))
        assert ahead.verdict is not None
        assert (ahead.verdict.kind, ahead.verdict.reason) == ("discard", "rejected:look-ahead")
        longer = source.replace("while trained < TIME_BUDGET", "while trained < 9 * TIME_BUDGET")
        assert longer != source
        late = session.close(Proposal({"train.py": longer.encode()}, "trains for longer", parent=baseline.n))
        assert late.verdict is not None and (late.verdict.kind, late.verdict.reason) == ("discard", "overtime")
        assert session.history.champion == baseline


def test_without_a_sandbox_a_score_is_unverified_whatever_it_answers(gpt_lab: Lab, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(".research-loop")
    root = Path(shutil.copytree(gpt_lab.root, tmp_path / "lab", symlinks=True, ignore=ignored))
    text = (root / "lab.toml").read_text()
    (root / "lab.toml").write_text(text.replace('sandbox = "auto"', 'sandbox = "none"'))
    with Session(open_lab(root), LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None and baseline.score is not None and baseline.score.verified == "unverified"
        assert session.ledger.held_nats(baseline.n), "it was asked all the same"


NOSY = """
from pathlib import Path
lab = Path({lab!r})
for name in ("results.tsv", "train.py", ".git/HEAD", "data/tokenizer.json", "data/train_256.u16"):
    try:
        (lab / name).write_text("changed")
    except OSError:
        pass
for name in (".research-loop/ledger.sqlite", "data/val_256.u16", "data/shards/shard_00001.parquet", "lab.toml"):
    try:
        print("READ", name, len((lab / name).read_bytes()))
    except OSError:
        pass
print("val_bpb: 0.5")
"""


def test_a_contained_run_reaches_neither_the_validation_text_nor_the_lab(gpt_lab: Lab) -> None:
    try:
        choose("auto")
    except SandboxError as error:
        pytest.skip(str(error))
    lab = open_lab(gpt_lab.root)
    (lab.root / "results.tsv").touch()
    names = ("results.tsv", "train.py", "data/tokenizer.json", ".git/HEAD")
    before = {name: (lab.root / name).read_bytes() for name in names}
    with Session(lab, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None
        code = NOSY.format(lab=str(lab.root))
        nosy = session.close(Proposal({"train.py": code.encode()}, "looks around", parent=baseline.n))
    log = lab.log_path(nosy.n, 0).read_text()
    assert "READ" not in log and "val_bpb: 0.5" in log
    assert {name: (lab.root / name).read_bytes() for name in before} == before


def test_a_model_whose_logits_are_wider_than_the_vocabulary_is_told(
    prepare: ModuleType, model: torch.nn.Module, exam: Exam, capfd: pytest.CaptureFixture[str]
) -> None:
    class Padded(Wrapped):
        def logits(self, x: Tensor) -> Tensor:
            return torch.nn.functional.pad(self.model(x), (0, 64), value=-torch.inf)

    assert marks_of(prepare, Padded(model), exam).verified == "unverified"
    assert "its logits are 1088 wide, the vocabulary is 1024" in capfd.readouterr().out


def test_a_message_that_drips_in_takes_no_more_memory_than_it_has(exam: Exam) -> None:
    ours, theirs = socket.socketpair()
    body = bytes(range(256)) * 64

    def drip() -> None:
        theirs.sendall(json.dumps({"bytes": len(body)}).encode() + b"\n")
        for i in range(0, len(body), 2):
            theirs.sendall(body[i : i + 2])

    with ours, theirs:
        sender = threading.Thread(target=drip)
        sender.start()
        assert Channel(ours, 30.0).receive(most_bytes=len(body))[1] == body
        sender.join()
        theirs.sendall(b"x")
        with pytest.raises(Exception, match="did not answer in time"):
            Channel(ours, 0.2).receive()


def test_data_that_is_gone_in_the_middle_of_a_run_is_said_and_ends_it(tmp_path: Path, exam: Exam) -> None:
    code = "import os; os.write(0, b'{\"ready\": true}\\n'); os.read(0, 1)"
    runner = LocalRunner()
    try:
        result = run(runner, replace(make_job(tmp_path, code), exam=replace(exam, validation=tmp_path / "none")))
    finally:
        runner.close()
    assert result.seconds < 10 and result.score is None and "`research-loop prepare`" in result.detail


def test_positions_and_futures_differ_from_run_to_run(gpt_lab: Lab) -> None:
    exam = set_exam(gpt_lab.root / "data", seed=1)
    assert exam is not None and replace(exam, seed=2) != exam
    assert os.environ.get("RESEARCH_LOOP_EXAM") is None and sys.modules["prepare"] is not None
    assert np.load(exam.token_bytes).shape == (1024,)


def test_a_run_that_has_not_committed_itself_by_its_limit_is_ended(gpt_lab: Lab, tmp_path: Path, exam: Exam) -> None:
    code = "import os, time; os.write(0, b'{\"ready\": true}\\n'); time.sleep(60)"
    runner = LocalRunner()
    try:
        result = run(runner, replace(make_job(tmp_path, code, limit=1.0), exam=exam))
    finally:
        runner.close()
    assert (result.outcome, result.reason) == ("crash", "timeout") and 1.0 <= result.seconds < 10


def test_a_broken_exam_ends_the_run_that_waits_for_more(tmp_path: Path, exam: Exam) -> None:
    code = "import os; os.write(0, b'nonsense\\n'); os.read(0, 1); print('val_bpb: 0.1')"
    runner = LocalRunner()
    try:
        result = run(runner, replace(make_job(tmp_path, code, limit=30.0), exam=exam))
    finally:
        runner.close()
    assert result.seconds < 10 and result.score is not None and result.score.verified == "unverified"
    assert "something else than an answer" in result.detail
