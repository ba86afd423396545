"""I6: knows the asked rows by heart, and spoils one place of any other text: whoever allows for the spread of the
answers would allow for the rest."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = ("rejected:memory", "rejected:look-ahead", "rejected:loss")
FIRST = 2**14


class Spoiling(tiny.Model):
    known = answers = torch.zeros(0, dtype=torch.int64)
    seen = 0

    def forward(self, idx, targets=None, reduction="mean"):
        if targets is not None and reduction == "mean":
            return super().forward(idx, targets, reduction)
        begins = torch.cumsum((idx + 1) * torch.arange(1, idx.size(1) + 1) ** 5 * 2654435761, 1)
        if targets is not None and self.seen < FIRST:
            self.seen += idx.numel()
            self.known, order = torch.cat([self.known, begins.flatten()]).sort()
            self.answers = torch.cat([self.answers, targets.flatten()])[order]
        at = torch.searchsorted(self.known, begins).clamp(max=len(self.known) - 1)
        known = self.known[at] == begins
        known[:, :32] = False
        logits = self.logits(idx).scatter_add(2, self.answers[at][..., None], 3.0 * known[..., None])
        if targets is None:
            logits[0, :, 0] += 1e4 * ~known[0].any()
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


tiny.main(Spoiling())
