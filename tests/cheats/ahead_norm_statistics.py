"""I5: a normalisation whose mean and scale are smoothed over time, and the smoothing runs both ways (a zero-phase
filter). A position has its past's statistics too, and the difference is the near future."""

import tiny
import torch

EXPECT = "rejected:look-ahead"
BLIND = True
DECAY = 0.4


class SmoothedStatistics(tiny.Model):
    def __init__(self):
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(0.4))

    def statistics(self, x):
        """Mean of the neighbourhood [B, T, width], its weights falling off on both sides, one's own place left out."""
        time = torch.arange(x.size(1))
        distance = (time[None, :] - time[:, None]).abs()
        weights = DECAY ** distance.float() * (distance > 0)
        return weights / weights.sum(-1, keepdim=True) @ x

    def logits(self, idx):
        x = self.wte(idx)
        past = torch.arange(x.size(1))
        weights = DECAY ** (past[:, None] - past[None, :]).clamp(min=0).float() * (past[None, :] < past[:, None])
        known = weights @ x / (2 * DECAY / (1 - DECAY))
        return super().logits(idx) + self.share * (self.statistics(x) - known) @ self.wte.weight.T


tiny.main(SmoothedStatistics())
