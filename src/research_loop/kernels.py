"""Compiled kernels that runs hand on: the champion's to every run, an experiment's own to its next ones.

A changed shape costs a cold compilation: 77 s to the first step of upstream's recipe on an H100, warm it is 25. So what
an experiment's first run compiles serves its second; when it is kept, the next experiments start with it; when it is
not, later ones that no model wrote do, for a search comes back to a shape with other rates. Only such code hands
anything on: elsewhere a run could leave itself a word.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from research_loop.files import remove_tree, size_mb
from research_loop.records import Experiment

MOST_MB = 1024.0
"""Every run gets a copy: 85 MB for one shape of upstream's recipe on an H100."""

MOST_TRIED_MB = 512.0
"""Of shapes that were not kept; all of them go when it is full, as nobody knows which of them comes again."""


class Kernels:
    """The champion's and what else was tried in `state`, those of open experiments among the `runs`, which are cleared
    with them."""

    def __init__(self, state: Path, runs: Path) -> None:
        self._champions, self._tried, self._runs = state / "caches", state / "caches.tried", runs

    def offered(self) -> Path | None:
        """What a run may start with a copy of; None where nothing is kept, or too much to be copied for ever."""
        return self._champions if self._champions.is_dir() and size_mb(self._champions) <= MOST_MB else None

    def own(self, experiment: Experiment) -> Path | None:
        """What this experiment's runs write to: at first the champion's, and what was tried. None where the disk has no
        room for it."""
        own = self._own(experiment)
        if own.is_dir():
            return own
        known = [self.offered(), self._tried] if experiment.parent is not None else []
        part = own.with_suffix(".part")
        try:
            part.mkdir(parents=True)
            for start in (folder for folder in known if folder and folder.is_dir()):
                shutil.copytree(start, part, symlinks=True, copy_function=_linked, dirs_exist_ok=True)
            part.rename(own)
        except OSError:
            remove_tree(part)
        return own if own.is_dir() else None

    def decided(self, experiment: Experiment) -> None:
        """Those of a kept experiment become the champion's, what others have beside it is handed on as tried.

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
            remove_tree(self._tried)  # a kept one had them all
        elif own.is_dir():
            self._hand_on(own)
        remove_tree(own)

    def _hand_on(self, own: Path) -> None:
        """Each file is there whole or not at all: its name tells what is in it, so that none is wrong."""
        files = (Path(place) / name for place, _, names in os.walk(own) for name in names)
        known = self._champions, self._tried
        new = [path for path in files if not any((folder / path.relative_to(own)).exists() for folder in known)]
        sizes = sum(path.lstat().st_size for path in new) / 2**20
        if self._tried.is_dir() and size_mb(self._tried) + sizes > MOST_TRIED_MB:
            remove_tree(self._tried)
        with suppress(OSError):  # a full disk: later runs compile anew
            for path in new if sizes <= MOST_TRIED_MB else []:
                there = self._tried / path.relative_to(own)
                there.parent.mkdir(parents=True, exist_ok=True)
                path.rename(there)

    def _own(self, experiment: Experiment) -> Path:
        return self._runs / f"{experiment.n}.caches"


def _linked(source: str, target: str) -> None:
    """Compilers write a file beside its place and move it there, so that a link to it is as good as a copy."""
    if not os.path.lexists(target):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # a file system without links
            shutil.copy2(source, target, follow_symlinks=False)
