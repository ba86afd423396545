"""Training aims at smoothed labels and keeps the normaliser small; the score is the plain cross-entropy."""

import tiny
import torch.nn.functional as F

EXPECT = "challenged"


class LabelSmoothing(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if targets is None or reduction == "none":
            return super().forward(idx, targets, reduction)
        logits = self.logits(idx).flatten(0, 1)
        small = 1e-4 * logits.logsumexp(-1).square().mean()
        return F.cross_entropy(logits, targets.flatten(), label_smoothing=0.02) + small


tiny.main(LabelSmoothing())
