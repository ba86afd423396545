"""Stops itself and its children, who would be asked to end in vain (L1, L3)."""

import os
import signal

EXPECT = "crash:timeout"

for _ in range(3):
    os.fork()
os.kill(os.getpid(), signal.SIGSTOP)
