"""One block, four times as wide."""

import tiny

EXPECT = "challenged"

tiny.main(tiny.Model(width=256))
