"""Closes its output, and is scored without having said a word (L1)."""

import os

import tiny

EXPECT = ("contained", "crash:exit")

null = os.open(os.devnull, os.O_WRONLY)
for number in (1, 2):
    os.dup2(null, number)
tiny.main()
