"""benchmarks/train_h100.py, on which claims of speed and score rest: what it counts, reads, and does not run again."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LABS_OWN = BENCHMARKS.parent / "src" / "research_loop" / "labs" / "gpt" / "train.py"
PREPARE = "MAX_SEQ_LEN = 2048\nTIME_BUDGET = 300\nVOCAB_SIZE = 8192\n"
TRAIN = r"""
import os, sys
from pathlib import Path
from prepare import TIME_BUDGET
DEPTH = 8
ASPECT_RATIO = 64
HEAD_DIM = 128
WINDOW_PATTERN = "SSSL"
seed = int(os.environ["RESEARCH_LOOP_SEED"])
with Path("data/runs").open("a") as file:
    file.write(f"{seed}\n")
print("step 00000 (0.0%) | loss: 9.0 | epoch: 1 | remaining: 300s", end="\r")
print("step 00100 (99.0%) | loss: 3.0 | epoch: 2 | remaining: 3s", end="\r")
print(f"\n---\nval_bpb:          {1 + seed / TIME_BUDGET:.6f}\npeak_vram_mb:     512.0\nmfu_percent:      12.50")
print("total_tokens_M:   50.0\nnum_steps:        100")
"""


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("train_h100")
    del sys.modules["train_h100"]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "prepare.py").write_text(PREPARE)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def runs(lab: Path) -> list[str]:
    return (lab / "data" / "runs").read_text().split()


def made(bench: ModuleType, lab: Path, gpu: str = "cpu", seeds: tuple[int, ...] = (1, 2)) -> list[float]:
    trains = {"one": lab / "train.py"}
    return [one.bpb for one in bench.measure(lab, trains, [10], list(seeds), lab / "out.jsonl", gpu)]


def test_true_flops_are_those_counted_by_hand(bench: ModuleType) -> None:
    stock = (BENCHMARKS / "stock_train.py").read_text()
    seen = 2 * 1024.5 + 6 * (1024 * 1025 / 2 + 1024 * 1024) / 2048  # two layers see all, six the last half
    by_hand = 6 * (8 * 12 * 512 * 512 + 512 * 8192) + 12 * 512 * seen
    assert bench.true_flops(stock, PREPARE) == by_hand == pytest.approx(0.21707e9, rel=1e-4)
    wider = TRAIN.replace("DEPTH = 8", "DEPTH = 9\nSHORT_WINDOW = 256").replace("= 64", "= 71").replace("SSSL", "SSSSL")
    assert bench.true_flops(wider, PREPARE) == pytest.approx(0.3255e9, rel=1e-4), "width 640, windows that slide"
    blocks = wider + "\ndef blocks_of(x, size): ..."
    seen = 2 * 1024.5 + 7 * 128.5
    assert bench.true_flops(blocks, PREPARE) == 6 * 640 * (12 * 9 * 640 + 8192) + 12 * 640 * seen
    longer = blocks.replace("SHORT_WINDOW = 256", "SHORT_WINDOW = 4096")
    assert bench.true_flops(longer, PREPARE) == 6 * 640 * (12 * 9 * 640 + 8192) + 12 * 640 * 9 * 1024.5
    one = TRAIN.replace("DEPTH = 8", "DEPTH = 1\nSHORT_WINDOW = 256")
    assert bench.true_flops(one, PREPARE) == 6 * (12 * 128 * 128 + 128 * 8192) + 12 * 128 * 1024.5, "one layer sees all"


def test_steps_that_no_clock_counts_are_the_scripts_own(bench: ModuleType) -> None:
    assert bench.untimed_steps((BENCHMARKS / "stock_train.py").read_text()) == 11
    assert bench.untimed_steps(LABS_OWN.read_text()) == 10, "on a GPU"


def test_a_run_is_what_its_log_and_its_summary_say(bench: ModuleType, lab: Path) -> None:
    done = bench.run(lab, "one", lab / "train.py", 10, 3, "NVIDIA H200")
    assert (done.name, done.budget, done.seed, done.gpu) == ("one", 10, 3, "NVIDIA H200")
    assert (done.bpb, done.steps, done.tokens, done.mfu, done.vram_mb) == (1.3, 100, 50.0, 12.5, 512.0)
    assert done.epochs == 2 and -10 < done.outside < 20
    assert done.true_mfu == pytest.approx(100 * 0.9 * 50e6 * 0.21707e9 / 10 / 798e12, rel=1e-4), "90 steps were timed"
    assert done.line() == f"| one | 10 | 3 | 1.300000 | 100 | 50.0 | 12.5 | 122.4 | 512 | {done.outside:.1f} |"


def test_seconds_of_training_are_those_that_the_script_says_where_it_does(bench: ModuleType, lab: Path) -> None:
    (lab / "train.py").write_text(TRAIN + 'print("training_seconds: 12.5")\n')
    done = bench.run(lab, "one", lab / "train.py", 10, 3, "cpu")
    assert done.true_mfu == pytest.approx(100 * 0.9 * 50e6 * 0.21707e9 / 12.5 / 798e12, rel=1e-4)


@pytest.mark.parametrize(
    ("key", "field"),
    [("mfu_percent", "mfu"), ("peak_vram_mb", "vram_mb"), ("num_steps", "steps"), ("total_tokens_M", "tokens")],
)
def test_what_a_script_does_not_print_is_not_measured(bench: ModuleType, lab: Path, key: str, field: str) -> None:
    (lab / "train.py").write_text(TRAIN.replace(f"{key}:", f"not_{key}:"))
    (done,) = bench.measure(lab, {"one": lab / "train.py"}, [10], [1], lab / "out.jsonl", "cpu")
    none = {field, "true_mfu"} if field in ("steps", "tokens") else {field}
    assert {name for name, value in asdict(done).items() if value is None} == none
    assert done.line().split().count("-") == len(none)
    assert bench.read(lab / "out.jsonl", {"one": done.code}, "cpu") == [done]


NO_SCORE = TRAIN.replace("print(f", "print('val_bpb: nan')\nsys.exit()\nprint(f", 1)


@pytest.mark.parametrize(("script", "code"), [(TRAIN + "sys.exit(3)\n", 3), (NO_SCORE, 0)])
def test_a_script_that_fails_or_has_no_score_is_shown_by_the_end_of_its_log(
    bench: ModuleType, lab: Path, script: str, code: int
) -> None:
    (lab / "train.py").write_text(script)
    with pytest.raises(SystemExit, match=rf"(?s)^one: exit code {code}, no score:\n.*epoch: 2"):
        bench.run(lab, "one", lab / "train.py", 10, 1, "cpu")


def test_a_script_that_does_not_end_is_stopped_in_one_line(
    bench: ModuleType, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "OUTSIDE_LIMIT_SECONDS", 0)
    (lab / "train.py").write_text("import subprocess\nsubprocess.run(['sleep', '5'])\n")
    with pytest.raises(SystemExit, match=r"^one: still running 1 s after its start, stopped$"):
        bench.run(lab, "one", lab / "train.py", 1, 1, "cpu")


def test_a_run_that_the_file_has_is_not_made_again_but_for_code_that_changed(bench: ModuleType, lab: Path) -> None:
    assert made(bench, lab) == [1.1, 1.2] and runs(lab) == ["1", "2"]
    assert made(bench, lab, seeds=(1, 2, 3)) == [1.1, 1.2, 1.3] and runs(lab) == ["1", "2", "3"]
    (lab / "train.py").write_text(TRAIN.replace("{1 +", "{2 +"))
    assert made(bench, lab) == [2.1, 2.2] and runs(lab) == ["1", "2", "3", "1", "2"]
    (lab / "prepare.py").write_text(PREPARE + "EVAL_TOKENS = 1\n")
    assert made(bench, lab, seeds=(1,)) == [2.1] and len(runs(lab)) == 6
    (lab / "train.py").write_text(TRAIN)
    (lab / "prepare.py").write_text(PREPARE)
    assert made(bench, lab) == [1.1, 1.2] and len(runs(lab)) == 6, "the first code's are there yet"


def test_runs_of_another_gpu_stand_aside_and_that_is_said(
    bench: ModuleType, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(bench, lab, "NVIDIA H100")
    assert "stand aside" not in capsys.readouterr().out
    made(bench, lab, "NVIDIA H200")
    assert "runs of this code on NVIDIA H100 stand aside (2), since this is NVIDIA H200" in capsys.readouterr().out
    assert len(runs(lab)) == 4
    made(bench, lab, "NVIDIA H100")
    assert len(runs(lab)) == 4


def test_lines_from_before_gpus_were_named_are_read_and_stand_aside(
    bench: ModuleType, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = asdict(bench.Done("one", bench.digest(lab, lab / "train.py"), 10, 1, 0.5, 9, 9.0, 9.0, 9.0, 9.0))
    del old["gpu"], old["epochs"], old["true_mfu"]
    (lab / "out.jsonl").write_text(json.dumps(old) + "\n")
    assert made(bench, lab, seeds=(1,)) == [1.1]
    assert "runs of this code on a GPU not named stand aside (1), since this is cpu" in capsys.readouterr().out
    assert made(bench, lab, seeds=(1,)) == [1.1] and runs(lab) == ["1"]


def test_the_gpu_is_named_as_torch_names_it(bench: ModuleType) -> None:
    expected = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    assert bench.gpu_name() == expected


def test_the_summary_is_of_means_pairs_and_the_least_budget_that_is_enough(bench: ModuleType) -> None:
    first = {("a", 10): {1: 1.3, 2: 1.1}, ("a", 20): {1: 1.0, 2: 1.0}}
    scores = {**first, ("b", 10): {2: 0.9, 1: 1.0}, ("b", 20): {2: 0.7, 1: 0.9}}
    done = [
        bench.Done(name, "", budget, seed, bpb, 1, 1.0, 1.0, 1.0, 1.0)
        for (name, budget), values in scores.items()
        for seed, bpb in values.items()
    ]
    lines = bench.summary(done).splitlines()
    assert lines[0] == "a, 10 s: 1.200000, +0.000000 beside a (p nan, 2 seeds)"
    assert lines[2] == "b, 10 s: 0.950000, -0.250000 beside a (p 0.13, 2 seeds)"
    assert lines[4:] == ["a: a's 1.000000 within 20 s", "b: a's 1.000000 within 10 s"]


FAILS_AT_TWO = TRAIN + "sys.exit(seed == 2)\n"


@pytest.mark.parametrize("fails", ["one", "other"])
def test_pairs_from_before_a_failure_count_and_what_is_missing_is_said(
    bench: ModuleType, lab: Path, capsys: pytest.CaptureFixture[str], fails: str
) -> None:
    for name in ("one", "other"):
        (lab / f"{name}.py").write_text((FAILS_AT_TWO if name == fails else TRAIN).replace("DEPTH = 8\n", ""))
    trains = {name: lab / f"{name}.py" for name in ("one", "other")}
    done = bench.measure(lab, trains, [10], [1, 2, 3], lab / "out.jsonl", "cpu")
    with pytest.raises(SystemExit, match=rf"^not all was run: .*{fails} \(1 of 3 runs\)"):
        bench.told(done, trains, 3)
    said = capsys.readouterr()
    assert said.err.startswith(f"{fails}: exit code 1, no score:")
    assert "other, 10 s: 1.100000, +0.000000 beside one (p nan, 1 seeds)" in said.out
    counts = [sum(one.name == name for one in done) for name in trains]
    assert counts == ([3, 1] if fails == "other" else [1, 1]) and all(one.true_mfu is None for one in done)


@pytest.mark.parametrize(("broken", "said"), [("out", "line 2 is no run"), ("train", "nosuch.py: no such script")])
def test_a_file_that_is_broken_or_missing_is_said_before_a_run(
    bench: ModuleType, lab: Path, broken: str, said: str
) -> None:
    made(bench, lab, seeds=(1,))
    with (lab / "out.jsonl").open("a") as file:
        file.write('{"name": "one"}\n' if broken == "out" else "")
    trains = {"one": lab / ("nosuch.py" if broken == "train" else "train.py")}
    with pytest.raises(SystemExit, match=said):
        bench.measure(lab, trains, [10], [1], lab / "out.jsonl", "cpu")
    with pytest.raises(SystemExit, match=r"^--out .*: Is a directory"):
        bench.measure(lab, {"one": lab / "train.py"}, [10], [1], lab, "cpu")
