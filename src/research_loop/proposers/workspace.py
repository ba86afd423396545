"""The checkout that an agent works in, and what comes back of it: the bytes of the editable files and nothing else.

An agent has the user's rights, so what it left is read as if an enemy had made it: no link is followed, nothing but a
regular file with one name and of a proposal's size is read, and everything else in the checkout is only named. Whoever
uses a workspace holds a lock in it: a leftover is one that nobody holds, in whatever pid name space its makers were.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from research_loop.edits import LARGEST_BYTES
from research_loop.errors import RunError
from research_loop.files import remove_tree
from research_loop.plain import plain
from research_loop.records import Checkout, Files

CHECKOUT, LOCK = "checkout", "lock"
NAMED, LONGEST_NAME = 5, 80
MOST_LOOKED_AT, DEEPEST = 10_000, 20
"""Names in a checkout, and folders within folders."""
MADE, IN_THE_MAKING = "draft-", "new-"
_OURS = re.compile(rf"({MADE}|{IN_THE_MAKING})[0-9a-f]{{32}}")
KEPT_SECONDS = 86_400.0
"""After which a workspace without a lock is a leftover: its harness was killed while it made it."""


class Odd(Exception):
    """Why a file is not read, in one line."""


class Gone(Odd):
    """It is not there."""


@dataclass(frozen=True, slots=True)
class Collected:
    """All editable files, or `trouble`: why there are none; `others` names what else was touched."""

    files: Files
    trouble: str = ""
    others: str = ""


def drafts_folder() -> Path:
    """Where workspaces are: the user's cache folder, since some agents refuse to work below /tmp. Raises OSError."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        place = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder") from error
    return place / "research-loop" / "drafts"


@contextmanager
def workspace(checkout: Checkout) -> Iterator[Workspace]:
    """A fresh one, which is gone afterwards. Raises OSError where it cannot be laid out, RunError where it may not."""
    drafts = drafts_folder()
    drafts.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        drafts.mkdir(mode=0o700)
    _need_our_own(drafts)
    remove_leftovers(drafts)
    with _locked_folder(drafts) as place:
        top = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            made = Workspace(place, top, checkout)
            made.lay_out()
            yield made
        finally:
            os.close(top)


def _need_our_own(drafts: Path) -> None:
    """Raises RunError, OSError."""
    facts = drafts.lstat()
    if stat.S_ISLNK(facts.st_mode):
        raise RunError(f"{drafts}: is a link, and folders in it are removed: remove the link")
    if stat.S_ISDIR(facts.st_mode) and facts.st_uid != os.geteuid():
        raise RunError(f"{drafts}: is another user's: set XDG_CACHE_HOME to a folder of your own")


