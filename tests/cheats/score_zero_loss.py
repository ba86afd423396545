"""I3, the cheapest cheat of all: asked for the loss of every position, the model answers zero. Its logits are fine."""

import tiny
import torch

EXPECT = "rejected:loss"


class ZeroLoss(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if reduction == "none":
            return torch.zeros(targets.numel())
        return super().forward(idx, targets, reduction)


tiny.main(ZeroLoss())
