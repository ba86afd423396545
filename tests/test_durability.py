"""Nothing is lost: kill -9, a full disk, a stop at any moment; the next start goes on at once."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from research_loop import edits
from research_loop.branch import HEADS, ref_of
from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, run_loop
from research_loop.records import Checkout, History, Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import git, make_quick_lab

Start = Callable[..., "subprocess.Popen[str]"]
KILLS = 15


def history_of(lab: Lab) -> History:
    ledger = Ledger(lab.ledger_path, read_only=True)
    try:
        return ledger.history
    finally:
        ledger.close()


def processes_of(lab: Lab) -> list[psutil.Process]:
    """Everything alive that a run of this lab started."""
    ledger = Ledger(lab.ledger_path, read_only=True)
    lab_id = ledger.noted("lab_id")
    ledger.close()
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RESEARCH_LOOP_LAB") == lab_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def assert_views_agree(lab: Lab) -> None:
    """results.tsv, branch, refs and the lab's files say what the ledger says."""
    history = history_of(lab)
    champion = history.champion
    assert champion is not None
    lines = git(lab.root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    refs = dict(line.split(" ") for line in lines)
    (branch,) = [ref for ref in refs if ref.startswith(HEADS)]
    assert refs[branch] == champion.commit
    assert {ref_of(e.n): e.commit for e in history.experiments}.items() <= refs.items()
    rows = (lab.root / "results.tsv").read_text().splitlines()[1:]
    decided = [e for e in history.experiments if e.verdict]
    assert [row.split("\t")[0] for row in rows] == [e.commit[:7] for e in decided]
    assert git(lab.root, "show", f"{champion.commit}:train.py") == (lab.root / "train.py").read_text()


def test_kill_after_kill_loses_nothing_and_leaves_nothing(tmp_path: Path, research_loop: Start) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=0.15)
    dice = random.Random(7)
    acknowledged: dict[int, str] = {}
    start = 0.0
    for kills in range(4 * KILLS):  # more of them where a busy machine gets nowhere in between
        if kills >= KILLS and len(acknowledged) > 3:
            break
        harness, began = research_loop("run", lab.root), time.monotonic()
        assert harness.stdout is not None
        if not start:
            wait_for(lab.ledger_path.exists)
            start = time.monotonic() - began
        time.sleep(0.6 * start + dice.random() * (0.6 + start))  # a busy machine takes longer to get anywhere
        harness.kill()
        output = harness.stdout.read()
        harness.wait()
        said = re.findall(
            r"^experiment (\d+): .*\n(?:  (?:\d+ s left|trained).*\n)*  (keep|discard|crash): ", output, re.M
        )
        acknowledged.update({int(n): kind for n, kind in said})
    deadline = time.monotonic() + 5
    while (left := processes_of(lab)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    last = research_loop("run", lab.root, "--experiments", 2)
    _, errors = last.communicate(timeout=60)
    assert (last.returncode, errors) == (0, "")
    kinds = {e.n: e.verdict.kind for e in history_of(lab).experiments if e.verdict}
    assert acknowledged.items() <= kinds.items()
    assert len(acknowledged) > 3
    assert not history_of(lab).open
    assert_views_agree(lab)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def running(lab: Lab) -> Callable[[], bool]:
    return lambda: lab.ledger_path.exists() and (lab.state / "live.json").exists()


def test_ctrl_c_finishes_the_experiment_and_ends(tmp_path: Path, research_loop: Start) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=1.0)
    harness = research_loop("run", lab.root)
    wait_for(running(lab))
    harness.send_signal(signal.SIGINT)
    output, errors = harness.communicate(timeout=30)
    assert (harness.returncode, errors) == (130, "")
    assert "finishing this experiment" in output
    history = history_of(lab)
    assert [e.verdict.kind for e in history.experiments if e.verdict] == ["keep"] and not history.open


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_a_second_ctrl_c_or_a_term_stops_at_once_and_the_experiment_goes_on_later(
    tmp_path: Path, research_loop: Start, signals: tuple[signal.Signals, ...]
) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=4.0)
    harness = research_loop("run", lab.root)
    wait_for(running(lab))
    start = time.monotonic()
    for number in signals:
        harness.send_signal(number)
        time.sleep(0.3)
    _, errors = harness.communicate(timeout=30)
    assert time.monotonic() - start < 3.5
    assert (harness.returncode, errors) == (130, "")
    assert not processes_of(lab)
    (baseline,) = history_of(lab).experiments
    assert baseline.verdict is None and baseline.last is not None and baseline.last.outcome == "stopped"
    again = research_loop("run", lab.root, "--hours", 0)
    again.communicate(timeout=60)
    assert again.returncode == 0
    (baseline,) = history_of(lab).experiments
    assert len(baseline.runs) == 2 and baseline.kept


def test_a_loop_under_nohup_outlives_its_terminal(tmp_path: Path, research_loop: Start) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=1.0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as from nohup
    try:
        harness = research_loop("run", lab.root, "--experiments", 1)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    wait_for(running(lab))
    harness.send_signal(signal.SIGHUP)
    harness.communicate(timeout=60)
    assert harness.returncode == 0 and len(history_of(lab).experiments) == 2


def test_a_closed_terminal_stops_the_loop_and_the_experiment_goes_on_later(
    tmp_path: Path, research_loop: Start
) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=4.0)
    harness = research_loop("run", lab.root)
    wait_for(running(lab))
    harness.send_signal(signal.SIGHUP)
    harness.communicate(timeout=30)
    (baseline,) = history_of(lab).experiments
    assert harness.returncode == 130 and baseline.last is not None and baseline.last.outcome == "stopped"


