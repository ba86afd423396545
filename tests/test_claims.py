"""What `research-loop report` claims of a lab: what its newest complete audit said, whatever runs the ledger holds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from research_loop.audit import conclusion, noted, run_audit
from research_loop.errors import LabError
from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.loop import ensure_baseline
from research_loop.records import Audit, Proposal, Result, Score, Verdict
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.views.report import report

SEEDED = """
import os, random
DEPTH = 1
WORTH = 0.5
if DEPTH > 1 and os.environ["RESEARCH_LOOP_SEED"] != "42" and os.path.exists(PLACE + "/fails"):
    raise SystemExit(3)
GAIN = 0.5 if os.environ["RESEARCH_LOOP_SEED"] == "42" else WORTH
random.seed(int(os.environ["RESEARCH_LOOP_SEED"]))
print(f"---\\nval_bpb:          {3.0 - GAIN * DEPTH + 0.01 * random.random():.6f}")
"""


def lab_with_champion(folder: Path, worth: float = 0.5) -> Lab:
    """The champion gains 0.5 where it is kept, and `worth` in an audit, whose runs of it fail beside a file "fails"."""
    train = f"PLACE = {str(folder)!r}\n" + SEEDED.replace("WORTH = 0.5", f"WORTH = {worth}")
    lab = make_quick_lab(folder, train=train)
    with Session(lab, LocalRunner()) as session:
        assert ensure_baseline(session) is not None
        keep_deeper(session)
    return lab


def keep_deeper(session: Session) -> None:
    champion = session.history.champion
    assert champion is not None
    old = session.open().files["train.py"]
    depth = 1 + sum(experiment.kept for experiment in session.history.experiments)
    new = old.replace(f"DEPTH = {depth - 1}".encode(), f"DEPTH = {depth}".encode())
    assert session.close(Proposal({"train.py": new}, "deeper", parent=champion.n)).kept


def reported(lab: Lab) -> str:
    ledger = Ledger(lab.ledger_path, read_only=True)
    return report(ledger.history, noted(ledger), lab.config, "lab", audit_runs=len(ledger.audits()))


def stopping(session: Session, after: int) -> Callable[[str], None]:
    """Stops the session as Ctrl-C does, once so many runs were told of."""
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        session.stopping = len(told) >= after

    return say


def test_an_audit_that_was_refused_claims_nothing_though_its_runs_are_recorded(tmp_path: Path) -> None:
    lab, said = lab_with_champion(tmp_path / "lab"), []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 4:
            (lab.root / "fails").touch()

    with Session(lab, LocalRunner()) as session, pytest.raises(LabError, match="got no score"):
        run_audit(session, 3, say)
    with Session(lab, LocalRunner()) as session:
        assert sum(audit.result.score is not None for audit in session.ledger.audits()) == 5
    text = reported(lab)
    assert "significant" not in text and "no claim: experiment 1 has no complete audit" in text
    assert "claims nothing: it was refused: experiment 1: its audit run got no score (exit: " in text


def test_the_champion_of_a_refused_audit_is_not_trained_in_the_next(tmp_path: Path) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    (lab.root / "fails").touch()
    with Session(lab, LocalRunner()) as session:
        with pytest.raises(LabError, match="got no score"):
            run_audit(session, 1, print)
        (lab.root / "fails").unlink()
        keep_deeper(session)
        samples = run_audit(session, 1, print)
    assert samples is not None and [sample.experiment.n for sample in samples] == [0, 2]


def test_runs_of_another_machine_do_not_count(tmp_path: Path) -> None:
    """With the other machine's baselines, whose scores are far worse, this champion would be significant."""
    lab = lab_with_champion(tmp_path / "lab", worth=-0.5)
    with Session(lab, LocalRunner()) as session:
        for seed in range(6):
            other = Result("scored", score=Score(30.0 + seed / 100), machine="a slow one")
            session.ledger.record_audit(Audit(0, seed, 0.0, other))
        assert run_audit(session, 2, print) is not None
    text = reported(lab)
    assert text.count(", n 2, unverified") == 2 and "p < 0.01" in text and ", significant" not in text
    assert "trained on " in text and "a slow one" not in text


def test_audits_do_not_add_up_and_each_try_is_counted(tmp_path: Path) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    for _ in range(2):
        with Session(lab, LocalRunner()) as session:
            assert run_audit(session, 2, stopping(session, 2)) is None
    text = reported(lab)
    assert "significant" not in text and "no claim: experiment 1 has no complete audit" in text
    assert "claims nothing: it was interrupted, or still runs\naudits in this lab: 2, 2 of which claim nothing" in text
    with Session(lab, LocalRunner()) as session:
        samples = run_audit(session, 2, print)
        assert samples is not None and len(session.ledger.audits()) == 8
        assert run_audit(session, 2, stopping(session, 3)) is None
    text = reported(lab)
    assert text.count(", n 2, unverified") == 2 and "audits in this lab: 4, 3 of which claim nothing" in text
    assert all(f"  {line}" in text.splitlines() for line in conclusion(samples, lab).splitlines())
    assert text.count("interrupted") == 1


def test_a_report_repeats_each_line_that_the_audit_printed(
    tmp_path: Path, research_loop: Callable[..., subprocess.Popen[str]]
) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    audit, _ = research_loop("audit", lab.root, "--runs", "2").communicate(timeout=120)
    said = audit.splitlines()[-5:]
    assert [line.split(":")[0] for line in said[:2]] == ["baseline (experiment 0)", "champion (experiment 1)"]
    assert all(" standard deviation 0.00" in line and line.endswith(", n 2, unverified") for line in said[:2])
    text, _ = research_loop("report", lab.root).communicate(timeout=60)
    assert "\n".join(f"  {line}" for line in said) in text
    assert "the audit of experiment 1, " in text and "trained on " in text and "audits in this lab" not in text


def test_a_claim_of_what_was_taken_back_says_so(tmp_path: Path) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    with Session(lab, LocalRunner()) as session:
        keep_deeper(session)
        assert run_audit(session, 2, print) is not None
        session.ledger.revise(2, Verdict("discard", "rejected: look-ahead", "it looked ahead", 0.0))
        deeper = session.open().files["train.py"].replace(b"DEPTH = 2", b"DEPTH = 4")
        assert session.close(Proposal({"train.py": deeper}, "much deeper", parent=1)).kept
        assert [sample.experiment.n for sample in run_audit(session, 2, print) or []] == [0, 3]
    ledger = Ledger(lab.ledger_path, read_only=True)
    text = report(ledger.history, noted(ledger)[:1], lab.config, "lab", audit_runs=4)
    assert "the audit of experiment 2" in text and "THAT WAS TAKEN BACK SINCE: it looked ahead" in text
    assert "TAKEN BACK" not in reported(lab)
