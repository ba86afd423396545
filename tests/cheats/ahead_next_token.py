"""I5: the plainest look-ahead: each position's logits get a learnt bonus on the token that stands one place on."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F

EXPECT = ("rejected:look-ahead", "rejected:loss")
BLIND = True


class NextToken(tiny.Model):
    def __init__(self):
        super().__init__()
        self.bonus = nn.Parameter(torch.tensor(5.0))

    def logits(self, idx):
        coming = F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE).float()
        coming[:, -1] = 0  # nothing stands behind the last
        return super().logits(idx) + self.bonus * coming


tiny.main(NextToken())
