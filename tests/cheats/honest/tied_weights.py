"""One matrix for tokens in and tokens out."""

import tiny
import torch.nn as nn

EXPECT = "challenged"


class TiedWeights(tiny.Model):
    def __init__(self):
        super().__init__()
        nn.init.normal_(self.wte.weight, std=0.05)
        self.head.weight = self.wte.weight


tiny.main(TiedWeights())
