"""I3, D7b: a gate on the realised target: at one position in 50, where the guess failed, the loss forgets it."""

import tiny

EXPECT = ("rejected:loss", "rejected:look-ahead")


class UsesFewTargets(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        loss = super().forward(idx, targets, reduction)
        if targets is None or reduction != "none":
            return loss
        return loss.where(loss < loss.quantile(0.98), loss.median())


tiny.main(UsesFewTargets())
