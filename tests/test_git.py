"""git.py: what a git that we run must not do, what is said when it cannot run, and what one leaves that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from research_loop.errors import GitError
from research_loop.history import Repository

BRANCH = "refs/heads/autoresearch/nov23"


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests, and no repository above the test's folder."""
    for name in [name for name in os.environ if name.startswith("GIT_") or name == "EMAIL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "system-gitconfig"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def lab(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "lab")


def git(folder: Path, *arguments: str) -> str:
    """git as the user runs it by hand."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def everything(lab: Repository, folder: Path) -> str:
    """One call of each method that runs git; returns the commit it made."""
    commit = lab.commit(lab.head(), {"train.py": b"x"}, "m")
    lab.point("refs/heads/autoresearch/nov23", commit)
    lab.export(commit, folder)
    lab.files(commit, ["train.py"])
    lab.diff(commit, commit)
    lab.refs("refs/")
    lab.tip("refs/heads/main")
    lab.clear_stale_locks(["refs/heads/main"])
    lab.dirty()
    return commit


def test_the_users_hooks_do_not_run(lab: Repository, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for hook in ("reference-transaction", "post-checkout", "post-index-change", "post-commit", "pre-auto-gc"):
        program(lab.git_dir / "hooks" / hook, f"echo {hook} >> '{marker}'")
    everything(lab, tmp_path / "out")
    assert not marker.exists()
    git(lab.root, "update-ref", "refs/x", lab.commit(None, {}, "m"))
    assert marker.exists(), "the trap itself must work"


def test_a_hostile_file_system_monitor_does_not_run(lab: Repository, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    lab.start({"train.py": b"x"}, "m")
    git(lab.root, "config", "core.fsmonitor", str(program(tmp_path / "monitor", f"touch '{marker}'")))
    everything(lab, tmp_path / "out")
    assert not marker.exists()
    git(lab.root, "status")
    assert marker.exists(), "the trap itself must work"


def test_variables_of_a_calling_git_hook_do_not_leak_in(
    lab: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository.create(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.git_dir))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.git_dir / "their-index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=true'")
    monkeypatch.setenv("GIT_PREFIX", "deep/")
    monkeypatch.setenv("GIT_TRACE", "1")
    before = sorted(path for path in other.root.rglob("*"))
    assert Repository.find(lab.root) == lab
    commit = everything(lab, tmp_path / "out")
    assert Repository.create(tmp_path / "third").root == tmp_path / "third"
    assert sorted(path for path in other.root.rglob("*")) == before
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.delenv(name)
    assert git(lab.root, "rev-parse", "refs/heads/autoresearch/nov23") == commit


WHO = "--format=%an <%ae>, %cn <%ce>"
NOBODY = "research-loop <research-loop@localhost>"


def test_commits_bear_the_users_name_where_one_is_configured(
    lab: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(lab.root, "config", "user.name", "Ünsal Ü")
    git(lab.root, "config", "user.email", "u@example.org")
    git(lab.root, "config", "committer.name", "Robot")
    commit = lab.commit(None, {"train.py": b"x"}, "m")
    assert git(lab.root, "log", "-1", WHO, commit) == "Ünsal Ü <u@example.org>, Robot <u@example.org>"
    monkeypatch.setenv("GIT_AUTHOR_NAME", "From Outside")
    again = Repository.find(lab.root)
    assert again is not None
    commit = again.commit(None, {"train.py": b"x"}, "m")
    assert git(lab.root, "log", "-1", "--format=%an", commit) == "From Outside"


def test_commits_bear_our_name_where_none_is_configured(lab: Repository, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\tuseConfigOnly = true\n\tname = Half\n")
    commit = lab.commit(None, {"train.py": b"x"}, "m")
    lab.point("refs/heads/main", commit)
    assert git(lab.root, "log", "-1", WHO, commit) == f"{NOBODY}, {NOBODY}"
    assert git(lab.root, "log", "-g", "-1", "--format=%gn <%ge>", "refs/heads/main") == NOBODY


def test_a_setting_that_signs_commits_or_recodes_messages_does_not_matter(lab: Repository) -> None:
    for name, value in (("commit.gpgSign", "true"), ("gpg.program", "false"), ("i18n.commitEncoding", "latin1")):
        git(lab.root, "config", name, value)
    commit = lab.commit(None, {"train.py": b"x"}, "ü")
    header = git(lab.root, "cat-file", "commit", commit)
    assert "gpgsig" not in header and "encoding" not in header and header.endswith("ü")


def test_replaced_objects_are_read_as_they_were_written(lab: Repository) -> None:
    one, two = (lab.commit(None, {"train.py": text}, "m") for text in (b"1", b"2"))
    git(lab.root, "replace", one, two)
    assert lab.files(one, ["train.py"]) == {"train.py": b"1"}


def test_a_missing_git_is_said_in_one_line_with_the_cure(
    lab: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for call in (lab.head, lambda: Repository.find(lab.root), lambda: Repository.create(tmp_path / "new")):
        with pytest.raises(GitError) as caught:
            call()
        expected = "git was not found: install it (Debian/Ubuntu: apt install git; macOS: xcode-select --install)"
        assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("echo git version 2.29.9", "git 2.29 is too old, 2.30 or later is needed"),
        ("echo xcrun: error: invalid active developer path >&2; exit 1", "git was not found"),
    ],
)
def test_a_git_that_will_not_do_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, said: str
) -> None:
    program(tmp_path / "bin/git", answer)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(GitError, match=said) as caught:
        Repository.find(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_older_git_is_told_to_sync_in_its_own_words(
    lab: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, log = shutil.which("git"), tmp_path / "log"
    version = '[ "$1" = --version ] && { echo git version 2.34.1; exit; }'
    program(tmp_path / "bin/git", version, f'echo "$*" >> "{log}"', f'exec "{real}" "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    lab.point("refs/heads/main", lab.commit(None, {"train.py": b"x"}, "m"))
    assert all("core.fsyncObjectFiles=true" in line for line in log.read_text().splitlines())


def test_every_git_that_writes_syncs_what_it_wrote(lab: Repository, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    (tmp_path / "gitconfig").write_text(f"[trace2]\n\teventTarget = {traces}\n")
    commit = lab.commit(None, {"deep/train.py": b"x"}, "m")
    lab.point(BRANCH, commit)
    lab.point("refs/research-loop/1", commit)
    flushes: dict[str, list[int]] = {}
    for trace in traces.iterdir():
        events = [json.loads(line) for line in trace.read_text().splitlines()]
        verb = next(event["name"] for event in events if event["event"] == "cmd_name")
        counts = [int(event["value"]) for event in events if event.get("key") == "fsync/hardware-flush"]
        flushes.setdefault(verb, []).append(sum(counts))
    writers = {verb: flushes[verb] for verb in ("hash-object", "commit-tree", "update-ref")}
    assert writers == {"hash-object": [1, 1, 1], "commit-tree": [1], "update-ref": [1, 1]}
    assert set(flushes) - set(writers) <= {"config", "cat-file"}


def test_a_repository_of_another_user_is_refused_with_the_cure(
    lab: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    program(tmp_path / "bin/git", "export GIT_TEST_ASSUME_DIFFERENT_OWNER=1", f'exec "{real}" "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(GitError) as caught:
        Repository.find(lab.root)
    cure = f"if you trust it, run: git config --global --add safe.directory {lab.root}"
    assert str(caught.value) == f"{lab.root}: another user owns this repository, so git refuses it: {cure}"
    (tmp_path / "system-gitconfig").write_text(f"[safe]\n\tdirectory = {lab.root}\n")
    assert Repository.find(lab.root) == lab
    everything(lab, tmp_path / "out")


def test_a_refusal_of_git_is_one_line_with_place_and_cure(lab: Repository, tmp_path: Path) -> None:
    commit = lab.commit(None, {"train.py": b"x"}, "m")
    lab.point("refs/heads/autoresearch", commit)
    with pytest.raises(GitError, match="rename that branch, or choose another tag") as caught:
        lab.point("refs/heads/autoresearch/nov23", commit)
    assert str(caught.value).startswith(f"{lab.root}: git update-ref: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(GitError, match="make the folder first"):
        Repository.find(tmp_path / "gone")


def test_a_stale_lock_never_blocks_the_next_keep(lab: Repository) -> None:
    one = lab.commit(None, {"train.py": b"1"}, "m")
    lab.point(BRANCH, one)
    git(lab.root, "symbolic-ref", "HEAD", BRANCH)
    locks = [lab.git_dir / f"{BRANCH}.lock", lab.git_dir / "HEAD.lock"]
    foreign = [lab.git_dir / "refs/heads/main.lock", lab.git_dir / "index.lock"]
    for lock in locks + foreign:
        lock.touch()
    with pytest.raises(GitError, match="if none runs, remove that file") as caught:
        lab.point(BRANCH, one)
    assert "\n" not in str(caught.value)
    assert lab.clear_stale_locks([BRANCH, "refs/research-loop/1"]) == locks
    assert all(lock.exists() for lock in foreign)
    lab.point(BRANCH, one)
    assert lab.clear_stale_locks([BRANCH]) == []


@pytest.mark.parametrize("options", [("main",), ("--detach",)])
def test_the_lock_of_a_head_that_is_the_users_stays(lab: Repository, options: tuple[str, ...]) -> None:
    lab.start({"train.py": b"x"}, "m")
    git(lab.root, "checkout", "-q", *options)
    (lab.git_dir / "HEAD.lock").touch()
    assert lab.clear_stale_locks([BRANCH]) == []
    assert (lab.git_dir / "HEAD.lock").exists()


KEEPER = """
import sys
from pathlib import Path
from research_loop.errors import GitError
from research_loop.history import Repository
lab, branch, stop = Repository.find(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
print("ready", flush=True)
n, last = 0, False
while not last:
    last = stop.exists()
    try:
        lab.clear_stale_locks([branch, f"refs/research-loop/{n}"])
        tip = lab.tip(branch)
        commit = lab.commit(tip, {"train.py": b"%d" % n}, str(n))
        lab.point(f"refs/research-loop/{n}", commit)
        lab.point(branch, commit, tip)
    except GitError as error:
        assert "signal 9" in str(error), error
        last = False
        continue
    print(commit, flush=True)
    n += 1
"""


def test_kill_9_of_any_git_at_any_moment_loses_no_keep_and_blocks_none(lab: Repository, tmp_path: Path) -> None:
    git(lab.root, "symbolic-ref", "HEAD", BRANCH)
    command = [sys.executable, "-c", KEEPER, str(lab.root), BRANCH, str(tmp_path / "stop")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None and keeper.stdout.readline() == "ready\n"
        _kill_children(keeper, 40)
        (tmp_path / "stop").touch()
        acknowledged = keeper.stdout.read().split()
    assert keeper.returncode == 0
    assert acknowledged
    assert set(acknowledged) <= set(git(lab.root, "rev-list", BRANCH).split())
    git(lab.root, "fsck", "--strict", "--no-dangling")


def _kill_children(keeper: subprocess.Popen[str], times: int) -> None:
    """SIGKILL whichever git the keeper runs, at random moments."""
    moments, process, kills = random.Random(0), psutil.Process(keeper.pid), 0
    while kills < times and keeper.poll() is None:
        time.sleep(moments.uniform(0.0, 0.05))
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in process.children():
                if child.status() != psutil.STATUS_ZOMBIE:
                    child.kill()
                    kills += 1


def test_three_thousand_refs_do_not_slow_a_point(lab: Repository, tmp_path: Path) -> None:
    many = Repository.create(tmp_path / "many")
    commit = many.commit(None, {"train.py": b"x"}, "m")
    lines = "".join(f"update refs/research-loop/{n} {commit}\n" for n in range(3000))
    subprocess.run(["git", "-C", str(many.root), "update-ref", "--stdin"], input=lines, text=True, check=True)
    assert _seconds_of_a_keep(many) < 4 * _seconds_of_a_keep(lab) + 0.05
    assert len(many.refs("refs/research-loop/")) == 3000


def _seconds_of_a_keep(lab: Repository) -> float:
    """Median of five."""
    samples = []
    for n in range(5):
        begin = time.perf_counter()
        commit = lab.commit(None, {"train.py": b"%d" % n}, "m")
        lab.point(f"refs/research-loop/{n}", commit)
        lab.point(BRANCH, commit)
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples)
