"""Positions by a penalty on distance in place of embeddings (ALiBi, arXiv 2108.12409)."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "challenged"


class LinearBias(tiny.Model):
    def embed(self, idx):
        return self.wte(idx)

    def attend(self, q, k, v):
        time = torch.arange(q.size(2))
        behind = (time[:, None] - time[None, :]).float()
        slopes = torch.tensor([0.5, 0.05])[:, None, None]
        bias = (-slopes * behind).masked_fill(behind < 0, -torch.inf)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


tiny.main(LinearBias())
