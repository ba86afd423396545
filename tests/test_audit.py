"""Baseline and champion again, with fresh seeds; nothing but the ledger's audits changes."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from research_loop.audit import report, run_audit
from research_loop.errors import LabError
from research_loop.exam import set_exam
from research_loop.lab import Lab
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.proposers import load
from research_loop.records import Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from runs import until

SEEDED = """
import os, random
DEPTH = 1
random.seed(int(os.environ["RESEARCH_LOOP_SEED"]))
print(f"---\\nval_bpb:          {2.0 - 0.5 * DEPTH + 0.01 * random.random():.6f}")
"""


def lab_with_champion(folder: Path, train: str = SEEDED) -> Lab:
    lab = make_quick_lab(folder, train=train)
    with Session(lab, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None
        better = train.replace("DEPTH = 1", "DEPTH = 2").encode()
        kept = session.close(Proposal({"train.py": better}, "deeper", parent=baseline.n))
        assert kept.kept
    return lab


def test_an_audit_trains_both_anew_with_fresh_seeds_and_changes_nothing(tmp_path: Path) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    said: list[str] = []
    with Session(lab, LocalRunner()) as session:
        before, tip = session.history, session.repository.refs("refs/")
        samples = run_audit(session, 3, said.append)
        assert samples is not None
        assert (session.history, session.repository.refs("refs/")) == (before, tip)
        audits = session.ledger.audits()
    baseline, champion = samples
    assert len(said) == 6 and [a.n for a in audits] == [0, 1, 0, 1, 0, 1]
    assert len({a.seed for a in audits}) == 6 and 42 not in {a.seed for a in audits}
    assert baseline.scores == tuple(a.result.score.value for a in audits[::2] if a.result.score)
    assert len(set(champion.scores)) == 3 and champion.mean < 1.02 < 1.5 <= baseline.mean
    text = report(baseline, champion, "val_bpb")
    assert f"champion (experiment 1): val_bpb {champion.mean:.6f}, standard deviation" in text
    assert "difference -0.50" in text or "difference -0.49" in text
    assert "own scores differ by -0.5" in text and "unverified" in text


def test_audits_survive_and_later_runs_go_on(tmp_path: Path) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    for _ in range(2):
        with Session(lab, LocalRunner()) as session:
            assert run_audit(session, 1, print) is not None
    with Session(lab, LocalRunner()) as session:
        assert len(session.ledger.audits()) == 4
        run_loop(session, load("search")(seed=0), Limits(experiments=1))
        assert len(session.history.experiments) == 3


def test_there_must_be_something_to_compare(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", train=SEEDED)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        with pytest.raises(LabError, match="nothing was kept after the baseline yet"):
            run_audit(session, 1, print)


def test_a_run_without_a_score_ends_the_audit_in_one_line(tmp_path: Path) -> None:
    lucky = 'if os.environ["RESEARCH_LOOP_SEED"] != "42":\n    raise SystemExit(3)\n'
    lab = lab_with_champion(tmp_path / "lab", SEEDED.replace("DEPTH = 1", f"{lucky}DEPTH = 1"))
    with Session(lab, LocalRunner()) as session, pytest.raises(LabError) as caught:
        run_audit(session, 1, print)
    assert "experiment 0: its audit run got no score (exit: exit code 3" in str(caught.value)


def test_ctrl_c_twice_ends_an_audit_at_once_and_leaves_nothing(
    tmp_path: Path, research_loop: Callable[..., subprocess.Popen[str]]
) -> None:
    slow = 'import time\nif os.environ["RESEARCH_LOOP_SEED"] != "42":\n    time.sleep(60)\n'
    lab = lab_with_champion(tmp_path / "lab", SEEDED.replace("DEPTH = 1", f"{slow}DEPTH = 1"))
    process = research_loop("audit", lab.root, "--runs", "5")
    assert until(lambda: len(list((lab.state / "logs").glob("*.100*.log"))) == 1, 20)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in out + error


def test_an_audit_is_scored_on_rows_that_no_run_is_scored_on(gpt_lab: Lab) -> None:
    data = gpt_lab.root / "data"
    usual, audit = set_exam(data, 1), set_exam(data, 1, audit=True)
    assert usual is not None and audit is not None and audit.rival is None
    assert usual.scored[1] <= usual.held[0] < usual.held[1] <= audit.scored[0] < audit.scored[1]
    assert audit.held == usual.held
