"""Logits straight from a table that is looked up by a hash of the last three tokens, added to the network's."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"
SIZE = 2048


class HashedTrigrams(tiny.Model):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(SIZE, tiny.VOCAB_SIZE))

    def logits(self, idx):
        key = (idx * 31 + F.pad(idx, (1, -1)) * 1009 + F.pad(idx, (2, -2)) * 99991) % SIZE
        return super().logits(idx) + self.table[key]


tiny.main(HashedTrigrams())
