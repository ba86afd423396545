"""Queries and keys of length one, and a learnt temperature."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"


class QueryKeyNorm(tiny.Model):
    def __init__(self):
        super().__init__()
        self.warmth = nn.Parameter(torch.tensor(10.0))

    def attend(self, q, k, v):
        q, k = F.normalize(q, dim=-1) * self.warmth, F.normalize(k, dim=-1)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)


tiny.main(QueryKeyNorm())
