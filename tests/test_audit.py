"""Baseline and champion again, with fresh seeds; nothing but the ledger's audits changes."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from research_loop import cheats
from research_loop.audit import _trouble, claim, compare_held, held_report, noted, report, run_audit, trained
from research_loop.errors import LabError
from research_loop.exam import set_exam
from research_loop.gpus import Gpu
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.noise import Direction
from research_loop.proposers import load
from research_loop.records import Audit, Experiment, Proposal, Result, Score, Verified
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
    text = report(samples, "val_bpb", "lower")
    assert f"champion (experiment 1): val_bpb {champion.mean:.6f}, standard deviation {champion.deviation:.6f}" in text
    assert f"baseline (experiment 0): val_bpb {baseline.mean:.6f}, standard deviation {baseline.deviation:.6f}" in text
    assert (
        text.count(", n 3, unverified") == 2
        and f"champion less baseline: {champion.mean - baseline.mean:+.6f}: p " in text
    )
    assert text.splitlines()[2].endswith(", significant") and "own scores differ by -0.5" in text
    assert held_report(baseline, champion, lab) == ""


def test_on_two_gpus_runs_go_side_by_side_and_take_turns(tmp_path: Path) -> None:
    """The champion is the quicker one: its first run ends before there is one of the baseline to hold it against."""
    slow = SEEDED.replace("import os, random", "import os, random, time").replace(
        "DEPTH = 1", "DEPTH = 1\ntime.sleep(1.2 / DEPTH)"
    )
    lab, two = lab_with_champion(tmp_path / "lab", slow), (Gpu(3, "H100", "GPU-a"), Gpu(5, "H100", "GPU-b"))
    with Session(lab, LocalRunner(2), gpus=two) as session:
        baseline, champion = session.history.experiments
        ended = [audit for audit, _ in trained(session, [baseline, champion] * 2)]
        samples = run_audit(session, 1, print)
    assert ended[0].n == champion.n and {audit.result.machine for audit in ended} == {"2 x H100 GPU-a GPU-b"}
    assert sorted((audit.n, audit.result.gpu) for audit in ended) == [(n, f"GPU-{x}") for n in (0, 1) for x in "ab"]
    begun = sorted((audit.started_at, audit.started_at + audit.result.seconds) for audit in ended)
    assert begun[1][0] < begun[0][1], "the second began before the first ended"
    assert samples is not None and [len(sample.scores) for sample in samples] == [1, 1]


def test_a_baseline_that_fails_beside_a_scored_champion_is_the_one_that_is_named(tmp_path: Path) -> None:
    late = 'if DEPTH == 1 and os.environ["RESEARCH_LOOP_SEED"] != "42":\n    time.sleep(1)\n    raise SystemExit(3)\n'
    code = SEEDED.replace("import os, random", "import os, random, time").replace("DEPTH = 1\n", f"DEPTH = 1\n{late}")
    lab, two = lab_with_champion(tmp_path / "lab", code), (Gpu(3, "H100", "GPU-a"), Gpu(5, "H100", "GPU-b"))
    with Session(lab, LocalRunner(2), gpus=two) as session, pytest.raises(LabError, match=r"^experiment 0: .*no score"):
        run_audit(session, 1, print)


def test_audits_survive_and_later_runs_go_on(tmp_path: Path) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    for _ in range(2):
        with Session(lab, LocalRunner()) as session:
            assert run_audit(session, 1, print) is not None
    with Session(lab, LocalRunner()) as session:
        assert len(session.ledger.audits()) == 4
        run_loop(session, load("search")(seed=0), Limits(experiments=1))
        assert len(session.history.experiments) == 3


def test_the_champion_of_the_last_audit_is_trained_anew_beside_the_new_one(tmp_path: Path) -> None:
    lab = lab_with_champion(tmp_path / "lab")
    with Session(lab, LocalRunner()) as session:
        assert run_audit(session, 1, print) is not None
        first = session.history.champion
        assert first is not None
        better = session.open().files["train.py"].replace(b"DEPTH = 2", b"DEPTH = 3")
        assert session.close(Proposal({"train.py": better}, "deeper", parent=first.n)).kept
        samples = run_audit(session, 2, print)
    assert samples is not None and [sample.experiment.n for sample in samples] == [0, first.n, 2]
    text = report(samples, "val_bpb", "lower")
    assert (
        f"champion audited last (experiment {first.n}): " in text and "champion less champion audited last: -" in text
    )


def test_there_must_be_something_to_compare(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", train=SEEDED)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        with pytest.raises(LabError, match="nothing was kept after the baseline yet"):
            run_audit(session, 1, print)


def test_a_run_without_a_score_ends_the_audit_in_one_line(tmp_path: Path) -> None:
    lucky = 'if os.environ["RESEARCH_LOOP_SEED"] != "42":\n    raise SystemExit(print("seed of an audit") or 3)\n'
    lab = lab_with_champion(tmp_path / "lab", SEEDED.replace("DEPTH = 1", f"{lucky}DEPTH = 1"))
    with Session(lab, LocalRunner()) as session, pytest.raises(LabError) as caught:
        run_audit(session, 1, print)
    assert "experiment 0: its audit run got no score (exit: exit code 3" in str(caught.value)
    log = Path(str(caught.value).rsplit(" is in ", 1)[1])
    assert "seed of an audit" in log.read_text()


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


# ------------------------------------------------------------------------------------------------------------- words


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("baseline", "champion", "found"),
    [
        ((1.0, 1.002, 0.998), (0.98, 0.981, 0.979), "significant"),
        ((1.0, 1.002, 0.998), (1.02, 1.021, 1.019), "not significant"),
        ((1.0, 1.05, 0.95), (0.98, 0.99, 0.97), "not significant"),
        ((1.0, 1.0, 1.0), (0.98, 0.981, 0.979), "significant"),
        ((1.0, 1.02), (0.98, 0.981, 0.979, 0.98), "not significant"),
    ],
)
@pytest.mark.parametrize("direction", ["lower", "higher"])
def test_a_claim_is_welchs_test_one_sided(
    baseline: tuple[float, ...], champion: tuple[float, ...], found: str, direction: Direction
) -> None:
    if direction == "higher":
        baseline, champion = tuple(-x for x in baseline), tuple(-x for x in champion)
    said = claim(baseline, champion, direction)
    with warnings.catch_warnings(action="ignore"):
        test = ttest_ind(champion, baseline, equal_var=False, alternative="less" if direction == "lower" else "greater")
    assert said.startswith(f"p {test.pvalue:.2g} (Welch's t-test, one-sided), {found}")
    assert (test.pvalue < 0.01) == (found == "significant") == said.endswith("significant")


@pytest.mark.filterwarnings("error")
def test_without_a_spread_there_is_no_p() -> None:
    for baseline, champion in (((1.0,), (0.9,)), ((1.0, 1.1, 0.9), (0.5,)), ((1.0,), (0.5, 0.6))):
        assert claim(baseline, champion, "lower") == "no p, which takes two runs of each or more"
    assert claim((1.0, 1.0), (0.9, 0.9), "lower") == "no p, since the runs of either do not differ at all"


@pytest.mark.parametrize(
    ("there", "promised", "words"),
    [
        (-0.3, -0.3, "the gain shows there, too"),
        (0.0004, -0.3, "THE GAIN DOES NOT SHOW THERE"),
        (0.1, -0.3, "THE GAIN DOES NOT SHOW THERE"),
        (-0.1, -0.3, "ONLY PART OF THE GAIN SHOWS THERE"),
        (0.0004, -0.01, "a gain so small does not show"),
        (0.0004, 0.01, ""),
    ],
)
def test_a_gain_that_is_not_there_on_text_never_sent_is_said(there: float, promised: float, words: str) -> None:
    random = np.random.default_rng(0)
    baseline = random.exponential(3.0, (160, 7))
    noise = 0.3 * random.standard_normal(baseline.shape)
    said = compare_held(baseline, baseline + there + noise - noise.mean(), promised)
    error = noise.mean(1).std(ddof=1) / math.sqrt(160)
    assert f"{there:+.4f} nats a token, standard error {error:.4f}; on the scored text {promised:+.4f}" in said
    assert words in said if words else said.endswith("+0.0100")


# ------------------------------------------------------------------------------------------------------------- exams


@pytest.fixture(scope="module")
def judged(gpt_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A GPT lab whose baseline hardly learns, and whose champion does; for longer, while there is a file "longer"."""
    copy = Path(shutil.copytree(gpt_lab.root, tmp_path_factory.mktemp("judged") / "lab", symlinks=True))
    shutil.rmtree(copy / ".research-loop", ignore_errors=True)
    text = (copy / "lab.toml").read_text()
    (copy / "lab.toml").write_text(text.replace('sandbox = "auto"', 'sandbox = "none"'))
    tiny, seconds = (cheats.find_corpus() / "tiny.py").read_text(), "seconds=TIME_BUDGET"
    longer = f"seconds=9 if __import__('os').path.exists({str(copy / 'longer')!r}) else TIME_BUDGET"
    assert tiny.count(seconds) == 1
    (copy / "train.py").write_text(tiny.replace(seconds, "seconds=0.1"))
    lab = open_lab(copy)
    with Session(lab, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None
        champion = Proposal({"train.py": tiny.replace(seconds, longer).encode()}, "trains", parent=baseline.n)
        assert session.close(champion).kept
    return lab


def test_without_a_sandbox_a_score_is_unverified_whatever_it_answers(judged: Lab) -> None:
    with Session(judged, LocalRunner()) as session:
        assert not session.jobs.contained
        for experiment in session.history.experiments:
            assert experiment.score is not None and experiment.score.verified == "unverified"
            assert session.ledger.held_nats(experiment.n) is not None, "it was asked all the same"


def test_an_audit_says_whether_the_gain_is_there_on_text_never_sent(judged: Lab) -> None:
    with Session(judged, LocalRunner()) as session:
        samples = run_audit(session, 1, print)
        assert samples is not None
    said = held_report(*samples, judged)
    with Session(judged, LocalRunner()) as session:
        assert noted(session.ledger)[-1].said.splitlines()[-1] == said
    assert said.startswith("on text never sent: -") and said.endswith("the gain shows there, too")
    remembered = replace(samples[1], held=samples[0].held)
    assert "+0.0000 nats a token, standard error 0.0000" in held_report(samples[0], remembered, judged)
    assert held_report(samples[0], remembered, judged).count("THE GAIN DOES NOT SHOW THERE") == 1
    assert "nothing was compared" in held_report(samples[0], replace(samples[1], held=(b"",)), judged)


def test_an_audit_run_that_took_longer_than_the_baselines_allow_is_no_number(judged: Lab) -> None:
    (judged.root / "longer").touch()
    slow = r"experiment 1: its audit run was scored after .* s, where the baseline's allow .* s: "
    with Session(judged, LocalRunner()) as session, pytest.raises(LabError, match=slow) as caught:
        run_audit(session, 1, print)
    assert Path(str(caught.value).rsplit(" is in ", 1)[1]).exists()
    ledger = Ledger(judged.ledger_path, read_only=True)
    assert all(audit.result.score for audit in ledger.audits()), "it is recorded with a score"
    assert "was scored after" in noted(ledger)[-1].refused and noted(ledger)[-1].said == ""


def audited(value: float, verified: Verified = "confirmed", committed: float = 10.0, exam: float = 4.0) -> Audit:
    result = Result("scored", score=Score(value, verified), ready_seconds=9.0, committed_seconds=committed)
    return Audit(0, 7, 0.0, replace(result, exam_seconds=exam))


def test_a_slow_exam_and_an_own_word_are_no_numbers_either() -> None:
    baseline = Experiment(0, "", "", "", "user", None, "", "", 0.0)
    known = [audited(1.0), audited(1.1, committed=12.0)]
    assert _trouble(audited(0.9, committed=17.0), known, baseline, 8.0) == ""
    assert "scored after 30.0 s, where the baseline's allow 18.0 s" in _trouble(
        audited(0.9, committed=30.0), known, baseline, 8.0
    )
    assert "took 40.0 s over its exam" in _trouble(audited(0.9, exam=40.0), known, baseline, 8.0)
    assert "has its own word for a score" in _trouble(audited(0.9, "unverified"), known, baseline, 8.0)
    assert _trouble(audited(0.9, "unverified"), [audited(1.0, "unverified")], baseline, 8.0) == ""


def test_an_audit_is_scored_on_rows_that_no_run_is_scored_on(gpt_lab: Lab) -> None:
    data = gpt_lab.root / "data"
    usual, audit = set_exam(data, 1), set_exam(data, 1, audit=True)
    assert usual is not None and audit is not None and audit.rival is None
    assert usual.scored[1] <= usual.held[0] < usual.held[1] <= audit.scored[0] < audit.scored[1]
    assert audit.held == usual.held
