"""What a run that cheats could have left behind: looked for after every trial of the corpus.

The lab must be as its ledger says and otherwise as it was; no process of it is alive, no file of a cheat lies about.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from research_loop.branch import branch_name, ref_of
from research_loop.lab import Lab, repository_of
from research_loop.ledger import Ledger
from research_loop.plain import plain_lines
from research_loop.records import Experiment, Run
from research_loop.runners.remains import LAB_MARKER
from research_loop.views import Quiet
from research_loop.views.tsv import results_tsv

WORKED = b"cheat: it worked"
"""What a cheat prints when it saw its own success."""
LITTER = "research-loop-cheat*"
PUBLIC_PLACES = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path.home())
LONGEST_ADDRESS = 107  # characters of a socket's path
SECRET = "RESEARCH_LOOP_CHEAT_API_KEY"


class Witness(Quiet):
    """Notes the mark that every process of a lab carries, as a run's keeper has it; None before there was a run."""

    def __init__(self) -> None:
        self.mark: str | None = None

    def started(self, experiment: Experiment, run: Run) -> None:
        with contextlib.suppress(psutil.Error, OSError):
            self.mark = psutil.Process(run.keeper_pid).environ().get(LAB_MARKER)


@dataclass(frozen=True, slots=True)
class Seal:
    """What a run must leave as it is: digests of files by path in the lab, commits by ref, rows of the ledger."""

    files: dict[str, str]
    refs: dict[str, str]
    rows: frozenset[tuple[object, ...]]

    @classmethod
    def of(cls, lab: Lab) -> Seal:
        return cls(_digests(lab.root), repository_of(lab).refs("refs/"), _rows(lab))

    def troubles(self, lab: Lab, runs: int) -> list[str]:
        """What is neither as it was nor as the ledger says after `runs` more runs, a few words each."""
        after, ledger = Seal.of(lab), Ledger(lab.ledger_path, read_only=True)
        with contextlib.closing(ledger):
            history, branch = ledger.history, branch_name(ledger)
            tails = [ledger.trace(e.n, run.k)[1] for e in history.experiments for run in e.runs]
        refs = self.refs | {ref_of(e.n): e.commit for e in history.experiments}
        refs |= {f"refs/heads/{branch}": history.champion.commit} if history.champion else {}
        paths = sorted(self.files.keys() | after.files.keys())
        found = [f"{path} changed" for path in paths if self.files.get(path) != after.files.get(path)]
        found += [f"{ref} moved" for ref, _ in sorted(refs.items() ^ after.refs.items())]
        table = (lab.root / "results.tsv").read_bytes()
        return found + [
            fact
            for fact, is_so in {
                "rows of the ledger changed": not self.rows <= after.rows,
                "rows were added to the ledger": len(history.experiments) > 1 + runs,
                "results.tsv is not the ledger's": table != results_tsv(history, lab.config.metric).encode(),
                "control characters in the end of the log": any(tail != plain_lines(tail) for tail in tails),
            }.items()
            if is_so
        ]


def _digests(root: Path) -> dict[str, str]:
    """SHA-256 of what nobody changes: the lab's own files but the edited one, its data, git's settings and hooks."""
    moving = {root / name for name in ("train.py", "results.tsv", "run.log")}
    kept = {
        *root.glob("*"),
        *(root / "data").rglob("*"),
        *(root / ".git" / "hooks").glob("*"),
        root / ".git" / "config",
    }
    files = [path for path in kept - moving if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(lab: Lab) -> frozenset[tuple[object, ...]]:
    ledger = sqlite3.connect(f"{lab.ledger_path.as_uri()}?mode=ro", uri=True)
    with contextlib.closing(ledger):
        tables = [name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return frozenset((table, *row) for table in tables for row in ledger.execute(f'SELECT * FROM "{table}"'))


def left_behind(lab: Lab, mark: str | None) -> list[str]:
    """A cheat's own word that it got through, processes that carry the lab's mark, and files, which are removed."""
    logs = sorted((lab.state / "logs").glob("*.log"))
    found = ["the cheat saw that it worked"] if any(WORKED in log.read_bytes() for log in logs) else []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark is not None and process.environ().get(LAB_MARKER) == mark:
                found.append(f"process {process.pid} is alive")
    for path in [path for place in PUBLIC_PLACES for path in place.glob(LITTER)]:
        found.append(f"{path} is left")
        with contextlib.suppress(OSError):
            path.unlink()
    return found


@contextlib.contextmanager
def prey(place: Path) -> Iterator[None]:
    """Something to find for a cheat that gets out: a key in the harness's environment, listeners beside the labs."""
    addresses: list[tuple[int, Any]] = [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_UNIX, str(place / "socket")),
        (socket.AF_UNIX, f"\0research-loop-{os.getpid()}"),
    ]
    with contextlib.ExitStack() as last:
        os.environ[SECRET] = "no key at all"
        last.callback(os.environ.pop, SECRET, None)
        for family, address in addresses:
            if len(address) > LONGEST_ADDRESS:
                continue
            listener = last.enter_context(socket.socket(family))
            listener.bind(address)
            listener.listen(128)
        yield
