"""Dry runs on shapes alone: what fails there never gets a GPU."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from research_loop.dry_child import is_certain
from research_loop.dry_run import DryRuns, read_failure
from research_loop.errors import ProposalError
from research_loop.lab import Lab, open_lab
from research_loop.loop import ensure_baseline
from research_loop.records import Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab

STOCK = Path(__file__).parents[1] / "benchmarks" / "stock_train.py"
OURS = Path(__file__).parents[1] / "src" / "research_loop" / "labs" / "gpt" / "train.py"
OUT = "return self.c_proj(F.relu(self.c_fc(x)).square())"


@pytest.fixture(scope="module")
def lab(gpt_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    copy = Path(shutil.copytree(gpt_lab.root, tmp_path_factory.mktemp("dry") / "lab", symlinks=True))
    shutil.rmtree(copy / ".research-loop", ignore_errors=True)
    text = (copy / "lab.toml").read_text()
    (copy / "lab.toml").write_text(text.replace("[task]", '[task]\ndry_run = "always"', 1))
    return open_lab(copy)


@pytest.fixture(scope="module")
def session(lab: Lab) -> Iterator[Session]:
    with Session(lab, LocalRunner()) as opened:
        yield opened


@pytest.fixture(scope="module")
def dry_runs(session: Session) -> DryRuns:
    return DryRuns(session.lab, session.jobs, lambda: session.halted)


def check(session: Session, dry_runs: DryRuns, old: str, new: str, source: Path = OURS, **more: Any) -> None:
    """Replaces `old` once in `source`, as a proposal would."""
    text = source.read_text().replace("\nDEPTH = 8", "\nDEPTH = 2")  # two layers tell as much as eight, in less time
    assert text.count(old) == 1
    parent = {"train.py": text.encode()}
    commit = session.repository.commit(session.repository.head(), {**session.lab.read(["prepare.py"]), **parent}, "x")
    dry_runs.check({"train.py": text.replace(old, new).encode()}, parent, commit, **more)


def test_a_shape_that_does_not_fit_is_refused_with_its_lines(session: Session, dry_runs: DryRuns) -> None:
    line = next(i for i, text in enumerate(STOCK.read_text().splitlines(), 1) if OUT in text)
    with pytest.raises(ProposalError) as caught:
        check(session, dry_runs, OUT, OUT.replace("self.c_fc(x)", "self.c_fc(x)[..., 1:]"), STOCK)
    said = str(caught.value)
    assert said.startswith("train.py:") and f" > {line}: fails before its first step" in said, said
    assert "RuntimeError: " in said and "\n" not in said and "--again" in said
    assert not list((session.lab.state / "runs").iterdir()), "nothing is left of it"


def test_an_error_in_the_optimizer_is_found_and_what_was_found_is_not_tried_again(
    session: Session, dry_runs: DryRuns
) -> None:
    for seconds in (200.0, 4.0):  # a dry run takes five at least
        began = time.monotonic()
        with pytest.raises(ProposalError, match=r"train.py:[0-9 >]+: fails .*AttributeError"):
            check(session, dry_runs, "optimizer.step(share, step)", "optimizer.steep(share, step)")
        assert time.monotonic() - began < seconds


def test_where_the_old_code_fails_as_well_nothing_is_refused(
    session: Session, dry_runs: DryRuns, tmp_path: Path
) -> None:
    broken = tmp_path / "train.py"
    broken.write_text("import torch\ndef unused(): pass\nraise ValueError('no')\n")
    check(session, dry_runs, "raise ValueError('no')", "raise ValueError('neither')", broken)


def test_where_the_dry_run_of_the_old_code_was_stopped_nothing_is_refused(session: Session) -> None:
    dry_runs = DryRuns(session.lab, session.jobs, lambda: session.halted)
    known = dry_runs._known
    check(session, dry_runs, OUT, OUT.replace("(x)", "(x)[..., 1:]"), STOCK, stopped=lambda: bool(known))
    assert [failure is None for failure in known.values()] == [False]


def test_constants_alone_other_tasks_and_labs_without_a_gpu_have_no_dry_run(
    session: Session, dry_runs: DryRuns
) -> None:
    began = time.monotonic()
    check(session, dry_runs, "HEAD_DIM = 128", "HEAD_DIM = 7")
    for changed in (
        {"dry_run": "never"},
        {"dry_run": "auto", "score": "run"},
        {"command": ("bash", "train.py")},
        {"editable": ("other.py",)},
    ):
        other = replace(session.lab, config=replace(session.lab.config, **changed))  # type: ignore[arg-type]
        check(session, DryRuns(other, session.jobs, lambda: session.halted), OUT, "return no_such_name", STOCK)
    assert time.monotonic() - began < 2.0, "Python alone takes longer to load torch"


@pytest.mark.parametrize(
    "line",
    ["", "{}", "[]", "7", '{"error": "E"}', '{"error": "E", "lines": 7, "words": ""}', "[" * 5000, "\ufffd" * 9],
)
def test_a_last_line_that_the_script_made_up_refuses_nothing(line: str) -> None:
    assert read_failure(line) is None


def test_numbers_that_are_none_end_no_reader() -> None:
    found = read_failure('{"error": "E", "lines": [Infinity, 1e999, "x", null, 3], "words": ""}')
    assert found is not None and found.lines == (3,)


MISFITS: dict[str, Callable[[], object]] = {
    "matrices": lambda: torch.zeros(2, 3) @ torch.zeros(2, 3),
    "linear": lambda: torch.nn.Linear(3, 4)(torch.zeros(2, 5)),
    "sum": lambda: torch.zeros(2, 3) + torch.zeros(2, 4),
    "view": lambda: torch.zeros(2, 3).view(7),
    "cat": lambda: torch.cat([torch.zeros(2, 3), torch.zeros(3, 4)]),
    "stack": lambda: torch.stack([torch.zeros(2), torch.zeros(3)]),
    "split": lambda: torch.zeros(5).split([2, 2]),
    "norm": lambda: torch.nn.functional.rms_norm(torch.zeros(2, 3), (4,)),
    "transpose": lambda: torch.zeros(2, 3).transpose(1, 2),
    "index": lambda: torch.zeros(2, 3)[:, :, 0],
    "unpack": lambda: (lambda a, b: None)(*torch.zeros(3)),
    "keyword": lambda: torch.nn.Linear(3, 4, biased=False),  # type: ignore[call-arg]
    "attribute": lambda: torch.nn.Linear(3, 4).weigth,
    "module": lambda: torch.relu_squared,  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("what", MISFITS)
def test_what_real_tensors_refuse_is_certain(what: str) -> None:
    with pytest.raises(Exception) as caught:
        MISFITS[what]()
    assert is_certain(caught.value, str(caught.value)), repr(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        TypeError("unsupported format string passed to FakeTensor.__format__"),
        RuntimeError(".numpy() is not supported for tensor subclasses."),
        RuntimeError("Found no NVIDIA driver on your system."),
        RuntimeError("0 active drivers ([]). There should only be one."),
        RuntimeError("There was no fake impl registered for mylib::op"),
        AttributeError("Can't pickle local object 'main.<locals>.f'"),
        AttributeError("'NoneType' object has no attribute 'square'"),
        AttributeError("'Parameter' object has no attribute 'lr_scale'"),
        RuntimeError("Cannot access data pointer of Tensor"),
        AssertionError("weights are not tied"),
        RuntimeError("expected scalar type torch.bfloat16 but found torch.float32"),
        AttributeError("'Linear' object has no attribute '_orig_mod'"),
        UnboundLocalError("cannot access local variable 'stream' where it is not associated with a value"),
        KeyError("weight"),
        OSError(28, "No space left on device"),
        SystemExit(1),
    ],
    ids=repr,
)
def test_what_only_fake_tensors_may_refuse_is_not(error: BaseException) -> None:
    assert not is_certain(error, str(error))


# ------------------------------------------------------------------------------------------------------- in a session

PLAIN = "print('---')\nprint('val_bpb: 1.0')\n"


@pytest.fixture
def quick(tmp_path: Path) -> Lab:
    """A lab whose train.py needs no torch."""
    root = make_quick_lab(tmp_path / "lab", train=PLAIN).root
    text = (root / "lab.toml").read_text()
    (root / "lab.toml").write_text(text.replace("[task]", '[task]\ndry_run = "always"', 1))
    return open_lab(root)


def test_code_of_others_is_tried_dry_unless_it_is_wanted_again(quick: Lab) -> None:
    broken = {"train.py": f"''.no_such()\n{PLAIN}".encode()}
    with Session(quick, LocalRunner()) as session:
        ensure_baseline(session)
        with pytest.raises(ProposalError, match=r"train.py:1: fails .*AttributeError"):
            session.submit(Proposal(broken, "mine", proposer="user", parent=0))
        assert len(session.history.experiments) == 1, "nothing is recorded of it"
        session.submit(Proposal(broken, "again", proposer="user", parent=0), again=True)
        ours = {"train.py": f"''.no_such_either()\n{PLAIN}".encode()}
        session.submit(Proposal(ours, "the search's", proposer="search/code", parent=0))
        assert len(session.history.experiments) == 3


def test_a_second_ctrl_c_ends_a_dry_run(quick: Lab) -> None:
    with Session(quick, LocalRunner()) as session:
        dry_runs = DryRuns(session.lab, session.jobs, lambda: True)
        began = time.monotonic()
        parent = {"train.py": PLAIN.encode()}
        commit = session.repository.commit(session.repository.head(), parent, "x")
        dry_runs.check({"train.py": f"import time\ntime.sleep(300)\n{PLAIN}".encode()}, parent, commit)
        assert time.monotonic() - began < 20
        assert not list((session.lab.state / "runs").iterdir())
