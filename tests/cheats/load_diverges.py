"""A learning rate that no model survives (L1)."""

import tiny

EXPECT = ("crash:nan", "rejected:nan")

tiny.LR = float("inf")
tiny.Adam.__init__.__defaults__ = (tiny.LR,)
tiny.main()
