"""What a run prints, kept and read."""

from __future__ import annotations

import os
import re
import subprocess
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from research_loop.runlog import HEAD_BYTES, LINE_BYTES, TAIL_BYTES, RunLog

STEP = "step %05d (%.1f%%) | loss: %.6f | lrm: 1.00 | dt: 12ms | remaining: 9s    "
FLOOD = b"".join(b"line %07d of a flood of words\n" % i for i in range(30_000))


def fed(path: Path, *chunks: bytes, every: float = 0.01, metric: str = "val_bpb") -> RunLog:
    log = RunLog(path, metric, "peak_vram_mb")
    for at, chunk in enumerate(chunks):
        log.feed(chunk, at * every)
    log.finish(len(chunks) * every)
    return log


def test_the_log_holds_what_was_printed(tmp_path: Path) -> None:
    text = "first\n\n  indented\ttab \x1b[31mred\x1b[0m\nlast without an end"
    log = fed(tmp_path / "a", text.encode())
    assert (tmp_path / "a").read_text() == text + "\n"
    assert log.tail() == ["first", "  indented  tab red", "last without an end"]


def test_the_log_is_there_while_the_run_goes_on(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "a", "val_bpb")
    log.feed(b"one\ntwo\nthr", 0.0)
    assert (tmp_path / "a").read_text() == "one\ntwo\n"
    log.feed(FLOOD, 0.1)
    log.feed(b"and on\n", 0.2)
    log.tick(1.5)
    assert (tmp_path / "a").read_bytes().endswith(b"and on\n")
    log.finish(2.0)


def test_overwritten_lines_are_kept_once_a_second_and_last(tmp_path: Path) -> None:
    lines = [("\r" + STEP % (i, i, 5.0)).encode() for i in range(100)]
    log = fed(tmp_path / "a", *lines, b"\nVal\n", every=0.1)
    kept = [int(step) for step in re.findall(r"step (\d+)", (tmp_path / "a").read_text())]
    assert kept[-1] == 99 and 9 <= len(kept) <= 13
    assert log.tail() == [(STEP % (99, 99.0, 5.0)).rstrip(), "Val"]


def test_windows_line_ends_are_line_ends(tmp_path: Path) -> None:
    fed(tmp_path / "a", b"one\r", b"\ntwo\r\nthree\r\n")
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\nthree\n"


def test_progress_is_read_before_its_line_is_ended(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "a", "val_bpb")
    log.feed(b"loading\n", 0.5)
    assert log.startup_seconds is None
    log.feed(("\r" + STEP % (12, 34.5, 3.123456)).encode(), 2.0)
    assert (log.startup_seconds, log.share, log.loss) == (2.0, 0.345, 3.123456)
    log.feed(("\r" + STEP % (13, 34.6, 3.0)).encode(), 3.0)
    log.finish(4.0)
    assert [(p.share, p.seconds, p.loss) for p in log.curve] == [
        (0.345, 2.0, 3.123456),
        (pytest.approx(0.346), 3.0, 3.0),
    ]


