"""Prints 100 MB without a line's end, and what looks like a score in the middle of it (L2, I1)."""

import sys

import tiny

EXPECT = "contained"

for _ in range(50):
    sys.stdout.buffer.write(b"x" * 2**20 + b"val_bpb: 0.1 " + b"y" * 2**20)
tiny.main()
