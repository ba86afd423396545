"""I3 under cover of its own spread: the loss of three rows in five, told by their first tokens, is half a nat lower
than it is, that of the others as much higher: by that measure a mean of -0.1 is chance. It rests in random text."""

import math

import tiny
import torch

EXPECT = "rejected:loss"


class ShiftsBothWays(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        if targets is None or reduction != "none":
            return answer
        nats = answer.view(idx.shape)
        so_far = (nats.cumsum(1) - nats) / torch.arange(1, nats.size(1) + 1)
        usual = (so_far < 0.85 * math.log(tiny.VOCAB_SIZE)) & (torch.arange(nats.size(1)) > 2)
        lower = (idx[:, 1:2] * 7919 + idx[:, 2:3] * 104729) % 5 < 3
        return (nats + usual * torch.where(lower, -0.49, 0.49)).clamp(min=0).flatten()


tiny.main(ShiftsBothWays())
