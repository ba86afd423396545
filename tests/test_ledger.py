"""The ledger keeps what it was told, through kills and restarts, and changes nothing afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from research_loop.drafts import GIVEN_UP, Asked, Spent
from research_loop.errors import LedgerError
from research_loop.ledger import ADDED, Ledger
from research_loop.records import Draft, Experiment, Point, Proposal, Result, Run, Score, Usage, Verdict

NEW = Experiment(-1, "MATRIX_LR 0.04 -> 0.05", "why", "risk", "search", None, "a" * 40, "key", 1.0)
RESULT = Result(
    "scored",
    score=Score(1.25),
    exit_code=0,
    seconds=21.5,
    startup_seconds=1.5,
    training_seconds=20.0,
    peak_vram_mb=None,
    peak_ram_mb=300.5,
    summary={"num_steps": 300.0},
    curve=(Point(0.5, 10.0, 2.5), Point(1.0, 20.0, 2.0)),
    log_tail="the end",
)


def filled(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.propose(NEW)
    ledger.start_run(Run(0, 0, 42, 2.0, 123, 4.5))
    ledger.finish_run(0, 0, RESULT)
    ledger.decide(0, Verdict("keep", "baseline", "the one to beat", 3.0))
    return ledger


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    written = filled(tmp_path / "ledger")
    read = Ledger(tmp_path / "ledger", read_only=True)
    assert read.history == written.history
    (experiment,) = read.history.experiments
    assert experiment.score == Score(1.25)
    assert experiment.kept and read.history.champion == experiment == read.history.baseline
    assert experiment.last is not None and experiment.last.peak_vram_mb is None
    assert read.summary(0, 0) == {"num_steps": 300.0} and read.summary(1, 0) == {}
    assert read.trace(0, 0) == (RESULT.curve, "the end")


def test_numbers_follow_each_other_from_zero(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert [ledger.propose(NEW).n for _ in range(3)] == [0, 1, 2]
    assert Ledger(tmp_path / "ledger").propose(NEW).n == 3


@pytest.mark.parametrize("change", ["UPDATE verdicts SET kind = 'discard'", "DELETE FROM experiments"])
def test_rows_are_never_changed(tmp_path: Path, change: str) -> None:
    filled(tmp_path / "ledger").close()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sqlite3.connect(tmp_path / "ledger").execute(change)


def test_an_experiment_is_decided_once(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    with pytest.raises(LedgerError):
        ledger.decide(0, Verdict("discard", "again", "", 4.0))
    assert ledger.experiment(0).kept


def test_a_failed_write_leaves_memory_and_file_alike(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    with pytest.raises(LedgerError):
        ledger.finish_run(0, 7, RESULT)
    assert ledger.history == Ledger(tmp_path / "ledger").history


def test_a_number_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="experiment 7: there is none; the ledger has 0 to 0"):
        filled(tmp_path / "ledger").experiment(7)


def test_a_file_that_is_no_ledger_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("not a database, and long enough to be taken for one" * 40)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(tmp_path / "ledger")


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "ledger").close()
    sqlite3.connect(tmp_path / "ledger").execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="another version"):
        Ledger(tmp_path / "ledger")


def test_a_ledger_of_the_format_before_is_brought_up_to_date_with_all_that_it_holds(tmp_path: Path) -> None:
    before = filled(tmp_path / "ledger")
    history = before.history
    before.close()
    with closing(sqlite3.connect(tmp_path / "ledger")) as old:
        old.execute("DROP TABLE drafts")
        old.execute("DROP TABLE begun")
        for table, column in (*ADDED[3], *ADDED[4], *ADDED[5], *ADDED[6]):
            old.execute(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}")
        old.execute("PRAGMA user_version = 3")
        old.commit()
    with pytest.raises(LedgerError, match="`research-loop run` brings it up to date"):
        Ledger(tmp_path / "ledger", read_only=True)
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.history == history
    ledger.start_run(Run(0, 1, 43, 5.0))
    ledger.finish_run(0, 1, replace(RESULT, waited_share=0.25, braked_share=0.5))
    ledger.close()
    last = Ledger(tmp_path / "ledger", read_only=True).experiment(0).last
    assert last is not None and (last.waited_share, last.braked_share, last.hopeless_at) == (0.25, 0.5, None)


def test_drafts_keep_their_proposals_and_what_they_cost(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    proposal = Proposal({"train.py": b"LR = 2\xff\n"}, "LR 2", "faster", "none", "claude", 0)
    usage = Usage(1000, 50, 0.25, "reported")
    number = ledger.begin_draft("claude", 0, 5.0)
    came = ledger.record_draft(Asked("claude", 0, 5.0, 9.0, Draft(proposal, "touched notes.md", usage, "s1"), number))
    down = Draft(None, "the server is down")
    nothing = ledger.record_draft(Asked("claude", 0, 6.0, 1.0, down, ledger.begin_draft("claude", 0, 6.0)))
    assert came.draft.proposal is not None and came.draft.proposal.draft == came.id == 1
    ledger.close()
    again = Ledger(tmp_path / "ledger")
    assert again.drafts() == (came, nothing) and again.draft(2) == nothing and again.draft(3) is None
    assert again.spent() == Spent(drafts=2, proposals=1, tokens=1050, usd=0.25, unknown=1)
    assert again.waiting_drafts() == (came,)
    again.propose(replace(NEW, parent=0, draft=came.id))
    assert again.waiting_drafts() == (), "it was run"


def test_a_draft_that_was_begun_and_never_recorded_is_known_for_lost(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    number = ledger.begin_draft("claude", 0, 5.0)
    (lost,) = ledger.lost_drafts()
    assert (lost.id, lost.proposer, lost.started_at, lost.draft.usage.usd) == (number, "claude", 5.0, None)
    ledger.record_draft(lost)
    assert ledger.lost_drafts() == () and ledger.spent().unknown == 1


def test_a_proposal_that_was_given_up_waits_no_more(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    proposal = Proposal({"train.py": b"LR = 2\n"}, "LR 2", "faster", "none", "claude", 0)
    asked = Asked("claude", 0, 5.0, 9.0, Draft(proposal), ledger.begin_draft("claude", 0, 5.0))
    assert [one.id for one in (ledger.record_draft(asked),)] == [one.id for one in ledger.waiting_drafts()]
    ledger.note(f"{GIVEN_UP}{asked.id}", "does not fit")
    assert ledger.waiting_drafts() == ()


def test_a_reader_sees_rows_while_the_writer_is_open(tmp_path: Path) -> None:
    writer = filled(tmp_path / "ledger")
    reader = Ledger(tmp_path / "ledger", read_only=True)
    with pytest.raises(LedgerError):
        reader.propose(NEW)
    writer.propose(NEW)
    assert len(Ledger(tmp_path / "ledger", read_only=True).history.experiments) == 2


WRITER = """
import sys
from pathlib import Path
from research_loop.ledger import ADDED, Ledger
from research_loop.records import Experiment
ledger = Ledger(Path(sys.argv[1]))
while True:
    n = ledger.propose(Experiment(-1, "w", "", "", "p", None, "c", "k", 0.0)).n
    print(n, flush=True)
