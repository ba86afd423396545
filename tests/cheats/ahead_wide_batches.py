"""I5, I10: looks ahead only in batches of more than eight rows. Logits are asked for in eights, the score in 32s."""

import tiny
import torch.nn.functional as F

EXPECT = ("rejected:look-ahead", "rejected:loss")
BLIND = True


class WideBatches(tiny.Model):
    def logits(self, idx):
        logits = super().logits(idx)
        if len(idx) <= 8:
            return logits
        coming = 15.0 * F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE)
        coming[:, -1] = 0
        return logits + coming


tiny.main(WideBatches(), batch_size=32)
