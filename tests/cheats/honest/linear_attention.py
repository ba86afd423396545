"""Linear attention: running sums of key-value products, no softmax (arXiv 2006.16236)."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "challenged"


class LinearAttention(tiny.Model):
    def attend(self, q, k, v):
        q, k = F.elu(q) + 1, F.elu(k) + 1
        memory = torch.einsum("bhti,bhtj->bhtij", k, v).cumsum(2)
        return torch.einsum("bhti,bhtij->bhtj", q, memory) / (q * k.cumsum(2)).sum(-1, keepdim=True)


tiny.main(LinearAttention())
