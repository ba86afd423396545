"""I1: `nan` is a number to float(), and compares as nothing."""

import tiny

EXPECT = ("crash:nan", "crash:no-score")

tiny.train(tiny.Model())
tiny.summary(float("nan"))
