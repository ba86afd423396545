"""Coding agents as processes: small real programs that do, one after the other, whatever an agent may do."""

from __future__ import annotations

import re
import textwrap
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from research_loop.errors import ConfigError, ProposalError
from research_loop.proposers.agents import UNSPENT, Claude, Codex, Template, prompt
from research_loop.proposers.drafting import Request
from research_loop.proposers.hearing import find_words
from research_loop.records import Checkout, Draft, Files, Usage
from research_loop.runners.tree import LONGEST_LINE, Lines
from runs import linux
from working import (
    CHECKOUT,
    EDIT,
    FLOOD,
    SAID,
    SPEAK,
    WORDS,
    Agent,
    accept,
    agent_fixture,  # noqa: F401
    cache,  # noqa: F401
    lives,
    request,
    work,
)

# ------------------------------------------------------------------------------------------------------ what it gives


def test_an_edit_with_words_is_a_proposal(agent: Agent) -> None:
    checked: list[Files] = []
    draft = work(agent(EDIT + SPEAK), request(check=checked.append))
    assert draft.proposal is not None and draft.detail == "" and draft.usage == Usage()
    assert draft.proposal.files == {"train.py": b"A = 2\n"} == checked[0]
    assert (draft.proposal.what, draft.proposal.why, draft.proposal.risk) == WORDS
    assert draft.proposal.parent == 7 and draft.proposal.proposer == agent(EDIT).name


def test_the_agent_is_told_the_brief_and_how_to_work(agent: Agent, tmp_path: Path) -> None:
    code = "import os, sys; (aside / 'seen').write_text('|'.join([*sys.argv[1:], os.getcwd()]))"
    work(agent(code, "'a {prompt}' {folder} '{literal}'"), request())
    prompt, folder, literal, place = (tmp_path / "seen").read_text().split("|")
    assert prompt.startswith("a # Task\nMake it better.\n") and "Edit only train.py" in prompt
    assert folder == place and Path(folder).name == "checkout" and literal == "{literal}"
    assert find_words(prompt) is None, "an agent that repeats its task has said nothing"


def test_a_placeholder_in_the_brief_stays_what_it_is(agent: Agent, tmp_path: Path) -> None:
    asked = Request(CHECKOUT, "{folder} and \0 \udcff", accept, 20.0)
    work(agent("import sys; (aside / 'seen').write_text(sys.argv[1])", "{prompt}"), asked)
    assert (tmp_path / "seen").read_text().startswith("{folder} and  ?")


def test_the_prompt_file_is_beside_the_checkout_and_locked_files_cannot_be_written(
    agent: Agent, tmp_path: Path
) -> None:
    code = """
        import os, sys
        modes = [oct(os.stat(name).st_mode & 0o777) for name in ("train.py", "prepare.py", "data/words.py", "../..")]
        (aside / "seen").write_text(" ".join([*modes, os.path.relpath(sys.argv[1]), *sorted(os.listdir())]))
    """
    work(agent(code), request())
    assert (tmp_path / "seen").read_text() == "0o644 0o444 0o444 0o700 ../prompt.txt data prepare.py train.py"


def test_done_without_an_edit_is_no_proposal(agent: Agent) -> None:
    draft = work(agent(SPEAK), request())
    assert draft.proposal is None and draft.detail.endswith(": said it was done, and train.py is as it was")
    assert work(agent(""), request()).detail.endswith(": said nothing, and train.py is as it was")


def test_an_edit_without_words_is_no_proposal(agent: Agent) -> None:
    draft = work(agent(EDIT + "print('all done')"), request())
    assert draft.proposal is None and "edited train.py without the JSON line" in draft.detail


def test_an_edit_counts_whatever_the_exit_code_is(agent: Agent) -> None:
    draft = work(agent(EDIT + SPEAK + "import sys; sys.exit('no more \\x1b[31mcredit')"), request())
    assert draft.proposal is not None and draft.proposal.what == "A 1 -> 2"
    assert draft.detail == "ended with exit code 1: no more credit"


def test_an_edit_that_the_check_refuses_is_no_proposal(agent: Agent) -> None:
    def refuse(files: Files) -> None:
        raise ProposalError("train.py: line 1: no such name\nB")

    draft = work(agent(EDIT + SPEAK), request(check=refuse))
    assert draft.proposal is None and "train.py: line 1: no such name B" in draft.detail


