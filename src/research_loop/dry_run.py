"""A dry run: whether a train.py comes through its first step on shapes alone, before it gets a GPU.

A misplaced transpose costs a GPU half a minute of compiling before it fails; on fake tensors it fails in a few seconds
of CPU. They cannot do everything that tensors can, so a proposal is refused only for what real ones would refuse as
well, and where the code that it was made of comes through.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from research_loop import edits
from research_loop.errors import ProposalError
from research_loop.gpus import first_gpu
from research_loop.jobs import JobMaker
from research_loop.judging import changed_constants
from research_loop.lab import Lab
from research_loop.records import Files
from research_loop.runners.local import LocalRunner
from research_loop.scoring import said

CHILD = Path(__file__).with_name("dry_child.py")
SECONDS = 60
"""For the script; Python and torch start before."""
LIMIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Failure:
    """What the script raised, and in which of its lines, the last one innermost; none where in none."""

    error: str
    lines: tuple[int, ...]
    words: str


class DryRuns:
    """Dry runs of one lab; each code is tried once."""

    def __init__(self, lab: Lab, jobs: JobMaker, halted: Callable[[], bool]) -> None:
        self._lab, self._jobs, self._halted = lab, jobs, halted
        self._known: dict[str, Failure | None] = {}
        self._one = threading.Lock()  # the loop's thread and a draft's may both have something to try

    def check(self, files: Files, parent: Files, commit: str, stopped: Callable[[], bool] = lambda: False) -> None:
        """Raise ProposalError, one line with the place, where `files` fail and `parent` does not.

        Other constants alone are not tried, nor what is no Python script; `commit` has the lab's other files.
        """
        if not self._due() or not changed_code(parent, files):
            return
        with self._one:
            failure = self._failure(files, commit, stopped)
            if failure is None or self._failure(parent, commit, stopped) is not None or stopped() or self._halted():
                return
        place = f"{self._script}:{' > '.join(map(str, failure.lines))}".rstrip(":")
        raise ProposalError(
            f"{place}: fails before its first step is done, tried on shapes alone, where the code that it was made of "
            f"does not: {said(f'{failure.error}: {failure.words}')}; mend it; `--again` runs it all the same"
        )

    @property
    def _script(self) -> str:
        return self._lab.config.command[1]

    def _due(self) -> bool:
        config = self._lab.config
        if config.dry_run == "never" or len(config.command) != 2 or config.command[0] != "python":
            return False
        wanted = config.dry_run == "always" or (config.score == "harness" and first_gpu() is not None)
        return wanted and self._script in config.editable

    def _failure(self, files: Files, commit: str, stopped: Callable[[], bool]) -> Failure | None:
        key = edits.key(files)  # locked files, which it leaves out, stay as they are pinned
        if key not in self._known:
            failure = self._try(files, commit, stopped)
            if stopped() or self._halted():
                return None  # nothing is known
            self._known[key] = failure
        return self._known[key]

    def _try(self, files: Files, commit: str, stopped: Callable[[], bool]) -> Failure | None:
        command = ("python", "-c", CHILD.read_text(), self._script, str(SECONDS))
        runner = LocalRunner()
        try:
            runner.start(self._jobs.dry(files, commit, command, LIMIT_SECONDS))
            while not (ended := runner.wait(1.0)):
                if stopped() or self._halted():
                    runner.stop()
        finally:
            runner.close()
            self._jobs.clear_dry()
        lines = ended[0][1].log_tail.splitlines()
        return read_failure(lines[-1] if lines else "")


def changed_code(before: Files, after: Files) -> bool:
    """Whether more than constants differ."""
    return changed_constants(before, after) is None


def read_failure(line: str) -> Failure | None:
    """From the child's last line; None for a script that came through, or that printed something else there."""
    try:
        found = json.loads(line)
        lines = tuple(line for line in found["lines"] if type(line) is int)
        return Failure(str(found["error"]), lines, str(found["words"])) if found["error"] else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
