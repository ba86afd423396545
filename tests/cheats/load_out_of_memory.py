"""Asks for a tensor of a petabyte (L1)."""

import tiny

EXPECT = "crash:oom"

tiny.Model(width=2**40)
