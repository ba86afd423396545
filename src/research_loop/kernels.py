"""Compiled kernels that runs hand on: the champion's to every run, an experiment's own to its next ones.

A changed shape costs a cold compilation: 77 s to the first step of upstream's recipe on an H100, warm it is 25. So what
an experiment's first run compiles serves its second; when it is kept, the next experiments start with it; when it is
not, it goes with it. Only code that no model wrote hands anything on: elsewhere a run could leave itself a word.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from research_loop.files import remove_tree, size_mb
from research_loop.records import Experiment

MOST_MB = 1024.0
"""Every run gets a copy: 85 MB for one shape of upstream's recipe on an H100."""


class Kernels:
    """The champion's in `state`, those of open experiments among the `runs`, which are cleared with them."""

    def __init__(self, state: Path, runs: Path) -> None:
        self._champions, self._runs = state / "caches", runs

    def offered(self) -> Path | None:
        """What a run may start with a copy of; None where nothing is kept, or too much to be copied for ever."""
        return self._champions if self._champions.is_dir() and size_mb(self._champions) <= MOST_MB else None

    def own(self, experiment: Experiment) -> Path | None:
        """What this experiment's runs write to: at first the champion's. None where the disk has no room for it."""
        own = self._own(experiment)
        if own.is_dir():
            return own
        start, part = self.offered() if experiment.parent is not None else None, own.with_suffix(".part")
        try:
            shutil.copytree(start, part, symlinks=True) if start else part.mkdir(parents=True)
            part.rename(own)
        except OSError:
            remove_tree(part)
        return own if own.is_dir() else None

    def decided(self, experiment: Experiment) -> None:
        """Those of a kept experiment become the champion's, the others' are removed.

        Where nothing is offered, for it was lost or has become too large, the next that comes is better than nothing.
        """
        own = self._own(experiment)
        if own.is_dir() and (experiment.kept or self.offered() is None):
            before = self._runs / "replaced.caches"  # a run that starts beside this may be copying it
            remove_tree(before)
            with suppress(OSError):  # where one of them cannot be moved, the next runs compile anew
                if self._champions.is_dir():
                    self._champions.rename(before)
                own.rename(self._champions)
        remove_tree(own)

    def _own(self, experiment: Experiment) -> Path:
        return self._runs / f"{experiment.n}.caches"
