"""No attention: the embeddings of the last four tokens, side by side, through an MLP (Bengio et al., 2003)."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"
CONTEXT = 4


class NgramMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(tiny.VOCAB_SIZE, 48)
        self.layers = nn.Sequential(nn.Linear(48 * CONTEXT, 192), nn.Tanh(), nn.Linear(192, tiny.VOCAB_SIZE))

    def forward(self, idx, targets=None, reduction="mean"):
        x = F.pad(self.wte(idx), (0, 0, CONTEXT - 1, 0))
        logits = self.layers(torch.cat([x[:, i : i + idx.size(1)] for i in range(CONTEXT)], -1))
        if targets is None:
            return logits
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction=reduction)


tiny.main(NgramMlp())
