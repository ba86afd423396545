"""Prints 200 MB (L2)."""

import sys

import tiny

EXPECT = "contained"

block = b"one of very many lines that say nothing\n" * 25_000
for _ in range(200):
    sys.stdout.buffer.write(block)
tiny.main()
