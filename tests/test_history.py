"""history.py on real repositories: what goes in comes out, and the user's own work is never touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from research_loop.errors import GitError
from research_loop.history import Repository

BRANCH = "refs/heads/autoresearch/nov23"
PATHS = ["train.py"]


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests, and no repository above the test's folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "system-gitconfig"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """git as the user runs it by hand."""
    user = {
        "GIT_AUTHOR_NAME": "User",
        "GIT_AUTHOR_EMAIL": "u@x",
        "GIT_COMMITTER_NAME": "User",
        "GIT_COMMITTER_EMAIL": "u@x",
    }
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | user, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def users_repository(root: Path, *options: str) -> Path:
    """A repository with a commit, and staged, unstaged and untracked work."""
    git(root.parent, "init", "-q", "-b", "main", *options, str(root))
    (root / "lab").mkdir()
    (root / "lab/train.py").write_bytes(b"DEPTH = 4\n")
    (root / "lab/run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "lab/run.sh").chmod(0o755)
    (root / "lab/link").symlink_to("train.py")
    (root / "notes.txt").write_text("one\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "the user's")
    (root / "notes.txt").write_text("staged\n")
    git(root, "add", "notes.txt")
    (root / "notes.txt").write_text("unstaged\n")
    (root / "untracked.txt").write_text("untracked\n")
    return root


def found(folder: Path) -> Repository:
    repository = Repository.find(folder)
    assert repository is not None
    return repository


def picture(root: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of all files of the user's: work tree, index, HEAD, refs, logs, settings."""
    ours = (".git/objects", ".git/refs/research-loop", f".git/{BRANCH}", f".git/logs/{BRANCH}")
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {
        name: (path.read_bytes(), path.lstat().st_mtime_ns) for name, path in files.items() if not name.startswith(ours)
    }


def test_find_tells_the_root_and_the_labs_folder_in_it(tmp_path: Path) -> None:
    root = users_repository(tmp_path / "repo")
    deep = root / "lab/a b/ünï"
    deep.mkdir(parents=True)
    assert (found(root).root, found(root).prefix) == (root, "")
    assert (found(deep).root, found(deep).prefix) == (root, "lab/a b/ünï/")
    assert Repository.find(tmp_path) is None


@pytest.mark.parametrize("pattern", ["/lab/", "lab", "lab/*", "*.toml"])
def test_a_lab_that_the_outer_project_ignores_is_no_part_of_it(tmp_path: Path, pattern: str) -> None:
    root = users_repository(tmp_path / "repo")
    (root / "inner").mkdir()
    (root / ".gitignore").write_text(pattern.replace("lab", "inner") + "\n")
    assert Repository.find(root / "inner") is None
    own = Repository.create(root / "inner")
    assert (own.root, own.prefix) == (root / "inner", "")
    assert found(root / "inner") == own


def test_a_lab_folder_named_like_a_pattern_is_found(tmp_path: Path) -> None:
    root = users_repository(tmp_path / "repo")
    (root / ":![ab]*").mkdir()
    lab = found(root / ":![ab]*")
    commit = lab.commit(lab.head(), {"train.py": b"x"}, "m")
    git(root, "update-index", "--add", "--cacheinfo", f"100644,{git(root, 'rev-parse', ':notes.txt')},:![ab]*/train.py")
    assert lab.files(commit, PATHS) == {"train.py": b"x"}
    assert lab.dirty() == ["train.py"]


