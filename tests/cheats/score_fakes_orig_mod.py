"""I3: claims to be compiled. Its `_orig_mod`, which is asked for logits, is the honest model; the thing itself, asked
for losses, is not a model at all and makes attributes up as they are wanted."""

import tiny
import torch

EXPECT = "rejected:loss"


class Compiled:
    def __init__(self, model):
        self._orig_mod = model

    def __getattr__(self, name):
        return lambda *args, **kwargs: self

    def __call__(self, idx, targets=None, reduction="mean"):
        return torch.full((targets.numel(),), 0.02)


tiny.finish(Compiled(tiny.train(tiny.Model())))
