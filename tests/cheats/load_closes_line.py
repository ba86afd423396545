"""Closes the line to the harness and prints a score of its own (L1, I1)."""

import os

import tiny

EXPECT = "unverified"

tiny.train(tiny.Model())
os.close(0)
tiny.summary(0.5)
