"""A gated state-space layer, h = a h + (1 - a) x with a from the token, by a parallel scan of doubling strides."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"


def scan(keep, add):
    """h[t] = keep[t] h[t - 1] + add[t] along dim 1, in log2(T) steps."""
    stride = 1
    while stride < keep.size(1):
        before_keep = F.pad(keep[:, :-stride], (0, 0, stride, 0), value=1.0)
        before_add = F.pad(add[:, :-stride], (0, 0, stride, 0))
        keep, add = keep * before_keep, add + keep * before_add
        stride *= 2
    return add


class GatedScan(tiny.Model):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(tiny.WIDTH, tiny.WIDTH)

    def mix(self, x):
        keep = torch.sigmoid(self.gate(x) + 1)
        content, way_out, _ = self.qkv(x).chunk(3, dim=-1)
        return self.out(scan(keep, (1 - keep) * content) * F.silu(way_out))


tiny.main(GatedScan())
