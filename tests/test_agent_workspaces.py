"""What stands around an agent: its checkout, the variables that it gets, and what is left when a harness is killed."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acp_asking import acp
from research_loop.proposers.variables import environment
from research_loop.proposers.workspace import Odd, drafts_folder, remove_leftovers, workspace
from research_loop.records import Usage
from research_loop.runners.remains import LAB_MARKER
from research_loop.testing.acp_agent import write_script
from runs import until
from working import CHECKOUT, EDIT, SPEAK, Agent, agent_fixture, cache, lives, request, work  # noqa: F401

# ------------------------------------------------------------------------------------------------------- its variables

HIDDEN = (
    *("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PYTHONPATH", "LD_PRELOAD_X", "RESEARCH_LOOP_SECRET"),
    *("CLAUDECODE", "CLAUDE_CODE_SSE_PORT", "CODEX_SANDBOX", "CODEX_SANDBOX_NETWORK_DISABLED"),
)
SHOWN = ("ANTHROPIC_BASE_URL", "CODEX_HOME", "DASHSCOPE_API_KEY", "all_proxy", "https_proxy", "LC_TIME", "DISABLE_X")


def test_an_agent_sees_named_variables_and_no_input(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*HIDDEN, *SHOWN):
        monkeypatch.setenv(name, "hidden" if name in HIDDEN else "/shown")
    code = """
        import json, os, sys
        assert sys.stdin.read() == "" and os.readlink("/proc/self/fd/0") == os.devnull
        (aside / "seen").write_text(json.dumps(dict(os.environ)))
    """
    work(agent(code), request())
    seen = json.loads((tmp_path / "seen").read_text())
    assert "hidden" not in seen.values() and list(seen.values()).count("/shown") == len(SHOWN)
    assert seen["PATH"] == os.environ["PATH"] and len(seen[LAB_MARKER]) == 32


KEYS = {
    "claude": ("ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"),
    "codex": ("OPENAI_API_KEY", "CODEX_API_KEY"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
    "copilot": ("COPILOT_MODEL", "GH_TOKEN", "GITHUB_TOKEN"),
    "cursor": ("CURSOR_API_KEY",),
    "devin": ("DEVIN_API_KEY",),
    "qwen": ("DASHSCOPE_API_KEY", "OPENAI_API_KEY"),
}


@pytest.mark.parametrize("name", KEYS)
def test_an_agent_that_is_known_gets_the_keys_of_its_own_vendor_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {key for keys in KEYS.values() for key in keys}
    for key in keys:
        monkeypatch.setenv(key, "x")
    assert keys & set(environment(name)) == set(KEYS[name])
    assert keys - set(environment("opencode")) == {"AWS_PROFILE", "GH_TOKEN", "GITHUB_TOKEN"}


@pytest.mark.parametrize("made", ["claude", "codex", "agent:acp:gemini", "agent:acp:sh -c 'exec ./gemini'"])
def test_each_way_to_start_an_agent_passes_on_its_own_keys(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from research_loop.proposers import load

    seen = tmp_path / "seen"
    for name in ("claude", "codex", "gemini"):
        (tmp_path / name).write_text(f"#!/bin/sh\nenv > {seen}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for key in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(key, f"{key} passed on")
    name, _, argument = made.partition(":")
    work(load(name)(argument.replace("./gemini", f"{tmp_path}/gemini")), request())
    own = {"claude": ["ANTHROPIC"], "codex": ["OPENAI"], "agent:acp:gemini": ["GEMINI"]}
    passed_on = sorted(line.split("_")[0] for line in seen.read_text().splitlines() if line.endswith("passed on"))
    assert passed_on == own.get(made, ["ANTHROPIC", "GEMINI", "OPENAI"])


GIT = """
import subprocess
identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
told = []
for place in (".", "data", ".."):
    for words in (["rev-parse", "--show-toplevel"], ["add", "-fA", "."], ["commit", "-qam", "by an agent"]):
        done = subprocess.run(["git", *identity, *words], cwd=place, capture_output=True, text=True)
        told.append((done.returncode, done.stderr))
