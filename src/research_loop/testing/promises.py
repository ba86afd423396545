"""What must hold of a lab after any crash and the next start: the promises, checked from outside.

git and SQLite are asked directly, not through the code under test.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from research_loop.branch import HEADS, ref_of
from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.records import History
from research_loop.runners.remains import LAB_MARKER
from research_loop.testing.labs import git
from research_loop.views.tsv import results_tsv

_HALF = re.compile(r"\.\S+\.\d+\.tmp")
_STARTED = re.compile(r"experiment (\d+): ")
_DECIDED = re.compile(r"  (keep|discard|crash): ")


@dataclass(frozen=True, slots=True)
class Users:
    """What in the repository is the user's: no crash of ours may change it."""

    head: str
    index: bytes
    staged: str
    status: tuple[str, ...]
    files: Mapping[str, bytes]


def users(lab: Lab) -> Users:
    """The user's side of the lab's repository, as it is now; the lab's editable files are not part of it."""
    ours = set(lab.config.editable)
    status = git(lab.root, "--no-optional-locks", "status", "--porcelain=v1").splitlines()
    files = {
        str(path.relative_to(lab.root)): path.read_bytes()
        for path in sorted(lab.root.iterdir())
        if path.is_file() and path.name not in {*ours, "results.tsv", "run.log"}
    }
    return Users(
        git(lab.root, "symbolic-ref", "HEAD") + git(lab.root, "rev-parse", "HEAD"),
        (lab.root / ".git" / "index").read_bytes(),
        git(lab.root, "diff", "--cached"),
        tuple(line for line in status if line[3:] not in ours),
        files,
    )


def without_halves(found: Users) -> Users:
    """Without what a killed writer of ours left half-written: the next start removes it."""
    status = tuple(line for line in found.status if not _HALF.fullmatch(line[3:]))
    return replace(found, status=status, files={k: v for k, v in found.files.items() if not _HALF.fullmatch(k)})


def acknowledged(output: str) -> dict[int, str]:
    """Experiments that a loop of one slot told its user of: their verdicts, "" for one that was only started."""
    told: dict[int, str] = {}
    newest = None
    for line in output.splitlines():
        if started := _STARTED.match(line):
            newest = int(started[1])
            told[newest] = ""
        elif (decided := _DECIDED.match(line)) and newest is not None:
            told[newest] = decided[1]
    return told


def broken(lab: Lab, told: Mapping[int, str], before: Users, *, edited: bool = False) -> list[str]:
    """Every promise that does not hold, a sentence each; to be asked while nothing runs in the lab.

    `told` is what loops acknowledged so far, `before` the user's side as it was; `edited` says that the lab's
    editable files are the user's too, just now.
    """
    history = history_of(lab)
    return [
        *_ledger_is_sound(lab),
        *_nothing_told_is_lost(history, told),
        *_git_agrees(lab, history),
        *_files_agree(lab, history, edited),
        *_users_side(users(lab), before),
        *(f"{process}: outlived its run" for process in processes_of(lab)),
    ]


def lost(lab: Lab, told: Mapping[int, str]) -> list[str]:
    """What was told and does not lie on the disk: to be asked after a kill and before the next start, which might
    come to the same verdict once more. The ledger's files are copied first, so nothing is mended by the look."""
    with tempfile.TemporaryDirectory() as place:
        for path in lab.state.glob("ledger.sqlite*"):
            shutil.copy(path, place)
        if not (ledger := Path(place, "ledger.sqlite")).exists():
            return [f"experiment {n}: was told and there is no ledger" for n in told]
        with closing(sqlite3.connect(ledger)) as db:
            known = _rows(db)
    return [*_missing(known, told)]


