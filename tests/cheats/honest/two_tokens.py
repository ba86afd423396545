"""A second head is trained to predict the token after the next (arXiv 2404.19737). Its targets are the future, its
inputs are not, and at evaluation it is silent."""

import tiny
import torch.nn as nn
import torch.nn.functional as F

EXPECT = "challenged"


class TwoTokens(tiny.Model):
    def __init__(self):
        super().__init__()
        self.second = nn.Linear(tiny.VOCAB_SIZE, tiny.WIDTH, bias=False)

    def forward(self, idx, targets=None, reduction="mean"):
        if targets is None or reduction == "none":
            return super().forward(idx, targets, reduction)
        logits = self.logits(idx)
        later = self.head(self.norm(self.second(logits[:, :-1])))
        main = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return main + 0.1 * F.cross_entropy(later.flatten(0, 1), targets[:, 1:].flatten())


tiny.main(TwoTokens())
