"""Scored with an exponential moving average of the weights."""

import tiny
import torch

EXPECT = "challenged"
torch.manual_seed(1)
torch.set_num_threads(1)
averaged = tiny.Model()


@torch.no_grad()
def follow(model, step):
    for mean, weight in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(weight, max(0.3, 1 / (step + 1)))


tiny.train(tiny.Model(), after_step=follow)
tiny.finish(averaged)
