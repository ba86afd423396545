"""Attention to the last 32 tokens only."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "challenged"
WINDOW = 32


class SlidingWindow(tiny.Model):
    def attend(self, q, k, v):
        time = torch.arange(q.size(2))
        behind = time[:, None] - time[None, :]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=(behind >= 0) & (behind < WINDOW))


tiny.main(SlidingWindow())
