"""The checkout that an agent works in, and what comes back of it: the bytes of the editable files and nothing else.

An agent has the user's rights, so what it left is read as if an enemy had made it: no link is followed, nothing but a
regular file with one name and of a proposal's size is read, and everything else in the checkout is only named.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import psutil

from research_loop.files import remove_tree
from research_loop.plain import plain
from research_loop.records import Checkout, Files

CHECKOUT = "checkout"
LARGEST_BYTES = 1024 * 1024
"""Of one editable file."""
NAMED, LONGEST_NAME = 5, 80
MOST_LOOKED_AT, DEEPEST = 10_000, 20
"""Names in a checkout, and folders within folders."""
KEPT_SECONDS = 86_400.0
"""After which a workspace is a leftover, whoever made it."""


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
    """A fresh one, which is gone afterwards. Raises OSError where it cannot be laid out."""
    drafts = drafts_folder()
    drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_leftovers(drafts)
    place = Path(tempfile.mkdtemp(prefix=f"{_host()}-{os.getpid()}-", dir=drafts))
    try:
        top = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            made = Workspace(place, top, checkout)
            made.lay_out()
            yield made
        finally:
            os.close(top)
    finally:
        remove_tree(place)


def remove_leftovers(drafts: Path) -> None:
    """Remove workspaces whose harness was killed: by its pid, and after a day those of other machines, too."""
    for left in list(drafts.iterdir()):
        host, _, rest = left.name.rpartition("-")[0].rpartition("-")
        with suppress(OSError):
            gone = host == _host() and rest.isdecimal() and not psutil.pid_exists(int(rest))
            if gone or time.time() - left.lstat().st_mtime > KEPT_SECONDS:
                remove_tree(left)


def _host() -> str:
    return re.sub(r"[^\w.]", "_", platform.node())


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
        """To be asked when nothing of the agent lives any more. Never raises for what it left."""
        others: list[str] = []
        try:
            with self._opened(()):
                others = [*self._changed(), *self._new()]
            files = {path: self._read(path, LARGEST_BYTES) for path in self._checkout.files}
        except Odd as odd:
            return Collected({}, str(odd), _named(others))
        return Collected(files, others=_named(others))

    def _read(self, path: str, most_bytes: int) -> bytes:
        """A regular file's bytes. Raises Odd."""
        *folders, name = PurePosixPath(path).parts
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

    def _new(self) -> Iterator[str]:
        """Files that were not laid out; of very many, some."""
        known = {PurePosixPath(path).parts for path in (*self._checkout.files, *self._checkout.context)}
        waiting: list[tuple[str, ...]] = [()]
        looked_at = 0
        while waiting:
            within = waiting.pop()
            try:
                with self._opened(within) as folder, os.scandir(folder) as entries:
                    for entry in islice(entries, MOST_LOOKED_AT - looked_at):
                        looked_at += 1
                        path = (*within, entry.name)
                        if entry.is_dir(follow_symlinks=False) and len(path) < DEEPEST:
                            waiting.append(path)
                        elif path not in known:
                            yield f"{'/'.join(path)} (new)"
            except (Odd, OSError):
                yield f"{'/'.join(within)} (new, cannot be read)"


@contextmanager
def _open(name: str, within: int, shown: str, flags: int) -> Iterator[int]:
    """A descriptor to read from: of a folder with O_DIRECTORY, else of a regular file. Raises Odd for anything else."""
    shown, right = plain(shown), stat.S_ISDIR if flags & os.O_DIRECTORY else stat.S_ISREG
    try:
        mode = os.stat(name, dir_fd=within, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise Odd(f"{shown} is a link now")
        if not right(mode):
            raise Odd(f"{shown} is no regular {'folder' if flags & os.O_DIRECTORY else 'file'} any more")
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=within)
    except FileNotFoundError:
        raise Gone(f"{shown} is gone") from None
    except OSError as error:
        raise Odd(f"{shown} cannot be read ({error.strerror})") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _named(found: list[str]) -> str:
    """The first few, and how many more."""
    named = ", ".join(plain(name)[-LONGEST_NAME:] for name in found[:NAMED])
    return f"{named} and {len(found) - NAMED} more" if len(found) > NAMED else named
