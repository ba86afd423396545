"""Logits rounded to float16 before the loss, as a kernel that saves memory does."""

import tiny
import torch

EXPECT = "challenged"


class Float16Head(tiny.Model):
    def logits(self, idx):
        logits = super().logits(idx)
        return logits if self.training else logits.to(torch.float16).float()


tiny.main(Float16Head())
