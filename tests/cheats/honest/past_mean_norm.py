"""Normalisation over time that knows only the past: the running mean of all tokens so far is taken off."""

import tiny
import torch

EXPECT = "challenged"


class PastMeanNorm(tiny.Model):
    def norm(self, x):
        count = torch.arange(1, x.size(1) + 1)[:, None]
        return super().norm(x - 0.5 * x.cumsum(1) / count)


tiny.main(PastMeanNorm())