def test_words_on_standard_error_are_found_whatever_was_printed_beside_them(agent: Agent) -> None:
    for much, words in (("out", "err"), ("err", "out")):
        code = f"import sys; print({SAID!r}, file=sys.std{words}); print('x' * 200_000, file=sys.std{much})"
        draft = work(agent(EDIT + code), request())
        assert draft.proposal is not None and draft.proposal.what == WORDS[0]


def test_output_that_is_no_utf_8_is_read_all_the_same(agent: Agent) -> None:
    draft = work(agent(f"{EDIT}import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n' + {SAID!r}.encode())"), request())
    assert draft.proposal is not None and draft.proposal.why == "it is more"


# ---------------------------------------------------------------------------------------------- what it did otherwise


def test_other_files_that_it_touched_are_named_and_do_not_come_back(agent: Agent) -> None:
    code = """
        import os
        os.remove("prepare.py"), open("prepare.py", "w").write("B = 2")
        os.remove("data/words.py")
        os.mkdir("data/empty"), os.mkdir("notes")
        for name in ("a\\x1b[31m", "b" * 200, "c" * 200, "d" * 200): open(f"notes/{name}", "w")
    """
    draft = work(agent(textwrap.dedent(code) + EDIT + SPEAK), request())
    assert draft.proposal is not None and draft.proposal.files == {"train.py": b"A = 2\n"}
    assert "prepare.py (changed), data/words.py (removed), " in draft.detail and "(new)" in draft.detail
    assert draft.detail.endswith(" and 2 more") and "\x1b" not in draft.detail and len(draft.detail) < 400


OUTSIDE = """
import os
import re
outside = aside / "outside.py"
outside.write_text("A = 'secret'")
os.remove("train.py")
"""


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        ("os.symlink(outside, 'train.py')", "train.py is a link now"),
        ("os.link(outside, 'train.py')", "train.py has a second name (a hard link)"),
        ("os.mkfifo('train.py')", "train.py is no regular file any more"),
        ("os.mkdir('train.py')", "train.py is no regular file any more"),
        ("open('train.py', 'w').truncate(2**18 + 1)", "train.py has more than 262144 bytes"),
        ("", "train.py is gone"),
        ("import shutil; shutil.rmtree('.', ignore_errors=True); os.rmdir(os.getcwd())", "the checkout is gone"),
        ("here = os.getcwd(); os.rename(here, here + '2'); os.symlink(aside, here)", "the checkout is a link now"),
    ],
)
def test_what_is_no_plain_file_of_its_own_does_not_come_back(
    agent: Agent, tmp_path: Path, code: str, fact: str
) -> None:
    draft = work(agent(OUTSIDE + code + "\n" + SPEAK), request())
    assert draft.proposal is None and fact in draft.detail and "secret" not in draft.detail
    assert (tmp_path / "outside.py").read_text() == "A = 'secret'"


def test_a_linked_folder_above_the_file_is_not_followed(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "net.py").write_text("A = 'secret'")
    code = "import os; os.rename('models', 'old'); os.symlink(aside / 'outside', 'models')\n" + SPEAK
    checkout = Checkout(1, {"models/net.py": b"A = 1\n"}, {"models/base.py": b"B = 1\n"})
    draft = work(agent(code), request(checkout))
    assert draft.proposal is None and "models is a link now" in draft.detail
    assert "models/base.py (changed), models (new), old/" in draft.detail
    assert (tmp_path / "outside" / "net.py").read_text() == "A = 'secret'"


