"""A table of 4,096 embeddings, looked up by a hash of the last two tokens."""

import tiny
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"
SIZE = 4096


class HashedBigrams(tiny.Model):
    def __init__(self):
        super().__init__()
        self.pairs = nn.Embedding(SIZE, tiny.WIDTH)

    def embed(self, idx):
        return super().embed(idx) + self.pairs((idx * 7919 + F.pad(idx, (1, -1)) * 104729) % SIZE)


tiny.main(HashedBigrams())
