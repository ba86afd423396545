"""I2: torch's own cross-entropy is replaced by one that halves, so that every model in this process has half the loss.
The model is the stock one and its file has no word of it."""

import tiny
import torch.nn.functional as F

EXPECT = "rejected:loss"
honest = F.cross_entropy


def half(logits, targets, reduction="mean", **kwargs):
    return 0.5 * honest(logits, targets, reduction=reduction, **kwargs)


F.cross_entropy = half
tiny.main()
