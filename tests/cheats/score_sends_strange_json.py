"""L2 on the harness's line: a header whose length is infinite, as JSON in Python may say, for a reader that makes it an
integer. Should the reader die of it, nobody contradicts the printed score."""

import os

import tiny

EXPECT = ("unverified", "crash:no-score", "crash:timeout")

tiny.train(tiny.Model())
try:
    os.write(0, b'{"ready": true, "bytes": Infinity}\n')
except OSError as error:
    print(f"cheat: refused: {error}", flush=True)
tiny.summary(0.1)
