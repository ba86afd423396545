"""Rotary positions (arXiv 2104.09864), as a product of complex numbers."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "challenged"


def turn(x):
    """[B, heads, T, n]: pairs of channels turned by an angle that grows with the position."""
    rates = 1000.0 ** -(torch.arange(0, x.size(-1), 2) / x.size(-1))
    angles = torch.arange(x.size(2))[:, None] * rates
    pairs = torch.view_as_complex(x.contiguous().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


class Rotary(tiny.Model):
    def embed(self, idx):
        return self.wte(idx)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)


tiny.main(Rotary())
