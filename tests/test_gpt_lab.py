"""The lab's own two files, run as a user runs them, on a little of the built-in text."""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from research_loop.data.preparation import _is_fresh, count_models, data_digest, prepare_lab
from research_loop.lab import Lab, open_lab
from research_loop.loop import ensure_baseline
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import set_constants


@pytest.fixture(autouse=True)
def nothing_leaks(train: ModuleType, prepare: ModuleType) -> Iterator[None]:
    """Both modules serve a whole session: a constant that a test leaves changed would change those after it."""
    before = constants(train, prepare)
    yield
    assert constants(train, prepare) == before


def constants(*modules: ModuleType) -> list[dict[str, object]]:
    return [{name: value for name, value in vars(module).items() if name.isupper()} for module in modules]


def by_hand(lab: Lab, **changes: object) -> tuple[int, str]:
    """`python train.py > run.log 2>&1` in a copy of the lab's code with these constants."""
    folder = lab.root.parent / f"run-{abs(hash(str(changes)))}"
    folder.mkdir(exist_ok=True)
    for name in ("prepare.py", "train.py"):
        (folder / name).write_bytes((lab.root / name).read_bytes())
    if not (folder / "data").exists():
        (folder / "data").symlink_to(lab.root / "data")
    set_constants(folder / "train.py", changes)
    with open(folder / "run.log", "w") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONUNBUFFERED": ""}
        done = subprocess.run([sys.executable, "train.py"], cwd=folder, stdout=log, stderr=log, env=environment)
    return done.returncode, (folder / "run.log").read_text()


def test_a_run_by_hand_prints_the_summary_block_that_grep_finds(gpt_lab: Lab) -> None:
    code, log = by_hand(gpt_lab)
    assert code == 0, log
    found = re.findall(r"^(?:val_bpb|peak_vram_mb):.*$", log, re.M)
    assert len(found) == 2 and re.fullmatch(r"val_bpb: +\d\.\d{6}", found[0])
    block = log.split("---\n")[1]
    keys = "val_bpb training_seconds total_seconds peak_vram_mb mfu_percent total_tokens_M num_steps num_params_M depth"
    assert [line.split(":")[0] for line in block.strip().splitlines()] == keys.split()
    steps = re.findall(r"^step \d{5} \(\d+\.\d%\) \| loss: \d+\.\d{6} \|", log, re.M)
    assert 1 <= len(steps) <= 4, "one line a second at most"


def test_a_loss_that_is_not_finite_stops_the_run(gpt_lab: Lab) -> None:
    code, log = by_hand(gpt_lab, MATRIX_LR=1e30, EMBEDDING_LR=1e30)
    assert code == 1
    assert "FAIL: loss is nan" in log and "val_bpb" not in log


def test_a_batch_that_does_not_divide_is_one_line(gpt_lab: Lab) -> None:
    code, log = by_hand(gpt_lab, TOTAL_BATCH_SIZE=1500)
    assert code == 1 and "not a multiple" in log and "Traceback" not in log


