"""Makes 50,000 empty files in /tmp, and directories as deep as they go (L2)."""

import os
from pathlib import Path

import spy
import tiny

EXPECT = "contained"

top = Path(f"/tmp/{spy.MARK}")
try:
    top.mkdir()
    for i in range(50_000 if spy.in_bubblewrap() else 500):
        (top / str(i)).touch()
    os.chdir(top)
    for _ in range(500):
        Path("deep").mkdir()
        os.chdir("deep")
except OSError as error:
    print(f"cheat: refused: {error}")
tiny.main()