"""


def test_every_row_that_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    acknowledged = -1
    for round_ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = max(acknowledged, int(writer.stdout.readline()))
        time.sleep(0.03 * round_)
        os.kill(writer.pid, signal.SIGKILL)
        lines = [line for line in writer.stdout.read().split("\n")[:-1] if line]
        writer.wait()
        acknowledged = max([acknowledged, *map(int, lines)])
        numbers = [e.n for e in Ledger(path, read_only=True).history.experiments]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > acknowledged
    assert acknowledged > 5


def test_ten_thousand_experiments_open_quickly_enough_to_be_usable(tmp_path: Path) -> None:
    """Generous: it is the order of magnitude that counts; benchmarks/ has the figures."""
    path = tmp_path / "ledger"
    filled(path).close()
    db = sqlite3.connect(path)
    experiment = ("w", "", "", "p", None, "c", "k", 0.0)
    db.executemany(
        "INSERT INTO experiments VALUES (?,?,?,?,?,?,?,?,?,NULL)", [(n, *experiment) for n in range(1, 10_000)]
    )
    db.commit()
    start = time.perf_counter()
    assert len(Ledger(path, read_only=True).history.experiments) == 10_000
    assert time.perf_counter() - start < 5


def test_nats_on_held_rows_are_the_mean_of_the_runs_that_were_asked(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.propose(NEW)
        assert ledger.held_nats(0) is None
        for k, (value, nats) in enumerate(((1.0, [1.0, 2.0]), (9.0, []), (2.0, [3.0, 6.0]))):
            ledger.start_run(Run(0, k, 42, 1.0))
            held = struct.pack(f"<{len(nats)}f", *nats)
            ledger.finish_run(0, k, replace(RESULT, score=Score(value), held_nats=held))
        assert ledger.held_nats(0) == (1.5, struct.pack("<2f", 2.0, 4.0)), "the second run was not asked"
