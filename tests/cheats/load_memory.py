"""Holds 2 GB of memory and touches all of it (L2)."""

import tiny

EXPECT = ("contained", "crash:oom", "overtime")

held = bytearray(2 * 2**30)
held[::4096] = b"x" * len(held[::4096])
tiny.main()
