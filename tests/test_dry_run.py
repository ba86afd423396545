"""Dry runs on shapes alone: what fails there never gets a GPU."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from research_loop.dry_run import DryRuns, read_failure
from research_loop.errors import ProposalError
from research_loop.lab import Lab, open_lab
from research_loop.runners.local import LocalRunner
from research_loop.session import Session

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
    return DryRuns(session.lab, session.jobs)


def check(session: Session, dry_runs: DryRuns, old: str, new: str, source: Path = OURS) -> None:
    """Replaces `old` once in `source`, as a proposal would."""
    text = source.read_text()
    assert text.count(old) == 1
    parent = {"train.py": text.encode()}
    commit = session.repository.commit(session.repository.head(), {**session.lab.read(["prepare.py"]), **parent}, "x")
    dry_runs.check({"train.py": text.replace(old, new).encode()}, parent, commit)


def test_a_shape_that_does_not_fit_is_refused_with_its_lines(session: Session, dry_runs: DryRuns) -> None:
    line = next(i for i, text in enumerate(STOCK.read_text().splitlines(), 1) if OUT in text)
    with pytest.raises(ProposalError) as caught:
        check(session, dry_runs, OUT, OUT.replace("self.c_fc(x)", "self.c_fc(x)[..., 1:]"), STOCK)
    said = str(caught.value)
    assert said.startswith("train.py:") and f" > {line}: fails before its first step" in said, said
    assert "RuntimeError: " in said and "\n" not in said and "dry_run" in said
    assert not list((session.lab.state / "runs").iterdir()), "nothing is left of it"


def test_an_error_in_the_optimizer_is_found_and_what_was_found_is_not_tried_again(
    session: Session, dry_runs: DryRuns
) -> None:
    for seconds in (200.0, 1.0):
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
        check(session, DryRuns(other, session.jobs), OUT, "return no_such_name")
    assert time.monotonic() - began < 2.0, "Python alone takes longer to load torch"


@pytest.mark.parametrize("line", ["", "{}", "[]", "7", '{"error": "E"}', '{"error": "E", "lines": ["x"], "words": ""}'])
def test_a_last_line_that_the_script_made_up_refuses_nothing(line: str) -> None:
    assert read_failure(line) is None