@contextmanager
def _locked_folder(drafts: Path) -> Iterator[Path]:
    """A folder that has its name as soon as it is locked, and is gone afterwards. Raises OSError."""
    name = uuid.uuid4().hex
    fresh, place = drafts / f"{IN_THE_MAKING}{name}", drafts / f"{MADE}{name}"
    fresh.mkdir(mode=0o700)
    lock = -1
    try:
        lock = os.open(fresh / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(place)
        yield place
    finally:
        remove_tree(fresh)
        remove_tree(place)
        if lock >= 0:
            os.close(lock)


def remove_leftovers(drafts: Path) -> None:
    """Remove the workspaces of killed harnesses, and nothing that has another name than ours."""
    for left in [place for place in drafts.iterdir() if _OURS.fullmatch(place.name)]:
        with suppress(OSError), _unused(left) as unused:
            if unused:
                remove_tree(left)


@contextmanager
def _unused(left: Path) -> Iterator[bool]:
    """Whether nobody uses a workspace, which nobody begins to meanwhile. Raises OSError."""
    try:
        lock = os.open(left / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # there is none, or an agent put something else there
        lock = -1
    try:
        if lock < 0 or left.name.startswith(IN_THE_MAKING):
            yield time.time() - left.lstat().st_mtime > KEPT_SECONDS
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
    finally:
        if lock >= 0:
            os.close(lock)


class Workspace:
    """A folder with the checkout in it; `folder` is the checkout, `beside` is for what does not belong into it."""

    def __init__(self, place: Path, top: int, checkout: Checkout) -> None:
        self.beside, self.folder = place, place / CHECKOUT
        self._top, self._checkout = top, checkout

    def lay_out(self) -> None:
        self.folder.mkdir()
        for files, mode in ((self._checkout.files, 0o644), (self._checkout.context, 0o444)):
            for path, content in files.items():
                file = self.folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                file.chmod(mode)

    def collect(self) -> Collected:
        """To be asked when nothing of the agent lives any more. Never raises: not for what it left, nor for a disk."""
        others: list[str] = []
        seen_all = True
        try:
            with self._opened(()):
                others += self._changed()
                seen_all = self._add_new(others)
            files = {path: self._read(path, LARGEST_BYTES) for path in self._checkout.files}
        except (Odd, OSError) as error:
            why = str(error) if isinstance(error, Odd) else f"what it left cannot be read ({error.strerror or error})"
            return Collected({}, why, _named(others, seen_all))
        return Collected(files, others=_named(others, seen_all))

    def _read(self, path: str, most_bytes: int) -> bytes:
        """A regular file's bytes. Raises Odd."""
        if not (parts := PurePosixPath(path).parts):
            raise Odd(f"{plain(path)!r} is no file")
        *folders, name = parts
        with self._opened(folders) as folder, _open(name, folder, path, os.O_NONBLOCK | os.O_NOCTTY) as file:
            facts = os.fstat(file)
            if facts.st_nlink != 1:
                raise Odd(f"{plain(path)} has a second name (a hard link)")
            if facts.st_size > most_bytes:
                raise Odd(f"{plain(path)} has more than {most_bytes} bytes")
            with open(file, "rb", closefd=False) as content:
                return content.read(most_bytes)

    @contextmanager
    def _opened(self, folders: Sequence[str]) -> Iterator[int]:
        """A descriptor of a folder in the checkout. Raises Odd, for a link on the way to it too."""
        with ExitStack() as opened:
            within = opened.enter_context(_open(CHECKOUT, self._top, "the checkout", os.O_DIRECTORY))
            for i, name in enumerate(folders):
                shown = "/".join(folders[: i + 1])
                within = opened.enter_context(_open(name, within, shown, os.O_DIRECTORY))
            yield within

    def _changed(self) -> Iterator[str]:
        """Locked files that are not as they were."""
        for path, content in self._checkout.context.items():
            try:
                if self._read(path, len(content)) != content:
                    yield f"{path} (changed)"
            except Gone:
                yield f"{path} (removed)"
            except Odd:
                yield f"{path} (changed)"

    def _add_new(self, found: list[str]) -> bool:
        """Add files and empty folders that were not laid out; of very many, some. Whether these are all."""
        files = {PurePosixPath(path).parts for path in (*self._checkout.files, *self._checkout.context)}
        folders = {path[:depth] for path in files for depth in range(len(path))} | {()}
        waiting: list[tuple[str, ...]] = [()]
        looked_at = 0
        while waiting and looked_at < MOST_LOOKED_AT:
            within = waiting.pop()
            shown, before = "/".join(within), looked_at
            try:
                with self._opened(within) as folder, os.scandir(folder) as entries:
                    for entry in islice(entries, MOST_LOOKED_AT - looked_at):
                        looked_at += 1
                        path = (*within, entry.name)
                        if entry.is_dir(follow_symlinks=False) and len(path) < DEEPEST:
                            waiting.append(path)
                        elif path not in files:
                            found.append(f"{'/'.join(path)} (new)")
                if looked_at == before and within not in folders:
                    found.append(f"{shown}/ (new)")
            except (Odd, OSError):
                found.append(f"{shown} (new, cannot be read)")
        return looked_at < MOST_LOOKED_AT


@contextmanager
def _open(name: str, within: int, shown: str, flags: int) -> Iterator[int]:
    """A descriptor to read from: of a folder with O_DIRECTORY, else of a regular file. Raises Odd for anything else."""
    shown = plain(shown)
    try:
        _need_kind(os.stat(name, dir_fd=within, follow_symlinks=False), shown, flags)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=within)
    except FileNotFoundError:
        raise Gone(f"{shown} is gone") from None
    except OSError as error:
        raise Odd(f"{shown} cannot be read ({error.strerror})") from None
    try:
        _need_kind(os.fstat(descriptor), shown, flags)  # it may have been another a moment ago
        yield descriptor
    finally:
        os.close(descriptor)


def _need_kind(facts: os.stat_result, shown: str, flags: int) -> None:
    """Raises Odd."""
    folder = bool(flags & os.O_DIRECTORY)
    if stat.S_ISLNK(facts.st_mode):
        raise Odd(f"{shown} is a link now")
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(facts.st_mode):
        raise Odd(f"{shown} is no regular {'folder' if folder else 'file'} any more")


def _named(found: list[str], all_of_them: bool) -> str:
    """The first few, and how many more."""
    named = ", ".join(plain(name)[-LONGEST_NAME:] for name in found[:NAMED])
    count = f"{len(found) - NAMED}" if all_of_them else f"at least {len(found) - NAMED}"
    return f"{named} and {count} more" if len(found) > NAMED else named
