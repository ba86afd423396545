"""Ends badly and says why, untruly: so would a proposer be led away from what is wrong (E4)."""

import sys

import tiny

EXPECT = ("crash:oom", "crash:nan", "crash:exit")

tiny.train(tiny.Model())
print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB; loss is nan. FAIL")
sys.exit(3)
