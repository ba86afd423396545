"""Agents that speak the Agent Client Protocol: how a talk with them begins, and all the ways it may end."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
import pytest

from acp_asking import CHECKOUT, EDIT, NAME, SAY, Work, accept, acp, asked, cache_fixture, work_fixture  # noqa: F401
from research_loop.proposers import acp as acp_module
from research_loop.proposers.agents import UNSPENT
from research_loop.proposers.drafting import Request
from research_loop.records import Draft, Usage
from research_loop.testing.acp_agent import heard, write_script
from runs import linux

# -------------------------------------------------------------------------------------------------- how it begins


def test_it_is_switched_to_a_mode_in_which_it_asks(work: Work, tmp_path: Path) -> None:
    modes = {"currentModeId": "auto", "availableModes": [{"id": "auto"}, {"id": "default"}]}
    assert work(EDIT, SAY, settings={"modes": modes}).proposal is not None
    assert heard(tmp_path / "script.json")[2]["params"] == {"sessionId": "session-1", "modeId": "default"}


METHODS = [
    {"id": "browser", "name": "Log in"},
    {"id": "gemini-api-key", "name": "Key"},
    {"id": "own", "name": "Own", "type": "env_var", "vars": [{"name": "OPENAI_OWN_KEY"}]},
]


@pytest.mark.parametrize(("variable", "method"), [("GEMINI_API_KEY", "gemini-api-key"), ("OPENAI_OWN_KEY", "own")])
def test_it_is_logged_in_by_the_way_whose_key_is_there(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, method: str
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.setenv(variable, "dummy")
    assert work(EDIT, SAY, settings={"methods": METHODS, "login": method}).proposal is not None
    assert heard(tmp_path / "script.json")[2]["params"] == {"methodId": method}
    assert work(EDIT, SAY, settings={"methods": METHODS}).proposal is not None
    assert "authenticate" not in json.dumps(heard(tmp_path / "script.json")), "not where it is not demanded"


def test_without_a_key_the_cure_is_said(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    draft = work(EDIT, SAY, settings={"methods": METHODS, "login": "browser"})
    cure = "log in once with scripted, or set GEMINI_API_KEY or OPENAI_OWN_KEY"
    assert draft.detail == f"{NAME}: wants a login (Authentication required): {cure}; train.py is as it was"


@pytest.mark.parametrize("version", [2, "1", None, {"a": "x" * 1000}])
def test_another_version_of_the_protocol_is_said(work: Work, version: object) -> None:
    draft = work(EDIT, SAY, settings={"version": version})
    assert (
        draft.proposal is None and "of ACP and not 1: use another version of it; train.py is as it was" in draft.detail
    )
    assert len(draft.detail) < 200


def test_a_program_that_does_not_speak_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acp_module, "START_SECONDS", 0.3)
    draft = asked(acp("sh -c 'echo Hello; echo {; sleep 60'"))
    assert draft.detail.startswith("agent:acp:sh-") and draft.detail.endswith(
        ": said nothing in ACP for 0.3 s: is that its command to speak it?; train.py is as it was"
    )
    assert asked(acp("true")).detail == "agent:acp:true: ended before its turn did; train.py is as it was"
    assert "exit code 3: no login" in asked(acp("sh -c 'echo no login >&2; exit 3'")).detail
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    assert "broken: cannot be started (No such file or directory)" in asked(acp(str(broken))).detail


# ----------------------------------------------------------------------------------------------------- how it may end


def test_an_agent_that_hangs_is_ended_at_its_limit(work: Work, tmp_path: Path) -> None:
    note = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    began = time.monotonic()
    draft = work(EDIT, {"python": note}, {"hang": 60}, seconds=1.0)
    assert draft.proposal is None and "did not end within 1 s; edited train.py without" in draft.detail
    assert time.monotonic() - began < 5 and not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert draft.session == "session-1"


def test_an_agent_is_stopped_in_the_middle_of_its_work(work: Work, tmp_path: Path) -> None:
    stopped = threading.Event()
    timer = threading.Timer(0.7, stopped.set)
    timer.start()
    began = time.monotonic()
    draft = work(
        EDIT,
        SAY,
        {"request": ["session/request_permission", {}]},
        {"request": ["session/other", {}]},
        {"python": "input()"},
        {"hang": 60},
        stopped=stopped,
    )
    timer.join()
    assert draft == Draft(None, "stopped", session="session-1") and time.monotonic() - began < 4


def test_it_is_told_that_its_turn_is_cancelled(work: Work, tmp_path: Path) -> None:
    stopped = threading.Event()
    timer = threading.Timer(0.7, stopped.set)
    timer.start()
    wait = "import sys; open({!r}, 'w').write(sys.stdin.readline())".format(str(tmp_path / "last"))
    assert work(EDIT, SAY, {"python": wait}, stopped=stopped).proposal is None
    timer.join()
    assert json.loads((tmp_path / "last").read_text())["method"] == "session/cancel"


def test_its_own_name_for_the_session_is_given_back_to_it(work: Work, tmp_path: Path) -> None:
    wait = "import sys; open({!r}, 'w').write(sys.stdin.readline())".format(str(tmp_path / "last"))
    usage = {"used": 1, "size": 2, "cost": {"amount": 0.75, "currency": "USD"}}
    draft = work({"usage": usage}, {"python": wait}, usd=0.5, settings={"session": " one\t\u200btwo"})
    told = json.loads((tmp_path / "last").read_text())
    assert told["params"] == {"sessionId": " one\t\u200btwo"} and draft.session == "one two"


def test_no_turn_is_cancelled_before_there_is_a_session(tmp_path: Path) -> None:
    stopped = threading.Event()
    timer = threading.Timer(0.7, stopped.set)
    timer.start()
    assert asked(acp(f"sh -c 'exec cat > {tmp_path / 'told'}'"), stopped=stopped).detail == "stopped"
    timer.join()
    assert [json.loads(line)["method"] for line in (tmp_path / "told").read_text().splitlines()] == ["initialize"]


def test_nothing_is_started_for_whom_nobody_waits_any_more(work: Work, tmp_path: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    drafter = acp(write_script(tmp_path / "script.json", EDIT))
    assert drafter.draft(Request(CHECKOUT, "", accept, 20.0, stopped=stopped)) == Draft(None, "stopped", UNSPENT)
    assert not (tmp_path / "script.json.heard").exists()


def test_an_agent_that_dies_in_the_middle_is_judged_by_what_it_left(work: Work) -> None:
    draft = work(EDIT, {"die": [3, "first\nno more \x1b[31mcredit"]})
    assert draft.detail.startswith(f"{NAME}: ended with exit code 3: no more credit; edited train.py without")
    assert "ended before its turn did" in work(EDIT, {"die": [0, ""]}).detail
    draft = work(EDIT, SAY, {"die": [3, "no credit"]})
    assert draft.proposal is not None and draft.detail == "ended with exit code 3: no credit"


def test_an_answer_right_before_its_death_is_heard(work: Work) -> None:
    last = json.dumps({"jsonrpc": "2.0", "id": 2, "result": {"stopReason": "end_turn"}}) + "\n"
    draft = work(EDIT, SAY, {"raw": [last, 1]}, {"die": [0, ""]})
    assert draft.proposal is not None and draft.detail == ""


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            {"code": -32603, "message": "Internal error", "data": {"details": "429\nslow"}},
            "an error: Internal error: 429 slow",
        ),
        ({"stopReason": "refusal"}, "ended its turn early (refusal)"),
        ({}, "ended its turn early (it does not say why)"),
    ],
)
def test_a_turn_that_fails_is_said(work: Work, answer: dict[str, Any], line: str) -> None:
    assert line in work(settings={"answer": answer}).detail
    assert work(EDIT, SAY, settings={"answer": answer}).proposal is not None


STRANGE = [
    *("no JSON", "{", "{}", "[]", "3", "{" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, '{"id": {}}', '{"id": [1]}'),
    *('{"id": 2, "error": "x"}', '{"id": 2, "error": [1]}', '{"id": 99, "result": 1}', '{"id": null, "error": {}}'),
    *('{"method": 3}', '{"method": "session/update"}', '{"method": "session/update", "params": [1]}', "\\ud800"),
    *('{"id": {}, "method": "session/request_permission"}', '{"id": "a", "method": "session/request_permission"}'),
    *('{"id": 1, "method": "fs/read_text_file", "params": 3}', '{"id": 1e999, "method": "x"}', '{"method": "x"}'),
    '{"method": "session/update", "params": {"update": {"sessionUpdate": [], "content": 3}}}',
    '{"method": "session/update", "params": {"update": {"sessionUpdate": "usage_update", "cost": {"amount": NaN}}}}',
    '{"method": "session/update", "params": {"update": {"sessionUpdate": "agent_message_chunk", "content": 3}}}',
]


def test_rubbish_is_passed_over(work: Work, capfd: pytest.CaptureFixture[str]) -> None:
    draft = work({"raw": ["\n".join(STRANGE) + "\n", 3]}, EDIT, SAY)
    assert draft.proposal is not None and draft.usage == Usage()
    assert capfd.readouterr().err == ""


def test_a_message_without_an_end_is_said(work: Work) -> None:
    for line in ('{"a": "', "x"):
        draft = work(EDIT, {"raw": [line, 1]}, {"raw": ["x" * 2**16, 40]}, {"hang": 60})
        assert draft.proposal is None and "sent a line of more than 1048576 bytes" in draft.detail


def test_half_a_message_and_then_death_is_said(work: Work) -> None:
    assert "ended before its turn did" in work(EDIT, {"raw": ['{"id": 2, "result"', 1]}, {"die": [0, ""]}).detail


UPDATE = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "words and words " * 20}}
FLOOD = json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": {"update": UPDATE}}) + "\n"


@pytest.mark.parametrize("text", ["noise and noise\n" * 1000, FLOOD * 20, "{}\n" * 10])
def test_a_flood_fills_no_memory_and_hides_nothing(work: Work, text: str) -> None:
    times = (2**18 if text[0] == "{" and text[1] == "}" else 2**23) // len(text)
    tracemalloc.start()
    draft = work({"raw": [text, times]}, EDIT, SAY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert draft.proposal is not None and peak < 8 * 2**20


def test_an_agent_that_asks_on_and_never_reads_fills_no_memory(work: Work) -> None:
    ask = json.dumps({"jsonrpc": "2.0", "id": "a" * 100_000, "method": "session/other"}) + "\n"
    note = json.dumps({"jsonrpc": "2.0", "method": "session/other", "params": "x" * 2**19}) + "\n"
    tracemalloc.start()
    draft = work(EDIT, SAY, {"raw": [ask, 60]}, {"raw": [note, 200]}, {"hang": 60}, seconds=4.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert draft.proposal is not None and "did not end within 4 s" in draft.detail and peak < 40 * 2**20


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open({note!r}, "w").write(str(os.getpid()))
        os.execve("/bin/sh", ["sh", "-c", "while sleep 0.01; do echo A = 3 > train.py; done"], {{}})
    os._exit(0)
os.wait()
while not os.path.exists({note!r}) or not open({note!r}).read(): time.sleep(0.01)
"""


@linux
def test_a_daemon_that_would_edit_on_is_dead_before_anybody_reads(work: Work, tmp_path: Path) -> None:
    draft = work(EDIT, {"python": DAEMON.format(note=str(tmp_path / "pid"))}, SAY)
    assert draft.proposal is not None and not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@linux
def test_an_agent_that_kills_its_keeper_leaves_nothing(work: Work) -> None:
    kill = "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
    draft = work(EDIT, SAY, {"python": kill})
    assert draft.proposal is None
    assert "was cut off, for its keeper was killed; what it left does not count" in draft.detail


LAST = json.dumps({"jsonrpc": "2.0", "id": 2, "result": {"stopReason": "end_turn"}})


KILL = """
import os, signal, time
os.kill(os.getppid(), signal.SIGSTOP)
print({last!r}, flush=True)
time.sleep({seconds})
os.kill(os.getppid(), signal.SIGKILL)
"""


@linux
@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_what_an_agent_left_that_kills_its_keeper_after_its_turn_does_not_count(work: Work, seconds: float) -> None:
    draft = work(EDIT, SAY, {"python": KILL.format(last=LAST, seconds=seconds)})
    assert draft.proposal is None and "its keeper was killed; what it left does not count" in draft.detail
