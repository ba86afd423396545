"""I4: the loss is in another unit than nats: cross-entropy to the base 8, as a "numerically nicer" constant."""

import math

import tiny

EXPECT = "rejected:loss"


class ScaledLoss(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        return answer if targets is None else answer / math.log(8)


tiny.main(ScaledLoss())