def test_a_short_progress_line_counts_when_it_has_ended(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", b"step 3 (10%) | loss: 2.5\nstep 4 (20%) | loss: 2.", b"25\n")
    assert [point.loss for point in log.curve] == [2.5, 2.25]


def test_the_curve_is_thinned_over_the_whole_run(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", *((STEP % (i, i / 20, 9.0 - i / 400)).encode() + b"\n" for i in range(2_000)))
    shares = [point.share for point in log.curve]
    assert 100 <= len(shares) <= 201
    assert shares[0] == 0 and shares[-1] == pytest.approx(0.9995, abs=0.001)
    assert max(b - a for a, b in pairwise(shares)) < 0.02


def test_a_loss_that_is_no_number_is_seen_but_not_drawn(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", (STEP % (1, 1, 3.0)).encode() + b"\n", (STEP % (2, 2, float("nan"))).encode() + b"\n")
    assert len(log.curve) == 1
    assert log.loss is not None and log.loss != log.loss


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", b"a\xff\xfeb \x00\x07\nval_bpb: 1.5\xff\n")
    assert (tmp_path / "a").read_text(encoding="utf-8").startswith("a\ufffd\ufffdb")
    assert log.tail() == ["a\ufffd\ufffdb", "val_bpb: 1.5\ufffd"]


def test_the_tail_is_forty_short_lines_without_tricks(tmp_path: Path) -> None:
    lines = [b"\x1b]0;title\x07" + b"x" * 900 + b"\n" for _ in range(60)]
    hidden = "in\u202evisible\u200b \x9b31m\n".encode()
    tail = fed(tmp_path / "a", *lines, b"\n\n", hidden).tail()
    assert len(tail) == 40 and tail[0] == "x" * 300 and tail[-1] == "invisible 31m"


@pytest.mark.parametrize("chunk", [b"x" * 1_000_000, FLOOD, b"x" * 5_000 + b"\n"])
def test_any_amount_of_output_costs_little_memory(tmp_path: Path, chunk: bytes) -> None:
    log = RunLog(tmp_path / "a", "val_bpb")
    tracemalloc.start()
    for at in range(60_000_000 // (10 * len(chunk)) if len(chunk) < 10_000 else 60):
        log.feed(chunk[at % 2 :], at / 1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    log.finish(2.0)
    assert peak < 8_000_000


def test_a_line_is_cut_at_four_thousand_bytes(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", *[b"x" * 3_000] * 5, b"\r", b"FAIL\n", b"z" * 9_000 + b"\nval_bpb: 1.5\n")
    lines = (tmp_path / "a").read_bytes().splitlines()
    assert lines == [b"x" * LINE_BYTES, b"FAIL", b"z" * LINE_BYTES, b"val_bpb: 1.5"]
    assert log.tail()[1] == "FAIL" and log.summary == ["val_bpb: 1.5"]


def test_a_last_part_that_shrinks_leaves_no_old_bytes(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "a", "val_bpb")
    for at in range(4):
        log.feed(FLOOD, at / 10)
    log.tick(2.0)
    log.feed((b"y" * 3_998 + b"\n") * 200, 4.0)
    log.finish(5.0)
    assert set((tmp_path / "a").read_bytes()[-100_000:]) == set(b"y\n")


def test_a_flood_leaves_head_note_and_tail(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", b"the very first\n", *[FLOOD] * 5, b"the very last\n")
    data = (tmp_path / "a").read_bytes()
    note = re.search(rb"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n", data)
    assert note and HEAD_BYTES - LINE_BYTES <= note.start() <= HEAD_BYTES
    assert len(data) < HEAD_BYTES + TAIL_BYTES + 100
    printed = len(FLOOD) * 5 + len(b"the very first\nthe very last\n")
    assert int(note[1]) == printed - (len(data) - (len(note[0]) - 1))
    assert data.startswith(b"the very first\n") and data.endswith(b"the very last\n")
    assert all(len(line) == 32 for line in data[note.end() :].splitlines()[:-1])
    assert log.tail()[-1] == "the very last" and log.tail()[-2] == "line 0029999 of a flood of words"


@pytest.mark.parametrize("cut", [0, 3, 9, 26, 27, 30])
def test_summary_lines_are_found_anywhere_in_a_flood(tmp_path: Path, cut: int) -> None:
    block = b"---\nval_bpb:   0.9979\ndepth:   8\npeak_vram_mb: 45060.2\n"
    log = fed(tmp_path / "a", *[FLOOD] * 4, FLOOD + block[:cut], block[cut:] + FLOOD, *[FLOOD] * 4)
    assert log.summary == ["val_bpb:   0.9979", "depth:   8", "peak_vram_mb: 45060.2"]


def test_a_metric_stated_twice_in_a_flood_is_seen_twice(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", b"val_bpb: 0.5\n", *[FLOOD] * 4, FLOOD + b"val_bpb: 0.9\n" + FLOOD)
    assert log.summary == ["val_bpb: 0.5", "val_bpb: 0.9"]


def test_lines_that_only_mention_the_metric_never_crowd_it_out(tmp_path: Path) -> None:
    log = fed(tmp_path / "a", b"val_loss: 3.2 (step 10)\n" * 5_000 + b"val_loss: 3.1\n", metric="val_loss")
    assert log.summary == ["val_loss: 3.1"]


@pytest.mark.parametrize("chunk", [FLOOD, b"\r" + STEP.encode(), b"word\r\n", b"\n", bytes(range(256))])
def test_a_flood_of_any_kind_is_read_fast_and_stays_small(tmp_path: Path, chunk: bytes) -> None:
    chunk = chunk * (1 + 900_000 // len(chunk))  # what one read of a full pipe gives
    log = RunLog(tmp_path / "a", "val_bpb")
    log.feed(chunk, 0.0)
    began = time.process_time()
    for at in range(60):
        log.feed(chunk, at / 60)
    seconds = time.process_time() - began
    log.finish(1.0)
    assert len(chunk) * 60 / seconds > 80e6, "floods are read at 300 MB/s and more on an idle core"
    assert (tmp_path / "a").stat().st_size < HEAD_BYTES + TAIL_BYTES + 100


PIECES = st.sampled_from(
    [b"word", b" ", b"\n", b"\r", b"\r\n", b"val_bpb: 1.5\n", b"depth: 3\n", b"\xe2\x82\xac", b"\xff", b"y" * 5000]
    + [(STEP % (i, i, 3.0)).encode() for i in (1, 2, 3)]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=30).map(b"".join), st.lists(st.integers(0, 20_000), max_size=6))
def test_how_output_is_cut_into_reads_changes_nothing(tmp_path: Path, data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in pairwise(bounds)]
    one = fed(tmp_path / "one", data, every=0.0)
    many = fed(tmp_path / "many", *parts, every=0.0)
    assert one.summary == many.summary and one.tail() == many.tail()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_without_room_ends_the_log_and_nothing_else() -> None:
    log = fed(Path("/dev/full"), b"hello\n", *[FLOOD] * 3, b"val_bpb: 1.5\n")
    assert log.trouble == "the log stopped: No space left on device"
    assert log.summary == ["val_bpb: 1.5"]


def test_a_log_that_cannot_be_opened_is_noted(tmp_path: Path) -> None:
    log = fed(tmp_path / "missing" / "a", b"val_bpb: 1.5\n")
    assert log.trouble.startswith("the log could not be opened") and log.summary == ["val_bpb: 1.5"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("room", ["256k", "768k"])
def test_a_full_disk_keeps_what_had_room(tmp_path: Path, room: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        log = fed(disk / "a", b"first\n", *[FLOOD] * 3, b"val_bpb: 1.5\n")
        assert log.trouble == "the log stopped: No space left on device"
        assert log.summary == ["val_bpb: 1.5"]
        assert (disk / "a").read_bytes().startswith(b"first\nline 0000000")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
