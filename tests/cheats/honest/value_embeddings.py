"""Each token brings values of its own to the attention, mixed with the computed ones by a learnt share."""

import tiny
import torch
import torch.nn as nn

EXPECT = "challenged"


class ValueEmbeddings(tiny.Model):
    def __init__(self):
        super().__init__()
        self.values = nn.Embedding(tiny.VOCAB_SIZE, tiny.WIDTH)
        self.share = nn.Parameter(torch.tensor(0.5))

    def logits(self, idx):
        self.own = self.values(idx).unflatten(-1, (tiny.HEADS, -1)).transpose(1, 2)
        return super().logits(idx)

    def attend(self, q, k, v):
        return super().attend(q, k, v.lerp(self.own, self.share))


tiny.main(ValueEmbeddings())