open({note!r}, "w").write(repr(told))
"""


def test_a_git_repository_above_the_checkout_is_not_an_agents(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    code = GIT.format(note=str(tmp_path / "told"))
    drafters: tuple[Callable[[], Any], ...] = (
        lambda: agent(code),
        lambda: acp(write_script(tmp_path / "script.json", {"python": code})),
    )
    for made in drafters:
        work(made(), request())
        told = (tmp_path / "told").read_text()
        assert told.count("not a git repository") == 9 and "(0," not in told
        (tmp_path / "told").unlink()
    log = subprocess.run(["git", "-C", str(tmp_path), "log", "--oneline"], capture_output=True, text=True)
    assert "does not have any commits yet" in log.stderr


# -------------------------------------------------------------------------------------------------------- its checkout


def put_in_between(monkeypatch: pytest.MonkeyPatch, put: Callable[[], None]) -> None:
    """Another puts something else there after it was looked at, right before it is opened."""
    opened = os.open

    def opening(path: Any, *more: Any, **named: Any) -> int:
        if path == "train.py":
            put()
        return opened(path, *more, **named)

    monkeypatch.setattr(os, "open", opening)


def test_what_is_swapped_in_between_a_look_and_a_read_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with workspace(CHECKOUT) as space:

        def put() -> None:
            (space.folder / "train.py").unlink()
            os.mkfifo(space.folder / "train.py")

        put_in_between(monkeypatch, put)
        assert space.collect().trouble == "train.py is no regular file any more"


def test_a_path_that_names_no_file_is_odd() -> None:
    with workspace(CHECKOUT) as space, pytest.raises(Odd) as raised:
        space._read(".", 1)
    assert str(raised.value) == "'.' is no file"


def test_a_disk_that_fails_after_the_work_loses_neither_usage_nor_the_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = os.fstat

    def broken(descriptor: int) -> os.stat_result:
        facts = stated(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_size == len(CHECKOUT.files["train.py"]):
            raise OSError(errno.EIO, "Input/output error")
        return facts

    monkeypatch.setattr(os, "fstat", broken)
    usage = {"usage": {"used": 1, "size": 2, "cost": {"amount": 0.75, "currency": "USD"}}}
    draft = work(acp(write_script(tmp_path / "script.json", usage)), request())
    assert draft.proposal is None and draft.usage == Usage(None, None, 0.75, "reported")
    assert draft.detail.endswith(": what it left cannot be read (Input/output error)")


def test_a_machine_that_fails_during_the_work_is_one_line(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("selectors.DefaultSelector", none_left)
    draft = work(agent(EDIT + SPEAK), request())
    assert draft.proposal is None and draft.usage == Usage()
    assert draft.detail.endswith(": its work could not be watched (Too many open files)")


def test_a_prompt_that_finds_no_room_is_said_before_anything_is_paid(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *text: Any, **more: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    drafter = agent("(aside / 'started').touch()")
    monkeypatch.setattr(Path, "write_text", full)
    draft = work(drafter, request())
    assert "no checkout in the user's cache folder (No space left on device): make room there" in draft.detail
    assert draft.usage.usd == 0 and not (tmp_path / "started").exists()


# ------------------------------------------------------------------------------------------------------------ leftovers


def test_what_a_killed_harness_left_is_removed_at_the_next_start(agent: Agent, tmp_path: Path) -> None:
    drafter = agent("import os, time; (aside / 'pid').write_text(str(os.getpid())); time.sleep(60)")
    code = f"""
        from research_loop.proposers.agents import Template
        from research_loop.proposers.drafting import Request
        from research_loop.records import Checkout
        Template({shlex.join(drafter._words)!r}).draft(Request(Checkout(1, {{"train.py": b""}}), "task", print, 60.0))
    """
    harness = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    assert until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    agent_pid = int((tmp_path / "pid").read_text())
    (other,) = drafts_folder().iterdir()
    os.utime(other, (0, 0))
    agent(EDIT + SPEAK).draft(request())
    assert (other / "checkout" / "train.py").exists(), "it is in use, however old it looks"
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    assert until(lambda: not lives(agent_pid)), "the agent ends with its harness"
    work(agent(EDIT + SPEAK), request())


def test_only_folders_of_our_own_names_are_leftovers() -> None:
    drafts = drafts_folder()
    drafts.mkdir(parents=True)
    ours, young = drafts / f"draft-{'0' * 32}", drafts / f"new-{'1' * 32}"
    old, linked, others = drafts / f"new-{'2' * 32}", drafts / f"draft-{'3' * 32}", drafts / "thesis"
    for place in (ours, young, old, linked, others):
        place.mkdir()
    (ours / "lock").touch()
    (linked / "lock").symlink_to(others)
    for place in (old, linked, others):
        os.utime(place, (0, 0))
    remove_leftovers(drafts)
    assert set(drafts.iterdir()) == {young, others}


def test_a_drafts_folder_that_is_a_link_is_refused_and_nothing_in_it_is_removed(agent: Agent, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / f"draft-{'0' * 32}").mkdir(parents=True)
    os.utime(victim / f"draft-{'0' * 32}", (0, 0))
    drafts = drafts_folder()
    drafts.parent.mkdir(parents=True)
    drafts.symlink_to(victim)
    draft = agent("(aside / 'started').touch()").draft(request())
    assert draft.proposal is None and draft.usage.usd == 0 and not (tmp_path / "started").exists()
    assert draft.detail.endswith(f"{drafts}: is a link, and folders in it are removed: remove the link")
    assert len(list(victim.iterdir())) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder to another user")
def test_another_users_drafts_folder_is_refused(agent: Agent) -> None:
    drafts_folder().mkdir(parents=True)
    os.chown(drafts_folder(), 12345, 12345)
    detail = work(agent(EDIT + SPEAK), request()).detail
    assert detail.endswith(": is another user's: set XDG_CACHE_HOME to a folder of your own")