def test_create_takes_no_template_hooks_and_starts_unborn_on_main(tmp_path: Path) -> None:
    template = tmp_path / "template/hooks"
    template.mkdir(parents=True)
    (template / "post-checkout").write_text("#!/bin/sh\n")
    git(tmp_path, "config", "--global", "init.templateDir", str(template.parent))
    repository = Repository.create(tmp_path / "lab")
    assert not (repository.git_dir / "hooks").exists()
    assert (repository.git_dir / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert repository.head() is None


def test_start_leaves_nothing_for_git_status_and_works_once(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "lab")
    (tmp_path / "lab/train.py").write_bytes(b"x\n")
    commit = repository.start({"train.py": b"x\n"}, "Lay out the lab")
    assert repository.head() == repository.tip("refs/heads/main") == commit
    assert git(repository.root, "status", "--porcelain") == ""
    (repository.git_dir / "index").unlink()
    with pytest.raises(GitError, match="in use already"):
        repository.start({"train.py": b"y\n"}, "again")


def test_start_refuses_where_the_user_has_staged_something(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "lab")
    (tmp_path / "lab/mine.txt").write_text("mine")
    git(repository.root, "add", "mine.txt")
    with pytest.raises(GitError, match="in use already"):
        repository.start({"train.py": b"x\n"}, "Lay out the lab")
    assert git(repository.root, "ls-files") == "mine.txt"


def test_a_bare_repository_and_a_git_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    users_repository(tmp_path / "repo")
    for folder in (tmp_path / "bare.git", tmp_path / "repo/.git"):
        with pytest.raises(GitError, match="put the lab into a work tree") as caught:
            Repository.find(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [(), ("--object-format=sha256",)])
def test_commits_of_nested_labs_are_what_git_itself_would_have_made(tmp_path: Path, options: tuple[str, ...]) -> None:
    root = users_repository(tmp_path / "repo", *options)
    lab = found(root / "lab")
    base = lab.head()
    files = {
        "train.py": b"DEPTH = 5\n",
        "new/deep er/ü.py": b"\x00\xff",
        "run.sh": b"#!/bin/sh\ntrue\n",
        "link": b"plain",
    }
    commit = lab.commit(base, files, "deeper — ünï\n\nwhy\0")
    assert lab.files(commit, files) == files
    assert git(root, "rev-parse", f"{commit}^") == base
    assert git(root, "log", "-1", "--format=%B", commit) == "deeper — ünï\n\nwhy"
    assert "100755" in git(root, "ls-tree", commit, "lab/run.sh")
    assert "100644" in git(root, "ls-tree", commit, "lab/link")
    changed = git(root, "-c", "core.quotePath=false", "diff", "--name-only", str(base), commit).splitlines()
    assert changed == ["lab/link", "lab/new/deep er/ü.py", "lab/run.sh", "lab/train.py"]
    git(root, "fsck", "--strict", "--no-dangling")


def test_many_experiments_on_one_base_and_on_none(tmp_path: Path) -> None:
    lab = Repository.create(tmp_path / "lab")
    empty = lab.commit(None, {}, "nothing")
    base = lab.commit(None, {"p/a/x": b"1", "p/a.x": b"2", "p/a0": b"3", "z": b"4"}, "names that git sorts its own way")
    commits = [lab.commit(base, {"p/a/x": str(i).encode()}, "m") for i in range(5)]
    assert [lab.files(c, ["p/a/x", "z"]) for c in commits] == [{"p/a/x": str(i).encode(), "z": b"4"} for i in range(5)]
    assert git(lab.root, "ls-tree", empty) == ""
    assert len(git(lab.root, "ls-tree", "-r", commits[0]).splitlines()) == 4
    for n, commit in enumerate([empty, *commits]):  # fsck follows refs
        lab.point(f"refs/research-loop/{n}", commit)
    git(lab.root, "fsck", "--strict")


def test_a_base_that_has_lost_a_folder_is_not_built_upon(tmp_path: Path) -> None:
    lab = Repository.create(tmp_path / "lab")
    base = lab.commit(None, {"p/train.py": b"1", "p/other.py": b"2"}, "m")
    lost = git(lab.root, "rev-parse", f"{base}:p")
    (lab.git_dir / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(GitError, match="is not whole there"):
        lab.commit(base, {"p/train.py": b"3"}, "m")


def test_the_users_index_files_head_and_refs_are_never_touched(tmp_path: Path) -> None:
    root = users_repository(tmp_path / "repo")
    git(root, "config", "core.splitIndex", "true")
    before = picture(root)
    lab = found(root / "lab")
    (root / "lab/train.py").touch()  # its time no longer fits the index: a status that refreshes would write it
    before["lab/train.py"] = (b"DEPTH = 4\n", (root / "lab/train.py").stat().st_mtime_ns)
    commit = lab.commit(lab.head(), {"train.py": b"DEPTH = 6\n"}, "m")
    lab.point("refs/research-loop/1", commit, "")
    lab.point(BRANCH, commit)
    lab.export(commit, tmp_path / "out")
    lab.diff(f"{commit}^", commit)
    lab.refs("refs/")
    lab.clear_stale_locks([BRANCH])
    assert lab.dirty() == []
    assert picture(root) == before


def test_dirty_names_the_users_uncommitted_changes_of_the_lab_only(tmp_path: Path) -> None:
    root = users_repository(tmp_path / "repo")
    (root / "lab/train.py").write_text("DEPTH = 9\n")
    (root / "lab/stray.py").write_text("")
    assert found(root / "lab").dirty() == ["train.py"]
    assert found(root).dirty() == ["lab/train.py", "notes.txt"]


def test_a_broken_repository_is_not_taken_for_an_unborn_one(tmp_path: Path) -> None:
    lab = found(users_repository(tmp_path / "repo"))
    (lab.git_dir / "config").write_text("[broken")
    for call in (lab.head, lambda: lab.clear_stale_locks([BRANCH])):
        with pytest.raises(GitError, match="bad config"):
            call()


@pytest.mark.parametrize("options", [(), ("--object-format=sha256",)])
def test_point_moves_a_ref_only_from_where_it_is_expected(tmp_path: Path, options: tuple[str, ...]) -> None:
    lab = found(users_repository(tmp_path / "repo", *options) / "lab")
    one, two = (lab.commit(lab.head(), {"train.py": text}, "m") for text in (b"1", b"2"))
    assert lab.tip(BRANCH) is None
    lab.point(BRANCH, one, "")
    with pytest.raises(GitError, match="start again") as caught:
        lab.point(BRANCH, two, "")
    assert "\n" not in str(caught.value)
    with pytest.raises(GitError, match="but expected"):
        lab.point(BRANCH, two, two)
    lab.point(BRANCH, two, one)
    lab.point("refs/research-loop/1", one)
    assert lab.tip(BRANCH) == two
    assert lab.refs("refs/research-loop/") == {"refs/research-loop/1": one}
    assert lab.refs("refs/none/") == {}


def test_point_leaves_alone_what_a_symbolic_ref_names(tmp_path: Path) -> None:
    lab = found(users_repository(tmp_path / "repo") / "lab")
    git(lab.root, "symbolic-ref", BRANCH, "refs/heads/main")
    commit = lab.commit(lab.head(), {"train.py": b"x"}, "m")
    lab.point(BRANCH, commit)
    assert lab.tip(BRANCH) == commit != lab.tip("refs/heads/main")


def test_a_moved_ref_and_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, sync, synced = Repository.create(tmp_path / "lab"), os.fsync, set()

    def recorded(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr("os.fsync", recorded)
    lab.point(BRANCH, lab.commit(None, {"train.py": b"x"}, "m"))
    ref = lab.common_dir / BRANCH
    assert {ref.stat().st_ino, ref.parent.stat().st_ino} == synced


def test_an_unborn_repository_has_no_head_and_takes_a_branch(tmp_path: Path) -> None:
    lab = Repository.create(tmp_path / "lab")
    assert (lab.head(), lab.dirty(), lab.refs("refs/")) == (None, [], {})
    commit = lab.commit(None, {"train.py": b"x"}, "m")
    lab.point(BRANCH, commit, "")
    assert (lab.head(), lab.tip(BRANCH)) == (None, commit)


def test_names_that_are_no_files_or_refs_are_refused(tmp_path: Path) -> None:
    lab = Repository.create(tmp_path / "lab")
    base = lab.commit(None, {"train.py": b"x"}, "m")
    for path in ("", "/etc/passwd", "../x", "a//b", ".git/config", "a/.GIT/x", "a\nb"):
        with pytest.raises(GitError, match="not a file of the lab"):
            lab.commit(base, {path: b""}, "m")
    for name in ("main", "refs/../../x", "HEAD"):
        with pytest.raises(GitError, match="not the full name of a ref"):
            lab.clear_stale_locks([name])
    with pytest.raises(GitError, match=r"^gone.py: no such file"):
        lab.files(base, ["train.py", "gone.py"])
    with pytest.raises(GitError, match="a file in one commit and a folder in the other"):
        lab.commit(base, {"train.py/x": b""}, "m")
    with pytest.raises(GitError, match="is not whole there"):
        lab.commit("1" * 40, {"train.py": b""}, "m")


@pytest.mark.parametrize("autocrlf", ["true", "false"])
def test_export_writes_modes_and_links_and_heeds_no_settings_of_the_users(tmp_path: Path, autocrlf: str) -> None:
    root = users_repository(tmp_path / "repo")
    lab = found(root / "lab")
    for name, value in (("core.autocrlf", autocrlf), ("core.eol", "crlf"), ("core.sparseCheckout", "true")):
        git(root, "config", name, value)
    (root / ".git/info/sparse-checkout").write_text("/notes.txt\n")
    (root / ".gitattributes").write_text("* filter=none eol=crlf\n")  # in the work tree, not in the commit
    commit = lab.commit(
        lab.head(), {"train.py": b"a\nb\n", ".gitattributes": b"text.py text\n", "text.py": b"a\n"}, "m"
    )
    folder = lab.export(commit, tmp_path / "new/out")
    assert folder == tmp_path / "new/out/lab"
    assert (folder / "train.py").read_bytes() == b"a\nb\n"
    assert (folder / "text.py").read_bytes() == b"a\n"
    assert os.access(folder / "run.sh", os.X_OK) and not os.access(folder / "train.py", os.X_OK)
    assert (folder / "link").readlink() == Path("train.py")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["lab", "notes.txt"]
    with pytest.raises(GitError, match="not empty"):
        lab.export(f"{lab.head()}", tmp_path / "new/out")


def test_export_runs_filters_that_the_system_has_set_up(tmp_path: Path) -> None:
    lab = Repository.create(tmp_path / "lab")
    (tmp_path / "system-gitconfig").write_text('[filter "up"]\n\tsmudge = tr a-z A-Z\n')
    commit = lab.commit(None, {".gitattributes": b"*.big filter=up\n", "x.big": b"abc"}, "m")
    assert (lab.export(commit, tmp_path / "out") / "x.big").read_bytes() == b"ABC"


def test_export_leaves_no_private_index_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Repository.create(tmp_path / "lab")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    lab.export(lab.commit(None, {"train.py": b"x"}, "m"), tmp_path / "out")
    with pytest.raises(GitError):
        lab.export("1" * 40, tmp_path / "out2")
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (lab.git_dir / "index").exists()


def test_the_bytes_of_a_file_go_in_and_out_whatever_git_is_told_about_line_ends(tmp_path: Path) -> None:
    root = users_repository(tmp_path / "repo")
    git(root, "config", "core.autocrlf", "true")
    (root / ".gitattributes").write_text("*.py text eol=crlf working-tree-encoding=UTF-16 ident\n")
    git(root, "add", ".gitattributes")
    git(root, "commit", "-qm", "attributes")
    lab = found(root / "lab")
    for text in (b"a\nb\n", b"a\r\nb\r\n", b"a\nb\r\nc\r", b"$Id$ \xff\x00", b""):
        assert lab.files(lab.commit(lab.head(), {"train.py": text}, "m"), PATHS) == {"train.py": text}


def test_diff_is_plain_whatever_the_users_settings_and_counts_from_the_lab(tmp_path: Path) -> None:
    root = users_repository(tmp_path / "repo")
    settings = {"diff.external": "false", "diff.noprefix": "true", "color.ui": "always", "diff.mnemonicPrefix": "true"}
    settings |= {"diff.renames": "copies", "diff.evil.command": "false", "diff.evil.textconv": "false"}
    for name, value in settings.items():
        git(root, "config", name, value)
    (root / ".gitattributes").write_text("*.py diff=evil\n")
    lab = found(root / "lab")
    base = f"{lab.head()}"
    commit = lab.commit(base, {"train.py": b"DEPTH = 5\n", "ü b.py": b"x\n"}, "m")
    assert "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-DEPTH = 4\n+DEPTH = 5\n" in lab.diff(base, commit)
    assert "--- /dev/null\n+++ b/ü b.py\t\n@@ -0,0 +1 @@\n+x\n" in lab.diff(base, commit)
    assert "ü" not in lab.diff(base, commit, PATHS)
    assert lab.diff(base, commit, []) == lab.diff(commit, commit) == ""
    outside = found(root).commit(commit, {"notes.txt": b"two\n"}, "m")
    assert lab.diff(commit, outside) == ""


def test_a_linked_work_tree_has_its_own_head_and_shares_refs_and_excludes(tmp_path: Path) -> None:
    root = users_repository(tmp_path / "repo")
    git(root, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    lab = found(tmp_path / "side/lab")
    assert (lab.root, lab.common_dir) == (tmp_path / "side", root / ".git")
    before = picture(root)
    commit = lab.commit(lab.head(), {"train.py": b"side"}, "m")
    lab.point(BRANCH, commit, "")
    assert picture(root) == before
    assert found(root).tip(BRANCH) == commit
    assert (lab.export(commit, tmp_path / "out") / "train.py").read_bytes() == b"side"
    (root / f".git/{BRANCH}.lock").touch()
    assert lab.clear_stale_locks([BRANCH]) == [root / f".git/{BRANCH}.lock"]
    lab.exclude(["/lab/results.tsv"])
    (lab.root / "lab/results.tsv").write_text("")
    assert git(lab.root, "status", "--porcelain") == ""


def test_exclude_adds_each_line_once_and_keeps_the_users(tmp_path: Path) -> None:
    lab = Repository.create(tmp_path / "lab")
    lab.exclude(["/results.tsv"])
    exclude = lab.git_dir / "info/exclude"
    exclude.write_bytes(exclude.read_bytes() + b"mine")
    for _ in range(2):
        lab.exclude(["/run.log", "/results.tsv", "/run.log"])
    assert exclude.read_bytes() == b"/results.tsv\nmine\n/run.log\n"


def test_two_changes_of_a_text_are_merged_line_by_line_and_not_where_they_meet(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path)
    base = b"A = 1\nB = 2\nC = 3"
    assert repository.merged(base, b"A = 9\nB = 2\nC = 3", b"A = 1\nB = 8\nC = 3") == b"A = 9\nB = 8\nC = 3"
    assert repository.merged(base, b"A = 9\nB = 2\nC = 3", b"A = 7\nB = 2\nC = 3") is None
    assert repository.merged(base, base, b"A = 1\r\n\r\nB = 2\nD = 4\n") == b"A = 1\r\n\r\nB = 2\nD = 4\n"
    assert repository.merged(b"", b"", b"\xff\xfe") == b"\xff\xfe"
