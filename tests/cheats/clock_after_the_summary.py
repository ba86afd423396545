"""Prints its summary after a second, as if it were over, and trains on for twenty before it is scored (T2, I1)."""

import os

import tiny

EXPECT = ("overtime", "crash:timeout")

tiny.torch.manual_seed(1)
tiny.torch.set_num_threads(1)
model = tiny.train(tiny.Model())
tiny.summary(2.3)
os.nice(19)
tiny.finish(tiny.train(model, seconds=20))
