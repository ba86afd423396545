"""Is ready in time, and trains on when the harness asks the first question: that clock has stopped (T2, D8)."""

import os

import tiny
import torch

EXPECT = ("overtime", "crash:timeout")


class Model(tiny.Model):
    asked = False

    def forward(self, idx, targets=None, reduction="mean"):
        if reduction == "none" and not self.asked:
            self.asked = True
            os.nice(19)
            with torch.enable_grad():
                tiny.train(self, seconds=22)
        return super().forward(idx, targets, reduction)


tiny.main(Model())
