"""A run may say anything to its exam, or nothing: it ends in time and without marks."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from research_loop.channel import Channel
from research_loop.exam import examine
from research_loop.runners.local import LocalRunner
from research_loop.tasks import Exam
from runs import make_job, run


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello\n",
        b'{"bytes": 1e99}\n',
        b'{"bytes": -1}\n',
        b"[]\n",
        b"x" * 10_000,
        b'{"bytes": 0}\n{"bytes": 4}\nabcd',
    ],
)
def test_a_run_that_talks_nonsense_or_ends_gets_no_marks(exam: Exam, answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        marks = examine(ours, exam, time.monotonic(), 2)
        theirs.close()
    assert marks.value is None and marks.verified == "unverified" and marks.detail


def test_a_run_that_never_answers_is_given_up_in_time(exam: Exam) -> None:
    ours, theirs = socket.socketpair()
    start = time.monotonic()
    with ours, theirs:
        assert "did not answer in time" in examine(ours, exam, start, 0.2).detail
    assert time.monotonic() - start < 5


def test_a_message_larger_than_asked_for_is_not_read(exam: Exam) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(json.dumps({"bytes": 10**12}).encode() + b"\n")
        with pytest.raises(Exception, match="1000000000000 bytes where 8 at most"):
            Channel(ours, 1.0).receive(most_bytes=8)


def test_a_message_that_drips_in_takes_no_more_memory_than_it_has(exam: Exam) -> None:
    ours, theirs = socket.socketpair()
    body = bytes(range(256)) * 64

    def drip() -> None:
        theirs.sendall(json.dumps({"bytes": len(body)}).encode() + b"\n")
        for i in range(0, len(body), 2):
            theirs.sendall(body[i : i + 2])

    with ours, theirs:
        sender = threading.Thread(target=drip)
        sender.start()
        assert Channel(ours, 30.0).receive(most_bytes=len(body))[1] == body
        sender.join()
        theirs.sendall(b"x")
        with pytest.raises(Exception, match="did not answer in time"):
            Channel(ours, 0.2).receive()


def test_data_that_is_gone_in_the_middle_of_a_run_is_said_and_ends_it(tmp_path: Path, exam: Exam) -> None:
    code = "import os; os.write(0, b'{\"ready\": true}\\n'); os.read(0, 1)"
    runner = LocalRunner()
    try:
        result = run(runner, replace(make_job(tmp_path, code), exam=replace(exam, validation=tmp_path / "none")))
    finally:
        runner.close()
    assert result.seconds < 10 and result.score is None and "`research-loop prepare`" in result.detail


def test_an_exam_that_fails_in_a_way_nobody_thought_of_is_said_and_no_traceback(
    tmp_path: Path, exam: Exam, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.npy").touch()
    code = "import os; os.write(0, b'{\"ready\": true}\\n'); os.read(0, 1); print('val_bpb: 0.1')"
    runner = LocalRunner()
    try:
        result = run(runner, replace(make_job(tmp_path, code), exam=replace(exam, token_bytes=tmp_path / "empty.npy")))
    finally:
        runner.close()
    assert result.seconds < 10 and "could not finish the exam (EOFError(" in result.detail
    assert result.score is not None and result.score.verified == "unverified"
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_run_that_has_not_committed_itself_by_its_limit_is_ended(tmp_path: Path, exam: Exam) -> None:
    code = "import os, time; os.write(0, b'{\"ready\": true}\\n'); time.sleep(60)"
    runner = LocalRunner()
    try:
        result = run(runner, replace(make_job(tmp_path, code, limit=1.0), exam=exam))
    finally:
        runner.close()
    assert (result.outcome, result.reason) == ("crash", "timeout") and 1.0 <= result.seconds < 10


def test_a_broken_exam_ends_the_run_that_waits_for_more(tmp_path: Path, exam: Exam) -> None:
    code = "import os; os.write(0, b'nonsense\\n'); os.read(0, 1); print('val_bpb: 0.1')"
    runner = LocalRunner()
    try:
        result = run(runner, replace(make_job(tmp_path, code, limit=30.0), exam=exam))
    finally:
        runner.close()
    assert result.seconds < 10 and result.score is not None and result.score.verified == "unverified"
    assert "something else than an answer" in result.detail
