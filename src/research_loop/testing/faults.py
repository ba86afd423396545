"""Kills or starves a harness at the n-th call with which it reaches the disk or another process.

No part of the product knows of it: `install` wraps Python's own functions (open, write, close, fsync, rename,
unlink, mkdir ..., SQLite's execute, subprocess) in a process that is about to become a harness. Every wrapped call is
counted and named, so a first, undisturbed pass lists the points and further passes fail at each of them.
The technique is SQLite's own for I/O errors (sqlite.org/testing.html, section 3.2).

What happens inside one call, or in git, is for syscalls.py.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import functools
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Action", "Calls", "Fault", "install", "write_like"]

Action = Literal["kill", "kill after", "kill child", "full", "full once"]
"""SIGKILL before or after the call; SIGKILL for the process that the call started; a disk that is full from this call
on; a disk that is full for this call alone."""

CHANGES = ("rename", "replace", "unlink", "remove", "mkdir", "rmdir", "symlink", "chmod")
FREEING = ("unlink", "remove", "rmdir", "lock", "spawn", "BEGIN", "ROLLBACK", "close")
"""Calls that a full disk does not refuse. BEGIN takes a lock and writes no page; what a process that was spawned
meets on the full disk is its own affair."""
assert shutil and tempfile  # loaded before the wraps: they look at these functions when they load


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, at the call of that number, counted from 1."""

    at: int
    action: Action


def write_like(name: str) -> bool:
    """Whether a call of that name needs room on the disk."""
    return name.split()[0] not in FREEING


def install(fault: Fault | None = None, trace: Path | None = None) -> Calls:
    """Wraps this process for good. The names of the calls go to `trace`, a line each, as they begin."""
    calls = Calls(fault, trace)
    calls.wrap()
    return calls


class Calls:
    """Counts calls and does to one of them what the fault says."""

    def __init__(self, fault: Fault | None, trace: Path | None) -> None:
        self._fault, self._count = fault, 0
        self._trace = -1 if trace is None else os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._write = os.write

    def arm(self, fault: Fault) -> None:
        """From now on, counted from here."""
        self._fault, self._count = fault, 0

    def wrap(self) -> None:
        """Puts the counting versions in the place of Python's functions."""
        for name in CHANGES:
            self._wrap(os, name, name)
        for name in ("fsync", "ftruncate", "sendfile"):
            self._wrap(os, name, name, path=False)
        self._wrap(fcntl, "flock", "lock", path=False)
        os.open = self._opening(os.open)
        opened = self._files(builtins.open)
        builtins.open = io.open = opened
        subprocess.Popen.__init__ = self._spawning(subprocess.Popen.__init__)  # type: ignore[method-assign]
        setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=self._connection()))  # noqa: B010

    @contextmanager
    def call(self, name: str, refused: Exception | None = None) -> Iterator[bool]:
        """Around one call; tells whether the process that it starts is to be killed."""
        self._count += 1
        if self._trace >= 0:
            self._write(self._trace, f"{name}\n".encode(errors="replace"))
        fault = self._fault
        due = fault is not None and self._count == fault.at
        if fault is None:
            yield False
            return
        if due and fault.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        full = due if fault.action == "full once" else fault.action == "full" and self._count >= fault.at
        if full and write_like(name):
            raise refused or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        try:
            yield due and fault.action == "kill child"
        finally:  # a call that failed is over, too
            if due and fault.action == "kill after":
                os.kill(os.getpid(), signal.SIGKILL)

    def _wrap(self, owner: Any, attribute: str, name: str, *, path: bool = True) -> None:
        original = getattr(owner, attribute)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            shown = f"{name} {_last(arguments[0])}" if path and arguments else name
            with self.call(shown, _no_space(arguments)):
                return original(*arguments, **options)

        if original in os.supports_dir_fd:
            os.supports_dir_fd.add(wrapped)
        setattr(owner, attribute, wrapped)

    def _opening(self, original: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(original)
        def opening(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if not flags & (os.O_CREAT | os.O_TRUNC) or _is_special(path):
                return original(path, flags, *arguments, **options)
            with self.call(f"create {_last(path)}", _no_space((path,))):
                return original(path, flags, *arguments, **options)

        os.supports_dir_fd.add(opening)
        return opening

    def _files(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+") or _is_special(file):
                return original(file, mode, *arguments, **options)
            with self.call(f"create {_last(file)}", _no_space((file,))):
                real = original(file, mode, *arguments, **options)
            return _File(real, self, file)

        return opened

    def _spawning(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def spawning(popen: subprocess.Popen[Any], command: Any, *arguments: Any, **options: Any) -> None:
            with self.call(f"spawn {_program(command)}") as fatal:
                original(popen, command, *arguments, **options)
                if fatal:
                    os.kill(popen.pid, signal.SIGKILL)

        return spawning

    def _connection(self) -> type[sqlite3.Connection]:
        calls = self
        full = "database or disk is full"

        class Watched(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                if sql.startswith("SELECT") or sql == "PRAGMA user_version":
                    return super().execute(sql, *arguments)
                with calls.call(" ".join(sql.split()[:3]), sqlite3.OperationalError(full)):
                    return super().execute(sql, *arguments)

            def close(self) -> None:
                with calls.call("close ledger"):
                    super().close()

        return Watched


class _File:
    """A file open for writing; its writes, and its close, which writes what is buffered, are calls."""

    def __init__(self, real: Any, calls: Calls, path: Any) -> None:
        self._real, self._calls, self._path = real, calls, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, data: Any) -> int:
        with self._calls.call(f"write {_last(self._path)}", _no_space((self._path,))):
            return int(self._real.write(data))

    def close(self) -> None:
        if self._real.closed:
            return
        with self._calls.call(f"close {_last(self._path)}"):
            self._real.close()


def _no_space(arguments: tuple[Any, ...]) -> OSError:
    path = arguments[0] if arguments and isinstance(arguments[0], (str, bytes, os.PathLike)) else None
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), None if path is None else os.fspath(path))


def _is_special(path: Any) -> bool:
    return str(os.fspath(path)).startswith(("/dev/", "/proc/")) if not isinstance(path, int) else True


def _last(path: Any) -> str:
    return Path(os.fsdecode(path)).name if isinstance(path, (str, bytes, os.PathLike)) else str(path)


def _program(command: Any) -> str:
    """`git` with its verb, or the program's name."""
    words = [os.fsdecode(word) for word in ([command] if isinstance(command, (str, bytes)) else command)]
    if Path(words[0]).name != "git":
        return Path(next((word for word in words if word.endswith(".py")), words[0])).name
    place = words.index("-C") + 2 if "-C" in words else 1
    return f"git {words[place]}"
