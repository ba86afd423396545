"""git by plumbing, for a lab that lives in a repository which may be the user's own.

Every experiment becomes a commit and a ref; the user's index, working files, HEAD and other refs stay as they
are. Trees are made straight from the base's trees (`cat-file`, `hash-object`), never through the user's index, and
each git runs with hooks, file-system monitors and automatic clean-up off, on its own settings, not the caller's.

Crash safety: objects are synced before the ref that names them, a ref is renamed into place, and only then
synced and reported. A git that is killed leaves at most a `.lock` file, which `clear_stale_locks` removes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Unpack

from research_loop import git
from research_loop.errors import GitError
from research_loop.files import sync
from research_loop.records import Files

IDENTITY = ("research-loop", "research-loop@localhost")
"""Name and address on commits of a user who has configured none."""

# How an editable file comes out is the commit's affair, not this machine's; a sparse checkout is the user's own.
_EXPORT_SETTINGS = {
    "core.autocrlf": "false",
    "core.eol": "lf",
    "core.sparseCheckout": "false",
    "core.fsync": "none",
}
_Tree = dict[bytes, tuple[bytes, str]]
"""One folder of a commit: name -> (octal mode, object id)."""


class _Object(NamedTuple):
    kind: str
    oid: str
    data: bytes


_NOTHING = _Object("", "", b"")


@dataclass(frozen=True)
class Repository:
    """A git work tree that holds a lab. All paths given and returned are relative to the lab's folder.

    `root` is the top of the work tree and `prefix` the lab's folder in it, "" or like "sub/dir/". `git_dir` holds
    this work tree's HEAD and index; `common_dir` the refs and objects that linked work trees share.
    Every method raises GitError, one line, where git refuses.
    """

    root: Path
    prefix: str
    git_dir: Path
    common_dir: Path

    @classmethod
    def find(cls, lab: Path) -> Repository | None:
        """The repository whose work tree holds the folder `lab` and does not ignore it, or None.

        A lab that an outer project ignores is no part of that project. GitError for a bare repository and for one
        that git does not trust.
        """
        repository = cls._discover(lab)
        if repository is None or not repository.prefix:
            return repository
        # The folder, for a pattern like `lab/`; and a file that every lab has, for one like `lab/*`.
        paths = [f"./{repository.prefix}", f"./{repository.prefix}lab.toml"]
        literal = {"GIT_LITERAL_PATHSPECS": "0"}  # check-ignore takes names literally as it is, and refuses to be told
        return None if repository._answer("check-ignore", "--", *paths, variables=literal) else repository

    @classmethod
    def create(cls, lab: Path) -> Repository:
        """Make a repository in the folder `lab`, on an unborn branch `main`, without template hooks."""
        with _writing(lab):
            lab.mkdir(parents=True, exist_ok=True)
        done = git.spawn(lab, "init", "--quiet", "--initial-branch=main", "--template=")
        if done.returncode:
            raise git.failure(lab, "init", done)
        repository = cls._discover(lab)
        if repository is None:
            raise GitError(f"{lab}: git init made no repository there: see what `git init` says by hand")
        return repository

    def start(self, files: Files, message: str) -> str:
        """Make the first commit of a repository that `create` made and return its id.

        HEAD's branch, the index and the work tree's `files` agree afterwards. GitError where HEAD has a commit or
        anything is staged: then the repository is the user's.
        """
        if self.head() is not None or (self.git_dir / "index").exists():
            raise GitError(f"{self.root}: the repository is in use already: its branch and index stay as they are")
        commit = self.commit(None, files, message)
        self.point(os.fsdecode(self._git("symbolic-ref", "HEAD")).strip(), commit, "")
        self._git("read-tree", commit)
        return commit

    @classmethod
    def _discover(cls, lab: Path) -> Repository | None:
        lab = lab.resolve()
        asked = ["--is-inside-work-tree", "--absolute-git-dir", "--git-common-dir", "--show-prefix", "--show-toplevel"]
        done = git.spawn(lab, "rev-parse", *asked, system=True)
        if done.stdout.startswith(b"false"):
            raise GitError(f"{lab}: lies in a bare repository or a .git folder: put the lab into a work tree")
        if done.stderr.startswith(b"fatal: not a git repository (or any"):
            return None
        if done.returncode:
            raise git.failure(lab, "rev-parse", done)
        lines = os.fsdecode(done.stdout).split("\n")
        if len(lines) != len(asked) + 1:
            raise GitError(f"{str(lab)!r}: a line break in the name of a folder: rename it")
        _, git_dir, common_dir, prefix, root = lines[:-1]
        return cls(Path(root), prefix, Path(git_dir), (lab / common_dir).resolve())

    def head(self) -> str | None:
        """The commit of HEAD, or None while it has none (unborn)."""
        return self._answer("rev-parse", "--quiet", "--verify", "HEAD^{commit}").decode().strip() or None

    def tip(self, ref: str) -> str | None:
        """The commit at `ref`, a full name like refs/heads/main; None when there is no such ref."""
        done = self._spawn("show-ref", "--verify", _ref(ref))
        if done.returncode == 0:
            return done.stdout.split()[0].decode()
        if b"not a valid ref" in done.stderr:
            return None
        raise git.failure(self.root, "show-ref", done)

    def refs(self, prefix: str) -> dict[str, str]:
        """Full name -> commit of every ref under `prefix`, like refs/research-loop/."""
        lines = self._git("for-each-ref", "--format=%(refname) %(objectname)", _ref(prefix)).splitlines()
        return dict(os.fsdecode(line).rsplit(" ", 1) for line in lines)

    def commit(self, base: str | None, files: Files, message: str) -> str:
        """Write a commit: `base`'s tree (or an empty one) with `files` put in, byte for byte; return its id.

        Its parent is `base`. No ref moves, so nothing shows until `point`. An executable file stays so.
        """
        parents = [] if base is None else ["-p", base]
        tree = self._tree(base, files)
        text = message.replace("\0", "").encode(errors="replace")  # git refuses NUL
        arguments = ["commit-tree", *parents, "-F", "-", tree]
        return self._git(*arguments, stdin=text, variables=self._identity).decode().strip()

    def point(self, ref: str, new: str, old: str | None = None) -> None:
        """Move `ref` to the commit `new`, durably.

        With `old` only if it is there now, else GitError; "" means that the ref must not exist yet.
        """
        expected = [] if old is None else [old]
        arguments = ["update-ref", "--no-deref", "-m", "research-loop", _ref(ref), new, *expected]
        self._git(*arguments, variables=self._identity)
        self._sync(ref)

    def files(self, commit: str, paths: Iterable[str]) -> dict[str, bytes]:
        """Content of `paths` in `commit`, as stored. GitError when one is missing."""
        paths = list(paths)
        found = self._objects([f"{commit}:{self._inside(path)}" for path in paths])
        contents = {}
        for path, each in zip(paths, found, strict=True):
            if each.kind != "blob":
                raise GitError(f"{path}: no such file in commit {commit[:10]} of {self.root}: check the name")
            contents[path] = each.data
        return contents

    def export(self, commit: str, folder: Path) -> Path:
        """Write the whole tree of `commit` to `folder` (new or empty); return the lab's folder in it.

        Modes, symlinks and the commit's own .gitattributes are obeyed as in any checkout (git-lfs too), so an
        `eol=crlf` there shows; `files` has the exact bytes.
        """
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise GitError(f"{folder}: not empty, so nothing was written: give a new folder")
        # Beside the folder, where whoever clears that after a kill clears this as well.
        with _writing(folder), tempfile.TemporaryDirectory(prefix="index-", dir=folder.parent) as private:
            places = {"GIT_WORK_TREE": os.fspath(folder.resolve()), "GIT_INDEX_FILE": f"{private}/index"}
            # With -u this is read-tree and checkout-index in one, by the commit's attributes, not the user's files'.
            arguments = ["read-tree", "-m", "-u", "--no-recurse-submodules", commit]
            self._git(*arguments, settings=_EXPORT_SETTINGS, variables=places, system=True)
        return folder / self.prefix

    def diff(self, old: str, new: str, paths: Iterable[str] | None = None) -> str:
        """Unified diff of the lab's files (or of `paths`) from commit `old` to `new`; "" when they are the same."""
        chosen = [] if paths is None else ["--", *map(self._inside, paths)]
        if paths is not None and len(chosen) == 1:
            return ""
        # diff-tree, unlike diff, heeds none of the user's settings: no colours, renames or programs of theirs.
        return self._git("diff-tree", "-p", f"--relative={self.prefix}", old, new, *chosen).decode(errors="replace")

    def merged(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        """Both changes of a text in one; None where they meet. A mark after each line keeps neighbours apart."""
        mark = b"\x01\n"
        with tempfile.TemporaryDirectory(prefix="research-loop-") as place:
            for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
                Path(place, name).write_bytes(b"".join(line + mark for line in data.splitlines(keepends=True)))
            done = git.spawn(Path(place), "merge-file", "--stdout", "--quiet", "ours", "base", "theirs")
        return done.stdout.replace(mark, b"") if done.returncode == 0 else None

    def dirty(self) -> list[str]:
        """Tracked files of the lab with changes that the user has not committed. Does not refresh the index."""
        chosen = ["--", self.prefix] if self.prefix else []
        options = ["--porcelain=v1", "-z", "--untracked-files=no", "--no-renames", "--ignore-submodules=all"]
        records = self._git("status", *options, *chosen, system=True).split(b"\0")[:-1]
        return [os.fsdecode(record[3:]).removeprefix(self.prefix) for record in records]

    def exclude(self, patterns: Iterable[str]) -> None:
        """Have git ignore `patterns`, lines as in a .gitignore at `root`; each is added once.

        They go to info/exclude of the common git folder, so no tracked file changes.
        """
        path = self.common_dir / "info" / "exclude"
        with _writing(path):
            path.parent.mkdir(exist_ok=True)
            present = path.read_bytes() if path.exists() else b""
            wanted = dict.fromkeys(os.fsencode(pattern) for pattern in patterns)
            lines = [line for line in wanted if line not in present.splitlines()]
            gap = b"\n" if lines and present and not present.endswith(b"\n") else b""
            with path.open("ab") as file:
                file.write(gap + b"".join(line + b"\n" for line in lines))

    def clear_stale_locks(self, refs: Iterable[str]) -> list[Path]:
        """Remove what a killed git left of moving exactly these `refs`; return the files removed.

        Call it only while the lab's own lock is held: then no live git of ours can own them. git also locks HEAD
        while it moves the branch that HEAD names, and only then is HEAD.lock taken for ours.
        """
        names = {_ref(ref) for ref in refs}
        locks = [self.common_dir / f"{name}.lock" for name in sorted(names)]
        if os.fsdecode(self._answer("symbolic-ref", "--quiet", "HEAD")).strip() in names:
            locks.append(self.git_dir / "HEAD.lock")
        return [lock for lock in locks if _removed(lock)]

    def _inside(self, path: str) -> str:
        """The lab's `path` as git spells it, from the top of the work tree."""
        parts = path.split("/")
        if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or re.search(r"[\n\0]", path):
            raise GitError(f"{path!r}: not a file of the lab: give a path inside its folder, like train.py")
        return self.prefix + path

    @functools.cached_property
    def _identity(self) -> dict[str, str]:
        """Author and committer for git, all four given, because git would ask the network for a missing address."""
        keys = r"^(user|author|committer)\.(name|email)$"
        found = os.fsdecode(self._answer("config", "--null", "--get-regexp", keys, system=True))
        configured = dict(entry.split("\n", 1) for entry in found.split("\0") if "\n" in entry)
        identity: dict[str, str] = {}
        for role in ("author", "committer"):
            variables = [f"GIT_{role}_{part}".upper() for part in ("name", "email")]
            given = [
                os.environ.get(variable) or configured.get(f"{role}.{part}") or configured.get(f"user.{part}")
                for variable, part in zip(variables, ("name", "email"), strict=True)
            ]
            identity.update(zip(variables, (str(g) for g in given) if all(given) else IDENTITY, strict=True))
        return identity

    def _tree(self, base: str | None, files: Files) -> str:
        """Write `base`'s tree with `files` put in; return its id. Only the folders on the way are read and written."""
        blobs = {os.fsencode(self._inside(path)): self._written("blob", content) for path, content in files.items()}
        # Reverse order, so that a folder is written before the folder that holds it; the root, b"", is last.
        folders = sorted({b"", *(folder for path in blobs for folder in _above(path))}, reverse=True)
        trees = self._folders(base, folders)
        for path, blob in blobs.items():
            _put(trees, path, b"100644", blob)
        for folder in folders[:-1]:
            _put(trees, folder, b"40000", self._written("tree", _encoded(trees[folder])))
        return self._written("tree", _encoded(trees[b""]))

    def _written(self, kind: str, data: bytes) -> str:
        """Id of a new object. Not by mktree: it heeds no settings, so a power cut could lose what it wrote."""
        return self._git("hash-object", "-w", "-t", kind, "--no-filters", "--stdin", stdin=data).decode().strip()

    def _folders(self, base: str | None, folders: Sequence[bytes]) -> dict[bytes, _Tree]:
        """The given folders of `base`, empty where it has none; the last one is the root."""
        trees: dict[bytes, _Tree] = {folder: {} for folder in folders}
        if base is None:
            return trees
        found = self._objects([f"{base}:{os.fsdecode(folder)}" for folder in folders])
        for folder, each in reversed(list(zip(folders, found, strict=True))):
            above, _, name = folder.rpartition(b"/")
            if each.kind == "tree":
                trees[folder] = _parsed(each)
            elif not folder or trees[above].get(name, (b"", ""))[0] == b"40000":  # not new, but lost
                raise GitError(f"{self.root}: commit {base} is not whole there: restore the repository from a copy")
        return trees

    def _objects(self, names: Sequence[str]) -> list[_Object]:
        """What `cat-file --batch` has for every name, byte for byte."""
        out = self._git("cat-file", "--batch", stdin=b"".join(os.fsencode(name) + b"\n" for name in names))
        objects, start = [], 0
        for _ in names:
            end = out.index(b"\n", start)
            header = out[start:end].decode(errors="replace").split(" ")
            size = int(header[2]) if header[-1].isdigit() else None  # else "NAME missing", or "ID submodule"
            start = end + 1
            objects.append(_NOTHING if size is None else _Object(header[1], header[0], out[start : start + size]))
            start += 0 if size is None else size + 1
        return objects

    def _sync(self, ref: str) -> None:
        """Sync a ref and its folder: git leaves the folder's entry, and before 2.36 the file too, to chance."""
        path = self.common_dir / ref
        for place in (path, path.parent):
            # Not there: packed in between by the user's git gc, and synced so.
            with _writing(place), contextlib.suppress(FileNotFoundError):
                sync(place)

    def _git(self, *arguments: str, **options: Unpack[git.Options]) -> bytes:
        """Output of a git that must succeed."""
        done = self._spawn(*arguments, **options)
        if done.returncode:
            raise git.failure(self.root, arguments[0], done)
        return done.stdout

    def _answer(self, *arguments: str, **options: Unpack[git.Options]) -> bytes:
        """Output of a git that may find nothing: exit code 1, no output."""
        done = self._spawn(*arguments, **options)
        if done.returncode not in (0, 1):
            raise git.failure(self.root, arguments[0], done)
        return done.stdout

    def _spawn(self, *arguments: str, **options: Unpack[git.Options]) -> subprocess.CompletedProcess[bytes]:
        # Said outright: git need not search, and cannot find another repository than the one `find` checked.
        places = {"GIT_DIR": os.fspath(self.git_dir), "GIT_WORK_TREE": os.fspath(self.root)}
        options["variables"] = places | dict(options.get("variables", {}))
        return git.spawn(self.root, *arguments, **options)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say in one line what the system refuses there."""
    try:
        yield
    except OSError as error:
        raise GitError(f"{path}: {error.strerror}: make it writable for this user, with free space") from error


def _ref(name: str) -> str:
    if not name.startswith("refs/") or ".." in name:
        raise GitError(f"{name!r}: not the full name of a ref: give one like refs/heads/main")
    return name


def _removed(path: Path) -> bool:
    with _writing(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def _above(path: bytes) -> list[bytes]:
    """The folders on the way to `path`, without the root: a/b/c -> a, a/b."""
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]


def _put(trees: dict[bytes, _Tree], path: bytes, mode: bytes, oid: str) -> None:
    """Enter a file or folder into the tree that holds it; an executable file stays so."""
    folder, _, name = path.rpartition(b"/")
    before = trees[folder].get(name, (mode, ""))[0]
    if (before == b"40000") != (mode == b"40000"):
        raise GitError(f"{os.fsdecode(path)}: a file in one commit and a folder in the other: rename one")
    trees[folder][name] = (before if before == b"100755" else mode, oid)


def _parsed(tree: _Object) -> _Tree:
    """The entries of a tree object: mode, space, name, NUL, binary id."""
    width = len(tree.oid) // 2
    entries, start = {}, 0
    while start < len(tree.data):
        end = tree.data.index(b"\0", start) + 1
        mode, name = tree.data[start : end - 1].split(b" ", 1)
        start = end + width
        entries[name] = (mode, tree.data[end:start].hex())
    return entries


def _encoded(tree: _Tree) -> bytes:
    """A tree object's content: entries in order of name, where a folder's name ends in a slash."""
    order = sorted(tree, key=lambda name: name + b"/" * (tree[name][0] == b"40000"))
    return b"".join(tree[name][0] + b" " + name + b"\0" + bytes.fromhex(tree[name][1]) for name in order)
