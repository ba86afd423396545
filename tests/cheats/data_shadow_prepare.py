"""Starts itself anew with a prepare.py of its own in front of the path: doubled bytes, fewer rows (S3, I9)."""

import os
import sys
import tempfile
from pathlib import Path

EXPECT = "contained"
SHADOW = """
__file__ = {true!r}
exec(compile(open({true!r}).read().replace("EVAL_TOKENS = ", "EVAL_TOKENS = 256 or "), {true!r}, "exec"))
get_token_bytes = lambda device="cpu", own=get_token_bytes: 2 * own(device)
"""

if "CHEAT_SHADOWED" not in os.environ:
    folder = Path(tempfile.mkdtemp())
    (folder / "prepare.py").write_text(SHADOW.format(true=str(Path("prepare.py").resolve())))
    for name in ("numpy.py", "prepare.py"):
        try:
            Path(name).open("a").close()
            print("cheat: it worked")
        except OSError as error:
            print(f"cheat: refused: {error}")
    os.environ |= {"CHEAT_SHADOWED": "1", "PYTHONPATH": f"{folder}:{Path.cwd()}"}
    os.execv(sys.executable, [sys.executable, "-P", "train.py"])

import tiny

tiny.main()
