"""Room on the disk: some is kept back, so that a full disk cannot lose the row of the run that filled it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from research_loop.errors import LabError

MIN_FREE_MB = 100
RESERVE_BYTES = 2**20


class Reserve:
    """A megabyte in the state folder of the lab at `root`, to be given up where a write fails."""

    def __init__(self, root: Path, state: Path) -> None:
        self._root, self._path = root, state / "reserve"

    def fill(self) -> None:
        """Not where the disk is nearly full: then it stays given up."""
        whole = self._path.exists() and self._path.stat().st_size == RESERVE_BYTES  # a kill may have cut it short
        if not whole and self._free_mb() > MIN_FREE_MB:
            self._path.write_bytes(os.urandom(RESERVE_BYTES))

    def give_up(self) -> None:
        self._path.unlink(missing_ok=True)

    def check_space(self) -> None:
        """Raises LabError where another run is not worth starting."""
        if self.scarce:
            raise LabError(f"{self._root}: the disk has {self._free_mb():.0f} MB left: free some and start again")

    @property
    def scarce(self) -> bool:
        """Whether what failed may have failed for want of room."""
        return self._free_mb() < MIN_FREE_MB

    def _free_mb(self) -> float:
        return shutil.disk_usage(self._root).free / 2**20