@pytest.mark.parametrize("pattern", ["L", "SL"])
def test_no_position_sees_the_future_or_past_its_window(
    train: ModuleType, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(train, "WINDOW_PATTERN", pattern)
    model = train.GPT(1024)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.normal_(model.ngrams.weight)
    text = torch.randint(0, 1000, (1, 64))
    changed = text.clone()
    changed[0, 50] += 1
    with torch.no_grad():
        moved = (model(text) - model(changed)).abs().amax(-1)[0]
    assert not moved[:50].any() and moved[50:].any()


def test_orthogonalise_comes_near_the_polar_factor(train: ModuleType) -> None:
    torch.manual_seed(0)
    for shape in ((2, 32, 32), (2, 64, 16)):
        singular = torch.linalg.svdvals(train.orthogonalise(torch.randn(shape)).float())
        assert singular.min() > 0.5 and singular.max() < 1.3


def test_adam_steps_like_torchs(train: ModuleType) -> None:
    torch.manual_seed(0)
    ours = torch.randn(5, 3)
    theirs = ours.clone().requires_grad_()
    ours = torch.nn.Parameter(ours)
    adam = train.Adam([ours], 0.01, betas=(0.8, 0.95))
    reference = torch.optim.Adam([theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-10)
    for _ in range(5):
        ours.grad = theirs.grad = torch.randn(5, 3)
        adam.step(1.0)
        reference.step()
    torch.testing.assert_close(ours, theirs)


def test_an_optimizer_has_nothing_to_do_for_parameters_that_are_not_there(train: ModuleType) -> None:
    train.Adam([], 0.01).step(1.0)


def test_the_schedule_follows_the_share_of_the_budget(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WARMUP_RATIO": 0.1, "WARMDOWN_RATIO": 0.5, "FINAL_LR_FRAC": 0.2}.items():
        monkeypatch.setattr(train, name, value)
    rates = [train.lr_multiplier(share) for share in (0.0, 0.05, 0.3, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.6, 0.2])


# ------------------------------------------------------------------------------------------------------------- rows


def slow_best_fit(documents: list[list[int]], capacity: int, buffer_size: int) -> list[list[int]]:
    """The packing as one would write it first: look at every buffered document."""
    rows, buffer, waiting = [], [], list(documents)
    row: list[int] = []
    while True:
        while waiting and len(buffer) < buffer_size:
            buffer += waiting[:128]
            del waiting[:128]
        if not buffer:
            return rows
        space = capacity - len(row)
        fitting = [d for d in buffer if len(d) <= space]
        chosen = max(fitting, key=len) if fitting else min(buffer, key=len)
        buffer.remove(chosen)
        row = row + chosen[:space]
        if len(row) == capacity:
            rows.append(row)
            row = []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=400), st.integers(2, 20), st.integers(1, 50))
def test_rows_are_packed_by_best_fit(prepare: ModuleType, lengths: list[int], capacity: int, buffer_size: int) -> None:
    documents = [[i + 1] * length for i, length in enumerate(lengths)]
    rows = list(prepare.pack_rows(iter(documents), capacity, buffer_size))
    assert rows == slow_best_fit(documents, capacity, buffer_size)


def test_every_row_starts_with_bos_and_none_is_padded(prepare: ModuleType) -> None:
    tokenizer = prepare.Tokenizer.from_directory()
    rows = prepare.load_rows(tokenizer, "train", prepare.MAX_SEQ_LEN)
    assert rows.shape[1] == 65 and rows.dtype == np.uint16
    assert (rows[:, 0] == tokenizer.get_bos_token_id()).all()
    assert tokenizer.decode(rows[0].tolist()).startswith("<|reserved_0|>")


def test_validation_rows_are_shuffled_so_that_any_cut_of_them_is_alike(prepare: ModuleType) -> None:
    tokenizer = prepare.Tokenizer.from_directory()
    tokens = prepare.encode_documents(tokenizer, prepare.read_documents("val"))
    packed = np.array(list(prepare.pack_rows(tokens, 65)))
    rows = prepare.load_rows(tokenizer, "val", 64)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, packed.astype(np.uint16)))
    places = [int(np.flatnonzero((packed == row).all(axis=1))[0]) for row in rows]
    halves = np.mean(places[: len(places) // 2]), np.mean(places[len(places) // 2 :])
    assert abs(halves[0] - halves[1]) < len(places) / 4, "in order it would be half"
    assert places != sorted(places)


def test_the_loader_gives_shifted_rows_the_same_for_the_same_seed(prepare: ModuleType) -> None:
    tokenizer = prepare.Tokenizer.from_directory()

    def epoch_of_rows() -> list[tuple[torch.Tensor, torch.Tensor, int]]:
        return list(itertools.islice(prepare.make_dataloader(tokenizer, 8, 64, "train"), 200))

    first, second = epoch_of_rows(), epoch_of_rows()
    x, y, epoch = first[0]
    assert x.shape == y.shape == (8, 64) and x.dtype == torch.int64 and epoch == 1
    assert torch.equal(x[:, 1:], y[:, :-1]) and x.is_contiguous() and y.is_contiguous()
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    assert first[-1][2] > 1


DRAWS = """
import random
import numpy as np, torch
torch.manual_seed(42), random.seed(42), np.random.seed(42)
import prepare
print(torch.rand(1).item(), random.random(), np.random.rand())
for _ in range(2):
    torch.manual_seed(seed=42), random.seed(42, version=2), np.random.seed(seed=np.int64(42))
    print(torch.rand(1).item(), random.random(), np.random.rand())
prepare.SEED = 7
print(next(prepare.row_numbers(1000, shuffled=True))[0])
"""


def test_a_seed_that_a_file_fixes_gets_the_harnesss_added(gpt_lab: Lab) -> None:
    """Else its luck would be the same in every run, and a luckier one kept for better code."""

    def drawn(**environment: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", DRAWS],
            cwd=gpt_lab.root,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        before, first, again, row = done.stdout.splitlines()
        assert first == again
        return [*first.split(), *before.split(), row]

    by_hand, one, other = drawn(), drawn(RESEARCH_LOOP_SEED="42"), drawn(RESEARCH_LOOP_SEED="43")
    torch.manual_seed(42)
    assert by_hand[0] == str(torch.rand(1).item()), "by hand a file's seed is its own"
    assert all(a != b for a, b in zip(one, other, strict=True)) and one == drawn(RESEARCH_LOOP_SEED="42")


def test_a_length_that_was_not_prepared_is_packed_on_the_spot(prepare: ModuleType) -> None:
    tokenizer = prepare.Tokenizer.from_directory()
    x, _, _ = next(prepare.make_dataloader(tokenizer, 2, 32, "train"))
    assert x.shape == (2, 32) and (x[:, 0] == tokenizer.get_bos_token_id()).all()


class Bigram(torch.nn.Module):
    """Any model will do: its nats depend on both tokens."""

    def forward(self, x: torch.Tensor, y: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        assert reduction == "none"
        return (1 + (x * 7 + y * 3) % 11).float().view(-1)


def test_the_score_is_the_same_for_every_batch_size(prepare: ModuleType) -> None:
    tokenizer = prepare.Tokenizer.from_directory()
    rows = prepare.load_rows(tokenizer, "val", 64)
    rows = rows[: prepare.validation_cuts(len(rows))["score"][1]]
    x, y = rows[:, :-1].astype(int), rows[:, 1:].astype(int)
    size = np.load(prepare.DATA_DIR / "token_bytes.npy")[y]
    expected = ((1 + (x * 7 + y * 3) % 11) * (size > 0)).sum() / (math.log(2) * size.sum())
    for batch in (1, 3, len(rows), len(rows) + 5):
        assert prepare.evaluate_bpb(Bigram(), tokenizer, batch) == pytest.approx(expected, rel=1e-9)


def test_nats_leave_the_device_once_even_where_every_batch_comes_in_one_buffer(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each copy would wait for the device; and graphs of CUDA write all they give into the same memory."""
    copied, buffer, rows = [], torch.empty(3, 64), np.arange(10 * 65).reshape(10, 65) % 1024

    class Reused(Bigram):
        def forward(self, x: torch.Tensor, y: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
            return buffer.copy_(super().forward(x, y, reduction).view(x.shape))

    expected = prepare.all_nats(Bigram(), rows[:, :-1], rows[:, 1:], 10)
    honest = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copied.append(tensor.shape) or honest(tensor))
    nats = prepare.all_nats(Reused(), rows[:, :-1], rows[:, 1:], 3)
    assert nats.dtype == np.float32 and np.array_equal(nats, expected)
    assert copied == [(10, 64)]


@pytest.mark.parametrize("count", [1, 7, 8, 100, 16_000, 100_000])
def test_what_is_kept_back_is_never_scored(prepare: ModuleType, count: int) -> None:
    cuts = prepare.validation_cuts(count)
    first, end = cuts["score"]
    assert first == 0 and 0 < end <= min(count, prepare.EVAL_TOKENS // prepare.MAX_SEQ_LEN)
    assert end <= cuts["confirm"][0] <= cuts["confirm"][1] == cuts["audit"][0] <= cuts["audit"][1] == count
    assert cuts["confirm"][1] - cuts["confirm"][0] == min(prepare.HELD_ROWS, count // 8)


def test_the_count_models_are_worth_beating(gpt_lab: Lab) -> None:
    counts = count_models(gpt_lab)
    assert counts is not None
    assert 0.5 < counts.bigram_bpb < counts.unigram_bpb - 0.5 < 5


def test_bytes_of_tokens_add_up_to_the_text(prepare: ModuleType) -> None:
    tokenizer = prepare.Tokenizer.from_directory()
    text = "Mia put the red key under the mat, é."
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    plain = tokenizer.encode("Mia put the red key")
    assert int(prepare.get_token_bytes()[plain].sum()) == len("Mia put the red key")
    assert int(prepare.get_token_bytes()[tokenizer.get_bos_token_id()]) == 0


def test_preparing_twice_does_nothing_and_half_a_preparation_is_done_again(gpt_lab: Lab) -> None:
    said: list[str] = []
    before = (gpt_lab.root / "data" / "train_64.u16").stat().st_mtime_ns
    prepare_lab(gpt_lab, say=said.append)
    assert said == [] and (gpt_lab.root / "data" / "train_64.u16").stat().st_mtime_ns == before
    (gpt_lab.root / "data" / "prepared.json").unlink()
    prepare_lab(gpt_lab, say=said.append)
    assert any(line.startswith("tokenizer: ") for line in said) and count_models(gpt_lab) is not None


def test_prepared_data_that_was_damaged_is_made_again(gpt_lab: Lab, prepare: ModuleType) -> None:
    names = ("tokenizer.json", "token_bytes.npy", "train_64.u16", "val_64.u16")
    whole = {gpt_lab.root / "data" / name: (gpt_lab.root / "data" / name).read_bytes() for name in names}
    for path, data in whole.items():
        path.write_bytes(data[: len(data) // 2])
        assert not _is_fresh(gpt_lab) and not prepare.is_prepared(), path.name
        path.write_bytes(data)
        assert _is_fresh(gpt_lab) and prepare.is_prepared()
    for path, data in whole.items():
        path.write_bytes(data[: len(data) // 2])
    prepare_lab(gpt_lab, pinned=data_digest(gpt_lab), say=lambda line: None)
    assert {path: path.read_bytes() for path in whole} == whole


def test_a_missing_shard_comes_back_and_the_pinned_data_with_it(gpt_lab: Lab) -> None:
    pin = data_digest(gpt_lab)
    shards = sorted((gpt_lab.root / "data" / "shards").glob("*.parquet"))
    shards[0].unlink()
    (gpt_lab.root / "data" / "train_64.u16").unlink()
    prepare_lab(gpt_lab, pinned=pin, say=lambda line: None)
    assert shards[0].exists() and data_digest(gpt_lab) == pin


def test_documents_that_changed_are_taken_back_when_they_are_put_back(gpt_lab: Lab) -> None:
    assert gpt_lab.config.source is not None
    source, pin = Path(gpt_lab.config.source) / "a.jsonl", data_digest(gpt_lab)
    whole = source.read_text()
    source.write_text("".join(whole.splitlines(keepends=True)[:500]))
    prepare_lab(gpt_lab, pinned=pin, say=lambda line: None)
    assert data_digest(gpt_lab) == pin, "what the baseline had is still whole: the source is not looked at"
    prepare_lab(gpt_lab, say=lambda line: None)
    assert data_digest(gpt_lab) != pin
    source.write_text(whole)
    prepare_lab(gpt_lab, pinned=pin, say=lambda line: None)
    assert data_digest(gpt_lab) == pin


STOCK = Path(__file__).parents[1] / "benchmarks" / "stock_train.py"
STOCK_SMALL = {"DEPTH": 2, "HEAD_DIM": 32, "ASPECT_RATIO": 32, "DEVICE_BATCH_SIZE": 4, "TOTAL_BATCH_SIZE": 1024}


@pytest.fixture
def stock_lab(gpt_lab: Lab, tmp_path: Path) -> Lab:
    """A lab that starts from upstream's recipe, which knows nothing of the harness, made small."""
    ignored = shutil.ignore_patterns(".research-loop")
    root = Path(shutil.copytree(gpt_lab.root, tmp_path / "lab", symlinks=True, ignore=ignored))
    (root / "train.py").write_bytes(STOCK.read_bytes())
    set_constants(root / "train.py", STOCK_SMALL)
    return open_lab(root)


def test_a_train_py_in_upstreams_style_runs_by_hand(stock_lab: Lab) -> None:
    code, said = by_hand(stock_lab)
    assert code == 0, said
    assert re.search(r"^val_bpb: +\d\.\d{6}$", said, re.M)


def test_a_train_py_in_upstreams_style_is_scored_by_the_harness(stock_lab: Lab) -> None:
    with Session(stock_lab, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None and baseline.score is not None, baseline
        assert baseline.score.verified == ("confirmed" if session.jobs.contained else "unverified")
        assert session.ledger.held_nats(baseline.n) is not None, "it was asked all of it"
