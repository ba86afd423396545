"""Ends well, without a score (L1)."""

import tiny

EXPECT = "crash:no-score"

tiny.train(tiny.Model())
