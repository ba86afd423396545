"""I1: scored honestly, with a better number printed before it, after it, and on standard error."""

import sys

import tiny

EXPECT = "contained"

tiny.summary(0.1)
tiny.main()
tiny.summary(0.1)
print("val_bpb:          0.1", file=sys.stderr, flush=True)
