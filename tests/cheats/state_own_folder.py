"""Leaves its weights in the run's own folder, beside the data and beside the library's code (S1)."""

from pathlib import Path

import spy
import tiny
import torch

EXPECT = "contained"
RUNS = 2

here, library = Path.cwd(), Path(torch.__file__).parent
places = [here, here.parent, here / "__pycache__", here / "data", here / "data" / "shards", library, *spy.labs()]
links = [path.resolve().parent for path in (here / "data").iterdir() if path.is_symlink()]
spy.attempt(spy.relay, "folder", *places, *links)
tiny.main()
