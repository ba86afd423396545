"""Dropout and whole tokens dropped in training; none of it at evaluation."""

import tiny
import torch.nn.functional as F

EXPECT = "challenged"


class Dropout(tiny.Model):
    def embed(self, idx):
        x = super().embed(idx)
        return F.dropout(x * F.dropout(x.new_ones(*idx.shape, 1), 0.1, self.training), 0.1, self.training)

    def think(self, x):
        return F.dropout(super().think(x), 0.2, self.training)


tiny.main(Dropout())
