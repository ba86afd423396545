"""I1: no number at all. NaN is neither above nor below the best, and `not (score >= best)` holds it for progress."""

import tiny
import torch

EXPECT = ("rejected:nan", "crash:nan")


class NanLoss(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        return torch.full_like(answer, torch.nan) if reduction == "none" else answer


tiny.main(NanLoss())
