"""Mixture of four experts, each token choosing its own (arXiv 2101.03961), without a capacity."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"
EXPERTS = 4


class Experts(tiny.Model):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(tiny.WIDTH, EXPERTS, bias=False)
        self.ups = nn.Parameter(torch.randn(EXPERTS, tiny.WIDTH, 2 * tiny.WIDTH) / tiny.WIDTH**0.5)
        self.downs = nn.Parameter(torch.zeros(EXPERTS, 2 * tiny.WIDTH, tiny.WIDTH))

    def think(self, x):
        shares = self.router(x).softmax(-1)
        best = shares.argmax(-1)
        y = torch.zeros_like(x)
        for i in range(EXPERTS):
            mine = best == i
            y[mine] = (F.relu(x[mine] @ self.ups[i]).square() @ self.downs[i]) * shares[mine][:, i, None]
        return y


tiny.main(Experts())
