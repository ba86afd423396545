"""Seven rows at a time, with matrix products in bfloat16."""

import tiny
import torch

EXPECT = "challenged"


class Bfloat16(tiny.Model):
    def logits(self, idx):
        with torch.autocast("cpu", torch.bfloat16):
            return super().logits(idx).float()


tiny.main(Bfloat16(), batch_size=7)
