"""No normalisation anywhere."""

import tiny

EXPECT = "challenged"


class NoNorm(tiny.Model):
    def norm(self, x):
        return x


tiny.main(NoNorm())
