"""The null campaign: real runs of code that nothing changes, over seeds of their own, and what is counted of them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from research_loop import null
from research_loop.cli import app
from research_loop.errors import LabError
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger
from research_loop.records import Experiment, History, Result, Run, Score, Verdict
from research_loop.testing.labs import git, make_quick_lab

LUCKY = """# A run's score is its seed's.
import os
import random

random.seed(int(os.environ["RESEARCH_LOOP_SEED"]))
print(f"val_bpb: {1 + random.gauss(0, 0.001):.6f}")
"""


@pytest.fixture
def lucky(tmp_path: Path) -> Lab:
    lab = make_quick_lab(tmp_path / "lab", train=LUCKY)
    text = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(text.replace('noise = "none"', 'noise = "measured"'))
    return open_lab(lab.root)


def null_history(lab: Lab) -> History:
    return Ledger(lab.state / null.FOLDER / ".research-loop" / "ledger.sqlite", read_only=True).history


def test_a_null_campaign_goes_on_where_it_was_and_touches_nothing_of_the_lab(lucky: Lab) -> None:
    before = git(lucky.root, "log", "--oneline", "--all")
    for wanted in (3, 5):
        said = CliRunner().invoke(app, ["doctor", str(lucky.root), "--null", str(wanted)])
        assert said.exit_code == 0, said.output
        assert f"{wanted} experiments that changed nothing" in said.output
    assert f"0 false keeps, 0.00 a hundred (below 45.07, 95 %), {null.STATED} is what it states" in said.output
    assert "upstream's rule: lower is kept" in said.output and "two sigma of three baselines" in said.output
    assert git(lucky.root, "log", "--oneline", "--all") == before and not lucky.ledger_path.exists()
    runs = [run for e in null_history(lucky).experiments for run in e.runs]
    assert len({run.seed for run in runs}) == len(runs) >= 8, "everybody has luck of his own"
    assert len({run.result.score.value for run in runs if run.result and run.result.score}) == len(runs)


def test_a_lab_without_its_data_is_one_line(lucky: Lab) -> None:
    text = (lucky.root / "lab.toml").read_text()
    (lucky.root / "lab.toml").write_text(text.replace("[task]", '[task]\nlink = ["data"]', 1))
    with pytest.raises(LabError, match="has no data: `research-loop prepare` first"):
        null.make_null_lab(open_lab(lucky.root))


def judged(n: int, score: float, kind: str, reason: str = "noise") -> Experiment:
    verdict = Verdict(kind, reason, "", float(n))  # type: ignore[arg-type]
    runs = (Run(n, 0, n, 0.0, result=Result("scored", score=Score(score))),)
    return Experiment(n, "", "", "", "null", None if n == 0 else 0, "c", "k", 0.0, runs, verdict)


def test_what_was_kept_and_what_was_taken_back_are_false_keeps() -> None:
    runs = tuple(Run(0, k, k, 0.0, result=Result("scored", score=Score(1 + k / 1000))) for k in (-1, 0, 1))
    baseline = replace(judged(0, 1.0, "keep"), runs=runs)
    others = (judged(1, 0.998, "keep"), judged(2, 0.9965, "discard", "revised"), judged(3, 1.1, "discard"))
    lines = null.report(History((baseline, *others)), "val_bpb", "lower", 60.0).splitlines()
    assert [line.split(" false keeps")[0].split()[-1] for line in lines[1:]] == ["2", "2", "1"]


def test_upstreams_rule_keeps_each_record_of_a_stream() -> None:
    draw = random.Random(0)
    keeps = [null.upstream_keeps(draw.gauss(0, 1), [draw.gauss(0, 1) for _ in range(125)], "lower") for _ in range(400)]
    assert 3.9 < sum(keeps) / len(keeps) < 5.0, "the harmonic number of 126, less one: 4.4"
    assert null.upstream_keeps(0.0, [1.0, 0.5, 2.0], "higher") == 2
    assert null.two_sigma_keeps([1.0, 1.01, 0.99], [0.985, 0.97, 0.955, 0.94], "lower") == 2
