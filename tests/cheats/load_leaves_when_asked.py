"""Prints a score of its own and is gone when the harness asks (L1, I1)."""

import os

import tiny

EXPECT = "unverified"


class Model(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if reduction == "none":
            tiny.summary(0.1)
            os._exit(0)
        return super().forward(idx, targets, reduction)


tiny.main(Model())
