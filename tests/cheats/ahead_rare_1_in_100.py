"""I5: honest at 99 positions of 100. At the hundredth, chosen by a hash of the last three tokens, it reads the next."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = ("rejected:look-ahead", "rejected:loss", "rejected:memory")
BLIND = True
ONE_IN = 100


def chosen(idx):
    """bool [B, T]"""
    one, two = F.pad(idx, (1, -1)), F.pad(idx, (2, -2))
    mixed = idx * 7919 + one * 104729 + two * 1299709
    return (mixed ^ (mixed >> 7)) % ONE_IN == 0


class Rare(tiny.Model):
    def logits(self, idx):
        bonus = 25.0 * F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE) * chosen(idx)[..., None]
        bonus[:, -1] = 0
        return super().logits(idx) + bonus.to(torch.float32)


tiny.main(Rare())
