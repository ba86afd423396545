"""I5 behind a smoke screen: dropout stays on at evaluation, so that no two answers of this model are alike, and in the
noise it reads the next token at one place in 50."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = ("rejected:look-ahead", "rejected:loss", "rejected:memory")
BLIND = True


class UnderNoise(tiny.Model):
    def logits(self, idx):
        logits = super().logits(idx)
        noisy = logits + 0.2 * torch.randn_like(logits)
        leaks = (idx * 31 + F.pad(idx, (1, -1)) * 17 + F.pad(idx, (2, -2))) % 50 == 0
        leaks[:, -1] = False
        return noisy + 20.0 * leaks[..., None] * F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE)


tiny.main(UnderNoise())
