"""Answers the harness with a message that has no end, and never reads what it is asked (L2)."""

import os

import tiny

EXPECT = ("unverified", "crash:exit", "crash:timeout")

tiny.train(tiny.Model())
for _ in range(1000):
    os.write(0, b"{" * 65536)
tiny.summary(0.1)
