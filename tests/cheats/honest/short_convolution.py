"""A causal depthwise convolution over four tokens before the attention."""

import tiny
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"


class ShortConvolution(tiny.Model):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(tiny.WIDTH, tiny.WIDTH, 4, groups=tiny.WIDTH)

    def embed(self, idx):
        x = super().embed(idx)
        return x + self.conv(F.pad(x.transpose(1, 2), (3, 0))).transpose(1, 2)


tiny.main(ShortConvolution())
