"""I1: two scores, a modest one for who reads the last line and a better one for who reads the first."""

import tiny

EXPECT = ("crash:no-score", "unverified")

tiny.train(tiny.Model())
tiny.summary(0.1)
tiny.summary(1.9)