def _rows(db: sqlite3.Connection) -> dict[int, str]:
    """Verdicts by experiment, "" while there is none; a ledger that was killed before its first table has none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'verdicts'").fetchone():
        return {}
    rows = db.execute("SELECT e.n, coalesce(v.kind, '') FROM experiments e LEFT JOIN verdicts v ON v.n = e.n")
    return {int(n): str(kind) for n, kind in rows}


def history_of(lab: Lab) -> History:
    """The ledger's experiments, read as any other process would."""
    with closing(Ledger(lab.ledger_path, read_only=True)) as ledger:
        return ledger.history


def processes_of(lab: Lab, patience_seconds: float = 2.0) -> list[str]:
    """Processes that a run of the lab left, after a moment in which a dead run's keeper may still clean up."""
    deadline = time.monotonic() + patience_seconds
    while (found := list(_marked(lab))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _marked(lab: Lab) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            inside = LAB_MARKER in process.environ() and str(lab.root) in f"{process.cwd()} {process.cmdline()}"
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid} {' '.join(process.cmdline())[:80]}"
        except (psutil.Error, OSError):
            continue


def _ledger_is_sound(lab: Lab) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{lab.ledger_path}?mode=ro", uri=True)) as db:
        for fact in [row[0] for row in db.execute("PRAGMA integrity_check")]:
            if fact != "ok":
                yield f"ledger: {fact}"
        for row in db.execute("PRAGMA foreign_key_check"):
            yield f"ledger: row {row[1]} of {row[0]} points nowhere"


def _nothing_told_is_lost(history: History, told: Mapping[int, str]) -> Iterator[str]:
    known = {e.n: e.verdict.kind if e.verdict else "" for e in history.experiments}
    if list(known) != list(range(len(known))):
        yield f"ledger: numbers are not 0, 1, 2 ...: {list(known)}"
    yield from _missing(known, told)


def _missing(known: Mapping[int, str], told: Mapping[int, str]) -> Iterator[str]:
    for n, kind in told.items():
        if n not in known:
            yield f"experiment {n}: was told and is not in the ledger"
        elif kind and known[n] != kind:
            yield f"experiment {n}: was told as {kind} and is {known[n] or 'open'} in the ledger"


def _git_agrees(lab: Lab, history: History) -> Iterator[str]:
    lines = git(lab.root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    refs = dict(line.split(" ") for line in lines)
    for experiment in history.experiments:
        if refs.get(ref_of(experiment.n)) != experiment.commit:
            yield f"{ref_of(experiment.n)}: is {refs.get(ref_of(experiment.n))}, not {experiment.commit}"
    tips = [commit for ref, commit in refs.items() if ref.startswith(HEADS)]
    champion = history.champion
    if champion and tips != [champion.commit]:
        yield f"branch: {tips} is not the champion's commit {champion.commit}"
    for lock in (lab.root / ".git").rglob("*.lock"):
        yield f"{lock}: a lock is left"
    for line in git(lab.root, "fsck", "--connectivity-only", "--no-dangling", "--no-progress").splitlines():
        yield f"git fsck: {line}"


def _files_agree(lab: Lab, history: History, edited: bool) -> Iterator[str]:
    if (lab.root / "results.tsv").read_text() != results_tsv(history, lab.config.metric):
        yield "results.tsv: is not what the ledger says"
    champion = history.champion
    for path in lab.config.editable if champion and not edited else ():
        if (lab.root / path).read_text() != git(lab.root, "show", f"{champion and champion.commit}:{path}"):
            yield f"{path}: is not the champion's"
    left = [path.name for path in (lab.state / "runs").glob("*")]
    if left:
        yield f"folders of runs are left: {', '.join(left)}"


def _users_side(now: Users, before: Users) -> Iterator[str]:
    for name in ("head", "index", "staged", "status"):
        if getattr(now, name) != getattr(before, name):
            yield f"the user's {name} changed: {getattr(before, name)!r} to {getattr(now, name)!r}"
    for path in before.files.keys() | now.files.keys():
        if before.files.get(path) != now.files.get(path):
            yield f"{path}: a file of the user's folder came, went or changed"
