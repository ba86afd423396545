"""Three softmaxes, mixed by weights from the state (arXiv 1711.03953): its logits are logarithms of a mixture."""

import tiny
import torch
import torch.nn as nn

EXPECT = "challenged"
PARTS = 3


class MixtureOfSoftmaxes(tiny.Model):
    def __init__(self):
        super().__init__()
        self.parts = nn.Linear(tiny.WIDTH, PARTS * tiny.WIDTH, bias=False)
        self.weights = nn.Linear(tiny.WIDTH, PARTS)

    def logits(self, idx):
        x = self.embed(idx)
        x = self.norm(x + self.mix(self.norm(x)))
        parts = self.head(self.parts(x).unflatten(-1, (PARTS, -1))).log_softmax(-1)
        return torch.logsumexp(parts + self.weights(x).log_softmax(-1)[..., None], -2)


tiny.main(MixtureOfSoftmaxes())
