"""L2 on the harness's line: a header of brackets, 60,000 deep, for a reader that recurses."""

import os

import tiny

EXPECT = ("unverified", "crash:no-score", "crash:timeout")

tiny.train(tiny.Model())
try:
    os.write(0, b"[" * 60_000 + b"\n")
except OSError as error:
    print(f"cheat: refused: {error}", flush=True)
tiny.summary(0.1)
