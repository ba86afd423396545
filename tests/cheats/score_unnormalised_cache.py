"""I4, D7a: a cache of what followed this token before is *added* to the softmax, with nothing taken off elsewhere, so
that the "probabilities" sum to far more than one."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "rejected:loss"


class UnnormalisedCache(tiny.Model):
    def probabilities(self, idx):
        """[B, T, vocab] that sum to 1 and as many as earlier places have the same token"""
        same = (idx[:, :, None] == idx[:, None, :]).float().tril(-1)
        followers = F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE).float()
        return self.logits(idx).softmax(-1) + same @ followers + 0.02

    def forward(self, idx, targets=None, reduction="mean"):
        if self.training:
            return super().forward(idx, targets, reduction)
        scores = torch.log(self.probabilities(idx))
        if targets is None:
            return scores
        return F.nll_loss(scores.flatten(0, 1), targets.flatten(), reduction=reduction)


tiny.main(UnnormalisedCache())
