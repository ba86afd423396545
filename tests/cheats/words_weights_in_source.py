"""Carries trained weights in its source: the corpus makes this file grow by a literal of GROW random bytes (S2)."""

import tiny

EXPECT = "refused"
GROW = 200_000

tiny.main()
