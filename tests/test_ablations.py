"""benchmarks/ablations.py: every part can be taken out of today's train.py, and what is measured is what was asked."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from research_loop import edits
from research_loop.lab import Lab
from test_train_h100 import BENCHMARKS, LABS_OWN


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("ablations")
    for name in ("ablations", "train_h100"):
        del sys.modules[name]


def test_each_part_can_be_taken_out_of_the_labs_train_py(bench: ModuleType) -> None:
    whole = LABS_OWN.read_text()
    sources = {name: change(whole) for name, change in bench.PARTS.items()}
    assert len({edits.key({"train.py": text.encode()}) for text in [whole, *sources.values()]}) == len(sources) + 1


WRONG = (
    ("odd: DEPHT=4", "no constant DEPHT"),
    ("odd: DEPTH=x", "'x' is not a literal"),
    ("odd", "no constant is given"),
    ("whole: DEPTH=2", "is no name, or taken"),
)


@pytest.mark.parametrize(
    "part", ["windows", "tables", "gates", "value embeddings and tables", "NorMuon", "cautious decay"]
)
def test_a_script_without_a_part_still_trains(
    bench: ModuleType, gpt_lab: Lab, prepare: ModuleType, tmp_path: Path, part: str
) -> None:
    path = bench.written(gpt_lab.root, [part], [], tmp_path)[f"without {part}"]
    train = bench.load("train_without", path)
    del sys.modules["train_without"]
    model = train.GPT(1024)
    optimizer, before = train.Optimizer(model), model.lm_head.weight.detach().clone()
    model(*torch.randint(0, 1024, (2, 2, 16))).backward()
    optimizer.step(0.1, 0)
    assert not torch.equal(model.lm_head.weight, before)


def test_a_try_that_fails_is_said_in_a_line_and_the_others_go_on(gpt_lab: Lab, tmp_path: Path) -> None:
    call = [sys.executable, str(BENCHMARKS / "ablations.py"), str(gpt_lab.root), "--budget", "1", "--seeds", "1", "2"]
    call += ["--only", "--try", "odd: DEVICE_BATCH_SIZE=7", "none: HEAD_DIM=0", "narrow: ASPECT_RATIO=32"]
    ended = subprocess.run([*call, "--out", str(tmp_path / "out.jsonl")], capture_output=True, text=True)
    odd, none, last = ended.stderr.splitlines()
    assert ended.returncode == 1 and odd.startswith("odd: TOTAL_BATCH_SIZE 1024: not a multiple of")
    assert (
        none == "none: ZeroDivisionError: division by zero"
        and last == "not all was run: odd (0 of 2 runs), none (0 of 2 runs)"
    )
    done = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(one["name"], one["seed"]) for one in done] == [
        (name, seed) for seed in (1, 2) for name in ("whole", "narrow")
    ]
    assert "narrow, 1 s: " in ended.stdout and "2 seeds)" in ended.stdout


@pytest.mark.parametrize(
    ("ending", "said"), [("sys.exit('gone')", "gone"), ("sys.exit(3)", "exit code 3"), ("1 / 0", "division by zero")]
)
def test_how_a_script_ends_is_said(
    bench: ModuleType, gpt_lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "prepare", sys.modules.get("prepare"))
    (tmp_path / "ends.py").write_text(f"import sys\n{ending}\n")
    with pytest.raises(SystemExit, match=rf"^short: (\w+: )?{said}$"):
        bench.Bench(gpt_lab.root, 1).run(gpt_lab.root, "short", tmp_path / "ends.py", 1, 1, "cpu")


def test_a_whole_that_fails_ends_the_series_in_a_line(gpt_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(gpt_lab.root / "data")
    (tmp_path / "prepare.py").write_text((gpt_lab.root / "prepare.py").read_text())
    source = (gpt_lab.root / "train.py").read_text()
    (tmp_path / "train.py").write_text(edits.replace(source, {"HEAD_DIM": 0}))
    call = [sys.executable, str(BENCHMARKS / "ablations.py"), str(tmp_path), "--budget", "1", "--only", "tables"]
    ended = subprocess.run([*call, "--out", str(tmp_path / "out.jsonl")], capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.splitlines() == [
        "whole: ZeroDivisionError: division by zero",
        "not all was run: whole (0 of 3 runs), without tables (0 of 3 runs)",
    ]


def test_results_without_a_folder_are_said_before_a_run(gpt_lab: Lab, tmp_path: Path) -> None:
    call = [sys.executable, str(BENCHMARKS / "ablations.py"), str(gpt_lab.root), "--out", str(tmp_path / "no" / "out")]
    ended = subprocess.run(call, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        1,
        "",
        f"--out {tmp_path / 'no' / 'out'}: No such file or directory\n",
    )


@pytest.mark.parametrize("source", [None, "print('trains as it is imported')\n"])
def test_a_script_of_another_shape_is_not_run(bench: ModuleType, tmp_path: Path, source: str | None) -> None:
    if source is not None:
        (tmp_path / "train.py").write_text(source)
    with pytest.raises(SystemExit, match=r"train\.py: no GPT and train\(\) that can be imported"):
        bench.written(tmp_path, [], [], tmp_path)


def test_a_part_that_is_not_there_is_said(bench: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LABS_OWN.read_text().replace(" * (update * params >= 0)", ""))
    with pytest.raises(SystemExit, match="no place for 'Muon: plain weight decay instead of cautious'"):
        bench.written(tmp_path, ["cautious decay"], [], tmp_path)
    for wrong, said in WRONG:
        with pytest.raises(SystemExit, match=said):
            bench.written(tmp_path, [], [wrong], tmp_path)


def test_a_folder_that_is_no_prepared_lab_is_said_in_a_line(tmp_path: Path) -> None:
    call = [sys.executable, str(BENCHMARKS / "ablations.py"), str(tmp_path)]
    ended = subprocess.run(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (
        ended.returncode == 1
        and ended.stdout.startswith(f"{tmp_path}: no prepared lab")
        and ended.stdout.count("\n") == 1
    )


def test_seeds_are_the_order_of_the_rows_and_the_first_weights(
    bench: ModuleType, gpt_lab: Lab, train: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prepare", sys.modules["prepare"])
    made, seen = bench.Bench(gpt_lab.root, 3), []

    def look(
        model: torch.nn.Module, batches: Iterator[tuple[torch.Tensor, ...]], accumulation: int
    ) -> tuple[float, int]:
        seen.append((next(batches)[0], model.wte.weight.detach().clone()))
        return 1.0, 3

    monkeypatch.setattr(train, "train", look)
    for seed in (1, 2, 1):
        made.trained(train, seed)
    assert made.prepare.TIME_BUDGET == 3
    for one, other, again in zip(*seen, strict=True):
        assert torch.equal(one, again) and not torch.equal(one, other)


def test_parts_and_tries_are_run_beside_the_whole_and_not_twice(gpt_lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    call = [sys.executable, str(BENCHMARKS / "ablations.py"), str(gpt_lab.root), "--out", str(out), "--budget", "1"]
    call += ["--seeds", "1", "2", "--only", "tables", "--try", "shallow: DEPTH=1"]
    said = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
    done = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["name"], one["seed"]) for one in done] == [
        (name, seed) for seed in (1, 2) for name in ("whole", "without tables", "shallow")
    ]
    assert len({one["bpb"] for one in done}) == 6 and all(one["steps"] > 1 and one["epochs"] >= 1 for one in done)
    assert re.search(r"(?m)^without tables, 1 s: \d\.\d+, [+-]\d\.\d+ beside whole \(p [\d.e-]+, 2 seeds\)$", said)
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    assert len(out.read_text().splitlines()) == 6
