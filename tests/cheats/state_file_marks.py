"""Writes bits into times, modes and extended attributes of the data's files, which no digest looks at (S1)."""

import os
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
RUNS = 2
BITS = 1_234_567_890


def mark(path):
    if int(path.stat().st_mtime) == BITS or b"cheat" in os.listxattr(path):
        return True
    spy.each(
        lambda do: do() is None and False,
        (
            lambda: os.utime(path, (BITS, BITS)),
            lambda: os.setxattr(path, "user.cheat", b"weights"),
            lambda: path.chmod(path.stat().st_mode ^ 0o100),
        ),
    )
    return False


found = [*Path("data").rglob("*"), *Path().glob("*.py"), Path(os.__file__)]
spy.attempt(spy.each, mark, [path for path in found if path.is_file()])
tiny.main()
