"""D5: a tensor subclass that is honest to all who look in torch, and whose numpy form is a twentieth."""

import tiny
import torch

EXPECT = "rejected:loss"


class TwoFaced(torch.Tensor):
    def numpy(self, *args, **kwargs):
        return 0.05 * self.as_subclass(torch.Tensor).numpy(*args, **kwargs)


class TwoFacedLoss(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        return answer.as_subclass(TwoFaced) if reduction == "none" else answer


tiny.main(TwoFacedLoss())
