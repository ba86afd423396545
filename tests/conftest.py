"""Fixtures: a quick lab, and a harness process that can be killed."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from research_loop.data import world
from research_loop.data.preparation import prepare_lab
from research_loop.exam import set_exam
from research_loop.lab import Lab, Wish, make_gpt_lab, open_lab
from research_loop.lock import is_held, owner_pid
from research_loop.loop import ensure_baseline
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.tasks import Exam
from research_loop.testing.labs import make_quick_lab, set_constants

if TYPE_CHECKING:
    import torch


def pytest_configure() -> None:
    # models this small gain nothing by threads, and threads that spin for one another crawl on a busy machine
    os.environ["OMP_NUM_THREADS"] = "1"


def _lock(config: pytest.Config) -> Path:
    """One file for all processes of this run of the tests, whose parent is the first."""
    first = os.getppid() if hasattr(config, "workerinput") else os.getpid()
    return Path(tempfile.gettempdir(), f"research-loop-tests-{first}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _lock(config).unlink(missing_ok=True)
        _lock(config).with_suffix(".gate").unlink(missing_ok=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow, too")


LONGEST = ("cheats", "exam_runs", "audit", "exam", "dry_run", "strain", "code_moves", "search", "durability", "gpt_lab")
"""Files of a minute or so: they are begun first, or one worker would be at the last of them alone."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    names = [f"test_{name}.py" for name in LONGEST]
    items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))
    if config.getoption("--run-slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="one of a large corpus: --run-slow runs it all"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tests run two at a time; one that is marked `alone` waits until no other runs, with all that it sets up.

    Who waits holds the gate meanwhile, or the other worker would begin one test after another.
    """
    alone = item.get_closest_marker("alone") and not item.get_closest_marker("skip")
    path = _lock(item.config)
    with path.open("w") as lock, path.with_suffix(".gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab in the user's git repository whose runs take a fifth of a second."""
    return make_quick_lab(tmp_path / "lab", seconds=0.2)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def research_loop() -> Iterator[Start]:
    """Starts the command line in a process of its own; whatever is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, cwd: Path | None = None, **options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from research_loop.cli import main; main()", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )  # type: ignore[call-overload]
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


SMALL = {"ASPECT_RATIO": 32, "HEAD_DIM": 32, "DEVICE_BATCH_SIZE": 8, "TOTAL_BATCH_SIZE": 1024}


@pytest.fixture(scope="session")
def gpt_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A prepared CPU lab of 750 documents in rows of 64 tokens, one second a run; tests do not change it."""
    folder = tmp_path_factory.mktemp("gpt")
    texts = folder / "texts"
    texts.mkdir()
    for name, documents in (("a", world.shard(0)[:600]), ("b", world.shard(0)[600:750])):
        (texts / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    lab = make_gpt_lab(folder / "lab", Wish(profile="cpu", source=str(texts), budget_seconds=1))
    set_constants(lab.root / "train.py", SMALL)
    set_constants(lab.root / "prepare.py", {"MAX_SEQ_LEN": 64})  # an exam asks about so many rows, of any length
    prepare_lab(lab, say=lambda line: None)
    # its baseline is run once: what is asked of a run is tested there, what of several in test_repeats.py
    config = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(config.replace("[task]", '[task]\nnoise = "none"', 1))
    return open_lab(lab.root)


@pytest.fixture(scope="session")
def prepare(gpt_lab: Lab) -> Iterator[ModuleType]:
    yield from module("prepare", gpt_lab)


@pytest.fixture(scope="session")
def train(gpt_lab: Lab, prepare: ModuleType) -> Iterator[ModuleType]:
    yield from module("train", gpt_lab)


@pytest.fixture
def tiny(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The lab's train.py with three layers of width 48 and every constant known, in float64 where it chooses."""
    import torch

    shape = {"DEPTH": 3, "ASPECT_RATIO": 16, "HEAD_DIM": 16, "WINDOW_PATTERN": "SL", "SHORT_WINDOW": 5}
    rates = {"EMBEDDING_LR": 0.6, "UNEMBEDDING_LR": 0.004, "MATRIX_LR": 0.04, "SCALAR_LR": 0.5, "NGRAM_LR": 2.0}
    schedule = {"WARMUP_RATIO": 0.2, "WARMDOWN_RATIO": 0.5, "FINAL_LR_FRAC": 0.1, "WEIGHT_DECAY": 0.2}
    schedule |= {"AVERAGE_HALF_LIFE": 0.0}
    others = {"ADAM_BETAS": (0.8, 0.95), "ADAM_EPS": 1e-10, "MUON_MOMENTUM": 0.95, "MUON_BETA2": 0.95}
    others |= {"MUON_DIP": 0.15, "MUON_DIP_STEPS": 200}
    tables = {"BIGRAM_ROWS": 32, "TRIGRAM_ROWS": 64, "GATE_CHANNELS": 32, "NGRAM_INPUT": 0.7}
    others |= {"X0_INIT": 0.1, "ROPE_BASE": 100, "SOFTCAP": 15}
    machine = {"MAX_SEQ_LEN": 16, "TOTAL_BATCH_SIZE": 64, "DTYPE": torch.float64}
    for name, value in {**shape, **rates, **schedule, **others, **tables, **machine}.items():
        monkeypatch.setattr(train, name, value)
    torch.manual_seed(0)
    return train


def module(name: str, lab: Lab) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(name, lab.root / f"{name}.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    yield loaded
    del sys.modules[name]


@pytest.fixture(scope="session")
def exam(gpt_lab: Lab) -> Exam:
    found = set_exam(gpt_lab.root / "data", seed=5)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def model(train: ModuleType, prepare: ModuleType) -> torch.nn.Module:
    """A model of a second's training: its predictions are sharp enough to leak something."""
    import torch

    torch.manual_seed(1)
    made: torch.nn.Module = train.GPT(prepare.VOCAB_SIZE)
    optimizer = train.Optimizer(made)
    batches = prepare.make_dataloader(prepare.Tokenizer.from_directory(), 16, prepare.MAX_SEQ_LEN, "train")
    for step in range(30):
        x, y, _ = next(batches)
        made(x, y).backward()
        optimizer.step(0.2, step)
    return made.eval()


@pytest.fixture
def begun_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with a baseline, whose runs take a second; a loop that a test leaves in it is ended."""
    lab = make_quick_lab(tmp_path / "lab", seconds=1.0)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
    yield lab
    pid = owner_pid(lab.state)
    if pid is not None and pid != os.getpid() and is_held(lab.state):
        os.kill(pid, signal.SIGTERM)
