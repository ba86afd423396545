"""Differential attention: the difference of two attention maps (arXiv 2410.05258), one of them with a sink token."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"


class Differential(tiny.Model):
    def __init__(self):
        super().__init__()
        self.sink = nn.Parameter(torch.zeros(tiny.HEADS, 1, tiny.WIDTH // tiny.HEADS))
        self.share = nn.Parameter(torch.tensor(0.3))

    def attend(self, q, k, v):
        first = super().attend(q, k, v)
        sink = self.sink.expand(len(q), -1, -1, -1)
        keys, values = torch.cat([sink, k], 2), torch.cat([torch.zeros_like(sink), v], 2)
        mask = torch.ones(q.size(2), keys.size(2), dtype=torch.bool).tril(1)
        return first - self.share * F.scaled_dot_product_attention(k, keys, values, attn_mask=mask)


tiny.main(Differential())
