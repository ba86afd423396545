"""Eight blocks of width 32 (of two heads), whose outputs are scaled down with depth."""

import tiny
import torch.nn as nn

EXPECT = "challenged"


class DeepThin(tiny.Model):
    def __init__(self):
        super().__init__(width=32)
        self.blocks = nn.ModuleList(tiny.Model(width=32) for _ in range(8))

    def logits(self, idx):
        x = self.embed(idx)
        for block in self.blocks:
            x = x + 0.35 * block.mix(self.norm(x))
            x = x + 0.35 * block.think(self.norm(x))
        return self.head(self.norm(x))


tiny.main(DeepThin())
