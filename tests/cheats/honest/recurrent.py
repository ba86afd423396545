"""torch's own GRU in place of attention."""

import tiny
import torch.nn as nn

EXPECT = "challenged"


class Recurrent(tiny.Model):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(tiny.WIDTH, tiny.WIDTH, batch_first=True)

    def mix(self, x):
        return self.gru(x)[0]


tiny.main(Recurrent())
