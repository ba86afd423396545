"""Leaves 3,000 folders in one another where it may write, and one that says nobody may enter it (L2)."""

import os
import tempfile
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
RUNS = 2
HERE = os.getcwd()

try:
    os.chdir(tempfile.gettempdir())
    for name in (spy.MARK, *["deep"] * 3000):
        Path(name).mkdir()
        os.chdir(name)
    Path("closed").mkdir()
    Path("closed", "file").touch()
    Path("closed").chmod(0)
except OSError as error:
    print(f"cheat: refused: {error}")
os.chdir(HERE)
tiny.main()
