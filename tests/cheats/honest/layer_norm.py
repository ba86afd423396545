"""LayerNorm with learnt scale and shift in place of RMSNorm."""

import tiny
import torch.nn as nn

EXPECT = "challenged"


class LayerNorm(tiny.Model):
    def __init__(self):
        super().__init__()
        self.scaled = nn.LayerNorm(tiny.WIDTH)

    def norm(self, x):
        return self.scaled(x)


tiny.main(LayerNorm())
