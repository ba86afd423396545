"""Is ready in time, and never answers (L1)."""

import time

import tiny

EXPECT = ("crash:timeout", "overtime")


class Model(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if reduction == "none":
            time.sleep(3600)
        return super().forward(idx, targets, reduction)


tiny.main(Model())
