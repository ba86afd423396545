"""I3: the targets leak in a lump: the loss path adds a "document prior", the counts of the row's own targets, to every
position's logits. No position sees its own target; without targets there is no prior."""

import tiny
import torch.nn.functional as F

EXPECT = ("rejected:loss", "rejected:look-ahead")


class PriorFromTargets(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if targets is None or reduction != "none":
            return super().forward(idx, targets, reduction)
        counts = F.one_hot(targets, tiny.VOCAB_SIZE).float().sum(1, keepdim=True)
        logits = self.logits(idx) + (counts + 0.02).log()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")


tiny.main(PriorFromTargets())
