"""Kills or starves a harness, and each git that it starts, at single system calls: strace's fault injection.

An undisturbed pass records every call that changes a disk or starts a process, with its number among the calls of its
name in its process; `signal=KILL:when=NUMBER` then ends that process as it enters the call. A stand-in for git in PATH
counts the gits of a loop and has strace follow the one that is meant.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from research_loop.lab import Lab
from research_loop.testing import points as crash
from research_loop.testing.harness import Ended, exec_harness
from research_loop.testing.points import Scene, Tried

SYNCS = ("fsync", "fdatasync")
NAMES = ("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir")
OTHERS = ("chmod", "fchmod", "fchmodat", "symlink", "symlinkat", "ftruncate", "sendfile", "copy_file_range")
WRITES = ("write", "pwrite64", "writev")
SPAWNS = ("fork", "vfork", "clone", "clone3")
NEED_SPACE = {*SYNCS, *WRITES, "openat", "mkdir", "symlink", "symlinkat", "link", "linkat", "ftruncate", "sendfile"}
KNOWN = (*SYNCS, *NAMES, *OTHERS, *WRITES, *SPAWNS, "openat")
_CALL = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)")

GIT = """#!/bin/sh
printf x >> "$STRACED_COUNT"
n=$(wc -c < "$STRACED_COUNT")
if [ -n "$STRACED_TRACES" ]; then
    exec strace -f -y -qq -o "$STRACED_TRACES/$((n))" -e trace={known} {git} "$@"
fi
[ "$((n))" != "$STRACED_GIT" ] && exec {git} "$@"
strace -f -qq -o /dev/null -e trace="$STRACED_CALL" -e inject="$STRACED_CALL:$STRACED_HOW" {git} "$@"
code=$?
[ "$code" -ge 128 ] && [ -n "$STRACED_BOTH" ] && kill -9 $PPID
[ "$code" = 137 ] && kill -9 $$
exit $code
"""

How = Literal["kill", "kill git alone", "full once", "full"]


@dataclass(frozen=True, slots=True)
class Point:
    """One system call: of the harness (`git` 0) or of the so-manieth git; `when` counts from 1 among its name's."""

    git: int
    call: str
    when: int
    shown: str

    def __str__(self) -> str:
        who = f"git {self.git}" if self.git else "harness"
        return f"{who}: {self.call} {self.when} {self.shown}"


def missing() -> str:
    """Why this cannot work here; "" when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    command = ["strace", "-qq", "-o", os.devnull, "-e", "inject=uname:error=EPERM", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()[:200]}"


def points(scene: Scene, folder: Path) -> list[Point]:
    """Every call of an undisturbed loop, of the harness and of each git, in the order within each."""
    folder.mkdir()
    lab = scene.copy(folder / "lab")
    traces = folder / "traces"
    traces.mkdir()
    environment = _with_git(folder / "bin") | {"STRACED_COUNT": str(folder / "count"), "STRACED_TRACES": str(traces)}
    ended = exec_harness(_straced(scene, lab, ["-y", "-o", folder / "harness", "-e", f"trace={_known()}"]), environment)
    if ended.code:
        raise AssertionError(f"an undisturbed loop under strace ended with {ended.code}: {ended.errors[-500:]}")
    found = list(_parsed(0, (folder / "harness").read_text(errors="replace")))
    for trace in sorted(traces.iterdir(), key=lambda path: int(path.name)):
        found += _parsed(int(trace.name), trace.read_text(errors="replace"))
    shutil.rmtree(folder)
    return found


def fits(point: Point, how: How) -> bool:
    """Whether that can happen there: a pipe is never full, and a git can be killed alone only where there is one."""
    if how == "kill git alone":
        return point.git > 0
    if how == "kill":
        return True
    place = re.match(r"\d+<(/[^>]*)>|AT_FDCWD<|\"", point.shown)
    on_disk = place is not None and not (place[1] or "").startswith(("/dev/", "/proc/"))
    # an `openat` or `write` that failed from then on would fail for pipes and reading as well
    return point.call in NEED_SPACE and on_disk and (how == "full once" or point.call not in ("openat", "write"))


def disturbed(scene: Scene, lab: Lab, point: Point, how: How, folder: Path) -> Ended:
    """A loop in `lab` that meets the fault; `folder` is for what this needs beside it."""
    folder.mkdir()
    effect = "signal=KILL" if how.startswith("kill") else "error=ENOSPC"
    when = f"{effect}:when={point.when}{'+' if how == 'full' else ''}"
    if not point.git:
        inject = ["-o", os.devnull, "-e", f"trace={point.call}", "-e", f"inject={point.call}:{when}"]
        return exec_harness(_straced(scene, lab, inject), dict(os.environ))
    environment = _with_git(folder / "bin") | {
        "STRACED_COUNT": str(folder / "count"),
        "STRACED_GIT": str(point.git),
        "STRACED_CALL": point.call,
        "STRACED_HOW": when,
        "STRACED_BOTH": "yes" if how == "kill" else "",
    }
    return exec_harness([sys.executable, "-B", "-m", "research_loop", *scene.command(lab)], environment)


def _straced(scene: Scene, lab: Lab, options: Sequence[object]) -> list[object]:
    """Only the harness's own thread is followed: its gits and runs are not."""
    return ["strace", "-qq", *options, sys.executable, "-B", "-m", "research_loop", *scene.command(lab)]


def _with_git(folder: Path) -> dict[str, str]:
    """An environment in which `git` is the stand-in."""
    folder.mkdir()
    script = folder / "git"
    script.write_text(GIT.format(git=shutil.which("git"), known=_known()))
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def _known() -> str:
    """The calls that this strace and this machine have: `?` lets one be absent."""
    return ",".join(f"?{call}" for call in KNOWN)


def _parsed(git: int, trace: str) -> Iterator[Point]:
    """The calls of the process that begins the trace, without opens that only read."""
    numbers: Counter[str] = Counter()
    first = None
    for line in trace.splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        pid, call, rest = found.groups()
        first = pid if first is None else first
        if pid != first:
            continue
        numbers[call] += 1
        if call != "openat" or "O_CREAT" in rest or "O_TRUNC" in rest:
            yield Point(git, call, numbers[call], rest[:100])


def try_point(scene: Scene, point: Point, how: How, folder: Path) -> Tried:
    """Lets a loop meet the fault, starts it again, and looks at the promises."""
    beside = folder.with_name(f"{folder.name}.strace")
    try:
        return crash.try_point(
            scene, f"{how} at {point}", folder, lambda lab: disturbed(scene, lab, point, how, beside)
        )
    finally:
        shutil.rmtree(beside, ignore_errors=True)
