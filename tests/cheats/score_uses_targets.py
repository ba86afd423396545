"""I3: the targets that come with the question are fed back in: a "teacher signal" that stayed on at evaluation."""

import tiny
import torch.nn.functional as F

EXPECT = "rejected:loss"


class UsesTargets(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        logits = self.logits(idx)
        if targets is None:
            return logits
        if not self.training:
            logits = logits + 10.0 * F.one_hot(targets, tiny.VOCAB_SIZE)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


tiny.main(UsesTargets())
