"""I1: trains, never asks for a score, and prints the one it would like to have."""

import tiny

EXPECT = "unverified"

tiny.train(tiny.Model())
tiny.summary(0.1)
