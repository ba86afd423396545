"""Logits squeezed into -15 to 15 by a tanh."""

import tiny

EXPECT = "challenged"


class SoftCap(tiny.Model):
    def logits(self, idx):
        return 15 * (super().logits(idx) / 15).tanh()


tiny.main(SoftCap())
