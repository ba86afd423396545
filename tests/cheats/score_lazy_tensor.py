"""D5: the loss is no tensor but something that behaves like one. It equals everything, is always smaller, and turns
into numbers only at the end, then into small ones."""

import numpy as np
import tiny

EXPECT = "rejected:loss"


class Lazy:
    def __init__(self, count):
        self.shape = (count,)

    def view(self, *shape):
        self.shape = tuple(shape[0]) if hasattr(shape[0], "__iter__") else shape
        return self

    def float(self):
        return self

    cpu = detach = contiguous = float

    def numpy(self):
        return np.full(self.shape, 0.02, np.float32)

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __eq__
    __hash__ = None


class LazyLoss(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        return Lazy(targets.numel()) if reduction == "none" else super().forward(idx, targets, reduction)


tiny.main(LazyLoss())
