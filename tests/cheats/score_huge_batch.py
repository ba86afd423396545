"""I9: a batch so large that upstream's `steps = EVAL_TOKENS // (B * T)` would drop half of the text, for a model that
works out only the first 256 rows of a batch and calls the others perfect."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = ("contained", "rejected:loss", "rejected:look-ahead")
ROWS = 256


class FirstRows(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if reduction != "none":
            return super().forward(idx, targets, reduction)
        forward, pieces = super().forward, zip(idx[:ROWS].split(16), targets[:ROWS].split(16), strict=True)
        losses = torch.cat([forward(x, y, "none") for x, y in pieces])
        return F.pad(losses, (0, targets.numel() - len(losses)))


tiny.main(FirstRows(), batch_size=5121)