def test_a_checkout_full_of_files_is_looked_at_with_an_end(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("research_loop.proposers.workspace.MOST_LOOKED_AT", 100)
    code = "for i in range(150): open(f'many-{i}', 'w').close()\n"
    draft = work(agent(code + EDIT + SPEAK), request())
    assert draft.proposal is not None and "many-" in draft.detail
    counted = re.search(r" and at least (\d+) more$", draft.detail)
    assert counted and 80 < int(counted[1]) < 100


def test_new_empty_folders_are_named(agent: Agent) -> None:
    draft = work(agent("import os; os.makedirs('a/b'); os.mkdir('data/c')\n" + EDIT + SPEAK), request())
    assert draft.proposal is not None and re.search("away: (data/c|a/b)/ .new., (data/c|a/b)/ .new.$", draft.detail)


def test_folders_in_folders_are_looked_at_with_an_end(agent: Agent) -> None:
    code = "import os\nhere = os.getcwd()\nfor i in range(2000): os.mkdir('deep'); os.chdir('deep')\nos.chdir(here)\n"
    draft = work(agent(code + EDIT + SPEAK), request())
    assert draft.proposal is not None and draft.detail.endswith("deep/deep (new)")


# ----------------------------------------------------------------------------------------------------- how it may end


def test_an_agent_that_hangs_is_ended_at_its_limit(agent: Agent) -> None:
    began = time.monotonic()
    draft = work(agent(EDIT + "import time; time.sleep(60)"), request(seconds=0.5))
    assert draft.proposal is None and "did not end within 0.5 s" in draft.detail and time.monotonic() - began < 10


def test_an_agent_is_stopped_in_the_middle_of_its_work(agent: Agent) -> None:
    stopped = threading.Event()
    threading.Timer(0.5, stopped.set).start()
    began = time.monotonic()
    draft = work(agent(EDIT + SPEAK + "import time; time.sleep(60)"), request(stopped=stopped))
    assert draft == Draft(None, "stopped") and time.monotonic() - began < 10


def test_nothing_is_started_for_whom_nobody_waits_any_more(agent: Agent, tmp_path: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    drafter = agent("(aside / 'started').touch()")
    assert (
        drafter.draft(request(stopped=stopped)) == Draft(None, "stopped", UNSPENT)
        and not (tmp_path / "started").exists()
    )


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        (aside / "pid").write_text(str(os.getpid()))
        os.execve("/bin/sh", ["sh", "-c", "while sleep 0.01; do echo A = 3 > train.py; done"], {env})
    os._exit(0)
os.wait()
while not (aside / "pid").exists() or not (aside / "pid").read_text(): time.sleep(0.01)
"""


@linux
def test_a_daemon_that_would_edit_on_is_dead_before_anybody_reads(agent: Agent, tmp_path: Path) -> None:
    draft = work(agent(DAEMON.replace("{env}", "{}") + EDIT + SPEAK), request())
    assert draft.proposal is not None
    assert not lives(int((tmp_path / "pid").read_text()))


@linux
def test_an_agent_that_kills_its_keeper_leaves_nothing(agent: Agent, tmp_path: Path) -> None:
    kill = "import signal; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
    draft = work(agent(DAEMON.replace("{env}", "os.environ") + EDIT + SPEAK + kill), request())
    assert draft.proposal is None and "was cut off, for its keeper was killed; what it left does not" in draft.detail
    assert not lives(int((tmp_path / "pid").read_text()))


def test_an_agent_that_stops_its_keeper_is_ended_all_the_same(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("research_loop.runners.tree.OVERDUE_SECONDS", 0.3)
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)"
    draft = work(agent(EDIT + SPEAK + code), request(seconds=0.3))
    assert draft.proposal is None and "did not end within 0.3 s; what it left does not count" in draft.detail


def test_a_program_that_cannot_be_started_is_said(agent: Agent, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    draft = work(Template(f"{broken} {{prompt}}"), request())
    assert draft.proposal is None and "agent:broken: cannot be started (No such file or directory)" in draft.detail
    assert draft.usage.usd == 0


def test_a_task_that_is_too_long_for_an_argument_is_said_with_the_cure(agent: Agent) -> None:
    long = Request(CHECKOUT, "x" * 2**17, accept, 20.0)
    draft = work(agent(EDIT + SPEAK, "'a {prompt}'"), long)
    assert draft.proposal is None and draft.usage.usd == 0 and draft.detail.endswith("too long: use {prompt_file}")
    assert work(agent(EDIT + SPEAK, "{prompt_file}"), long).proposal is not None
    longest = "x" * (2**17 - 1 - len(prompt(Request(CHECKOUT, "", accept, 20.0))))
    assert work(agent(EDIT + SPEAK, "{prompt}"), Request(CHECKOUT, longest, accept, 20.0)).proposal is not None


def test_a_cache_folder_that_cannot_be_made_is_said(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    draft = agent(EDIT + SPEAK).draft(request())
    assert draft.proposal is None and "no checkout in the user's cache folder (Not a directory)" in draft.detail


# ------------------------------------------------------------------------------------------------------- floods of text


@pytest.mark.parametrize("piece", ["b'words and words\\n'", "b'x'", "b'{'", "b'\\n'", "b'{\"type\":1}\\n'"])
def test_a_flood_of_output_fills_no_memory(agent: Agent, piece: str) -> None:
    megabytes = 2 if "type" in piece else 200
    code = EDIT + FLOOD.format(megabytes=megabytes, piece=piece) + "print()\n" + SPEAK
    drafter = agent(code)
    tracemalloc.start()
    began = time.monotonic()
    draft = work(drafter, request())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert draft.proposal is not None and draft.proposal.what == "A 1 -> 2"
    assert peak < 12 * 2**20 and time.monotonic() - began < 15


def test_no_line_is_lost_or_cut_wherever_the_pieces_end() -> None:
    text = b'{"a": 1}\nno\n{"b": "' + b"x" * 100 + b'"}\n\n{"c": 3}\n {"d": 4}\n{"e": 5}'
    for size in (1, 2, 3, 7, 50, 1000):
        heard: list[bytes] = []
        lines = Lines(heard.append)
        for start in range(0, len(text), size):
            lines.feed(text[start : start + size])
        lines.end()
        assert heard == [line for line in text.split(b"\n") if line.startswith(b"{")]


def test_a_line_that_is_too_long_is_dropped_and_the_next_is_not() -> None:
    heard: list[bytes] = []
    lines = Lines(heard.append)
    for piece in (b"{", b"x" * LONGEST_LINE, b"x}", b'\n{"a": 1}\n', b"{" + b"y" * (LONGEST_LINE - 1), b'\n{"b": 2}'):
        lines.feed(piece)
    lines.end()
    assert [line[:8] for line in heard] == [b'{"a": 1}', b"{yyyyyyy", b'{"b": 2}']


# ----------------------------------------------------------------------------------------------------- its argument


def test_agents_by_different_commands_have_different_names_which_keep_a_key_secret() -> None:
    commands = ("sh {prompt}", "sh one {prompt}", "sh two {prompt}", "sh {prompt} two")
    names = [Template(command).name for command in commands]
    assert len(set(names)) == 4 and names[0] == "agent:sh"
    assert all(re.fullmatch("agent:sh-[0-9a-f]{6}", name) for name in names[1:])
    assert Template("sh one {prompt}").name == names[1] and Template("sh {folder} {prompt}").name == "agent:sh"


def test_the_home_folder_is_written_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").write_text(f"#!/bin/sh\necho 'A = 2' > train.py\necho '{SAID}'\n")
    (tmp_path / "mine").chmod(0o755)
    draft = work(Template("~/mine {prompt}"), request())
    assert draft.proposal is not None and draft.proposal.proposer == "agent:mine"


def test_what_cannot_be_started_is_refused_in_one_line_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain_file = tmp_path / "plain"
    plain_file.write_text("#!/bin/sh\n")
    for make, argument, line in (
        (Template, "", "agent: has no command: write it"),
        (Template, "   ", "agent: has no command: write it"),
        (Template, "'sh {prompt}", "no closing quotation: quote it as for a shell"),
        (Template, "sh -c", "agent:sh -c: put {prompt} or {prompt_file} where"),
        (Template, "{prompt} {folder}", "put {prompt} or {prompt_file} where"),
        (Template, "no-such-agent {prompt}", "no-such-agent: no such program on PATH: install it"),
        (Template, "./no-such-agent {prompt}", "./no-such-agent: no such file: install it"),
        (Template, f"{tmp_path} {{prompt}}", f"{tmp_path}: is a folder: write the path of the agent in it"),
        (Template, f"{plain_file} {{prompt}}", f"{plain_file}: is not executable: chmod +x it"),
        (Claude, "opus", "claude: no such program on PATH: install Claude Code"),
        (Codex, "", "codex: no such program on PATH: install Codex"),
    ):
        monkeypatch.setenv("PATH", "/nowhere" if make is not Template else "/usr/bin:/bin")
        with pytest.raises(ConfigError) as raised:
            make(argument)
        assert line in str(raised.value) and "\n" not in str(raised.value)
    assert Template.drafts and Claude.drafts and Codex.drafts
