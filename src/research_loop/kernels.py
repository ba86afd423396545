"""Compiled kernels that runs hand on: the champion's to every run, an experiment's own to its next ones.

A changed shape costs a cold compilation: 77 s to the first step of upstream's recipe on an H100, warm it is 25. So what
an experiment's first run compiles serves its second; when it is kept, the next experiments start with it, and with what
it was given; when it is not, later ones that no model wrote do, for a search comes back to a shape with other rates.
Only such code hands anything on: elsewhere a run could leave itself a word.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from research_loop.files import remove_tree, size_mb
from research_loop.records import Experiment

MOST_MB = 1024.0
"""Every run of a model's code gets a copy: 85 MB for one shape of upstream's recipe on an H100."""
MOST_TRIED_MB = 256.0
"""Of shapes that were not kept; all of them go when it is full, as nobody knows which of them comes again."""


class Kernels:
    """The champion's, whose they are, and what else was tried in `state`, those of open experiments among the `runs`,
    which are cleared with them."""

    def __init__(self, state: Path, runs: Path) -> None:
        self._champions, self._whose, self._tried = state / "caches", state / "caches.of", state / "caches.tried"
        self._runs = runs

    def offered(self) -> Path | None:
        """What a run may start with a copy of; None where nothing is kept, or too much to be copied for ever."""
        return self._champions if self._champions.is_dir() and size_mb(self._champions) <= MOST_MB else None

    def gives(self, experiment: Experiment) -> bool:
        """Whether its runs hand on what they compile: until its verdict, and a champion's where another's are kept."""
        whose = self._whose.read_text() if self._whose.exists() and self.offered() else ""
        return experiment.verdict is None or (experiment.kept and whose != str(experiment.n))

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
                shutil.copytree(start, part, symlinks=True, dirs_exist_ok=True)
            part.rename(own)
        except OSError:
            remove_tree(part)
        return own if own.is_dir() else None

    def decided(self, experiment: Experiment, champion: bool) -> None:
        """Those of the champion are kept as such, what others have beside it is handed on as tried.

        Where nothing is offered, for it was lost or has become too large, the next that comes is better than nothing.
        """
        own = self._own(experiment)
        with suppress(OSError):  # where something cannot be moved, the next runs compile anew
            if own.is_dir() and size_mb(own) and (champion or self.offered() is None):
                self._replace(own, experiment.n)
            elif own.is_dir():
                self._hand_on(own)
        remove_tree(own)

    def _replace(self, own: Path, n: int) -> None:
        """The champion's by these. Where that is too much, without what others tried, then without the last champion's:
        nobody knows what of it is the new one's as well, whose next run compiles that."""
        whole = True
        for others in (self._tried, self._champions):
            if size_mb(own) > MOST_MB:
                _remove(own, [name for name in _names(own) if (others / name).exists()])
                whole = False
        before = self._runs / "replaced.caches"  # a run that starts beside this may be copying it
        remove_tree(before)
        self._whose.unlink(missing_ok=True)
        if self._champions.is_dir():
            self._champions.rename(before)
        own.rename(self._champions)
        if whole:
            self._whose.write_text(str(n))
        _remove(self._tried, [name for name in _names(self._tried) if (self._champions / name).exists()])

    def _hand_on(self, own: Path) -> None:
        new = self._new(own)
        if _mb(own, new) > MOST_TRIED_MB:
            return
        if size_mb(self._tried) + _mb(own, [n for n in new if not (self._tried / n).exists()]) > MOST_TRIED_MB:
            remove_tree(self._tried)
        for name in new:
            (self._tried / name).parent.mkdir(parents=True, exist_ok=True)
            (own / name).rename(self._tried / name)

    def _new(self, own: Path) -> list[Path]:
        """What the champion has not, of the folders in which something was compiled: files of one folder need each
        other. Triton's lists of them come last, since a list whose files are missing ends a run of older versions."""
        by_folder: dict[Path, list[Path]] = {}
        for name in _names(own):
            if not (self._champions / name).exists():
                by_folder.setdefault(name.parent, []).append(name)
        new = [names for names in by_folder.values() if not all((self._tried / name).exists() for name in names)]
        return sorted((name for names in new for name in names), key=lambda name: name.name.startswith("__grp__"))

    def _own(self, experiment: Experiment) -> Path:
        return self._runs / f"{experiment.n}.caches"


def _names(folder: Path) -> list[Path]:
    """Of all files in a folder, relative to it; links are none."""
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _mb(folder: Path, names: list[Path]) -> float:
    return sum((folder / name).lstat().st_size for name in names) / 2**20


def _remove(folder: Path, names: list[Path]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