def test_a_second_loop_is_refused_in_one_line_with_the_pid(tmp_path: Path, research_loop: Start) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=2.0)
    first = research_loop("run", lab.root)
    wait_for(running(lab))
    second = research_loop("run", lab.root)
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"pid {first.pid}" in errors and errors.count("\n") == 1
    assert first.poll() is None


def test_an_experiment_that_takes_the_harness_down_again_and_again_is_a_crash(lab: Lab, research_loop: Start) -> None:
    slow = (lab.root / "train.py").read_text().replace("SECONDS = 0.2", "SECONDS = 2.0")
    (lab.root / "train.py").write_text(slow)
    for _ in range(3):
        harness = research_loop("run", lab.root)
        wait_for(running(lab))
        harness.kill()
        harness.wait()
        (lab.state / "live.json").unlink()
    last = research_loop("run", lab.root, "--experiments", 1)
    last.communicate(timeout=60)
    assert last.returncode == 0
    first, second = history_of(lab).experiments[:2]
    assert first.verdict is not None and (first.verdict.kind, first.verdict.reason) == ("crash", "lost")
    assert second.kept and second.key == first.key


needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 130 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=130m", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


FILLS_THE_DISK = """
import sys
try:
    with open(sys.argv[0] + ".big", "wb") as f:
        while True:
            f.write(bytes(2**20))
            f.flush()
except OSError as error:
    sys.exit(str(error))
"""


@needs_mount
def test_a_run_that_fills_the_disk_is_a_crash_in_the_ledger(small_disk: Path, research_loop: Start) -> None:
    lab = make_quick_lab(small_disk / "lab", train=FILLS_THE_DISK)
    harness = research_loop("run", lab.root)
    _, errors = harness.communicate(timeout=60)
    assert harness.returncode == 1 and errors.count("\n") == 1
    (baseline,) = history_of(lab).experiments
    assert baseline.verdict is not None and baseline.verdict.kind == "crash"
    assert "No space left" in baseline.verdict.detail


@needs_mount
def test_a_full_disk_is_one_line_and_the_loop_goes_on_with_space(small_disk: Path, research_loop: Start) -> None:
    lab = make_quick_lab(small_disk / "lab", seconds=0.2)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(60 * 2**20))
    full = research_loop("run", lab.root)
    _, errors = full.communicate(timeout=60)
    assert full.returncode == 1 and "the disk has" in errors and errors.count("\n") == 1
    ballast.unlink()
    good = research_loop("run", lab.root, "--experiments", 1)
    good.communicate(timeout=60)
    assert good.returncode == 0
    assert_views_agree(lab)


HOLDS_THE_DISK = r"""
import os, time
HOLD = 0
if HOLD == 1:
    with open("big", "wb") as f:
        try:
            while True:
                f.write(bytes(2**20))
                f.flush()
        except OSError:
            time.sleep(3.0)
    os.unlink("big")
else:
    time.sleep(1.0)
print(f"---\nval_bpb: {2.0 - HOLD / 1000:.6f}")
"""


class Numbered:
    """Proposes another number for HOLD at every call; the first one fills the disk."""

    name, deterministic = "numbered", False

    def propose(self, checkout: Checkout, history: History) -> Proposal:
        hold = 1 if len(history.experiments) == 1 else -len(history.experiments)
        edited = edits.replace(checkout.files["train.py"].decode(), {"HOLD": hold})
        return Proposal({"train.py": edited.encode()}, f"HOLD {hold}", proposer=self.name, parent=checkout.parent)


@needs_mount
def test_a_run_that_fills_the_disk_for_a_while_holds_up_the_slot_beside_it_and_ends_nothing(small_disk: Path) -> None:
    lab = make_quick_lab(small_disk / "lab", train=HOLDS_THE_DISK)
    with Session(lab, LocalRunner(2)) as session:
        assert run_loop(session, Numbered(), Limits(5)) == "done"
        found = session.history.experiments
    assert len(found) == 6 and all(e.verdict for e in found)
    filled, beside = (e.runs[0] for e in found[1:3])
    assert filled.result is not None and filled.result.outcome == "scored"
    assert found[3].created_at > filled.started_at + 3.0 > beside.started_at, "nothing began on the full disk"


def test_a_stale_git_lock_does_not_block_a_keep(lab: Lab, research_loop: Start) -> None:
    first = research_loop("run", lab.root, "--experiments", 1)
    first.communicate(timeout=60)
    (branch,) = [line for line in git(lab.root, "for-each-ref", "--format=%(refname)").splitlines() if HEADS in line]
    (lab.root / ".git" / f"{branch}.lock").touch()
    (lab.root / ".git" / "index.lock").touch()
    second = research_loop("run", lab.root, "--experiments", 3)
    _, errors = second.communicate(timeout=60)
    assert (second.returncode, errors) == (0, "")
    assert_views_agree(lab)


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; sleep 600"], start_new_session=True)
time.sleep(600)
"""


def test_a_run_that_ignores_term_and_forks_is_a_timeout(tmp_path: Path, research_loop: Start) -> None:
    lab = make_quick_lab(tmp_path / "lab", train=STUBBORN)
    text = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(text.replace("seconds = 5.0", "seconds = 0.5").replace("10.0", "1.0"))
    harness = research_loop("run", lab.root)
    _, errors = harness.communicate(timeout=60)
    assert harness.returncode == 1 and "timeout" in errors and errors.count("\n") == 1
    assert not processes_of(lab)
    ps = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "sleep 600" not in ps


def test_no_git_is_one_clear_line(lab: Lab) -> None:
    code = "from research_loop.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", lab.root], env={"PATH": "/nonexistent"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "git was not found" in done.stderr and done.stderr.count("\n") == 1
