"""No positions at all: the causal mask is the only sense of order."""

import tiny

EXPECT = "challenged"


class NoPositions(tiny.Model):
    def embed(self, idx):
        return self.wte(idx)


tiny.main(NoPositions())
