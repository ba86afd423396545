"""Trains for ever, prints nothing more, and is deaf to every signal that can be ignored (L1, L3)."""

import signal
import time

import tiny

EXPECT = "crash:timeout"

for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, signal.SIG_IGN)
tiny.train(tiny.Model())
while True:
    time.sleep(1)
