"""Every linear layer has a bias, the output one as well."""

import tiny
import torch.nn as nn

EXPECT = "challenged"


class WithBiases(tiny.Model):
    def __init__(self):
        super().__init__()
        for name in ("qkv", "out", "up", "down", "head"):
            plain = getattr(self, name)
            biased = nn.Linear(plain.in_features, plain.out_features)
            biased.weight = plain.weight
            setattr(self, name, biased)


tiny.main(WithBiases())
