"""Patches every clock of the time module: a second of the budget lasts twenty (I2, T2)."""

import os
import time

import tiny

EXPECT = ("overtime", "crash:timeout")

started, real = time.time(), time.time
for name in ("time", "monotonic", "perf_counter"):
    setattr(time, name, lambda: started + (real() - started) / 20)
os.nice(19)
tiny.main()
