"""Everything in float64."""

import tiny

EXPECT = "challenged"

tiny.main(tiny.Model().double())
