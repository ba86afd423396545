"""Writes 2 GB to files that lie in memory and have no name: no process of the run is seen to hold them (L2)."""

import os

import tiny

EXPECT = ("contained", "crash:oom")

for number in range(8):
    memory = os.memfd_create(f"checkpoint-{number}")
    for _ in range(16):
        os.write(memory, b"x" * 2**24)
tiny.main()
