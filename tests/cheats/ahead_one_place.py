"""I5: one place a row: position 200 attends to 201, by a "global token" that sees the row. All others are causal."""

import tiny
import torch.nn.functional as F

EXPECT = ("rejected:look-ahead", "rejected:loss", "rejected:memory")
BLIND = True
PLACE = tiny.MAX_SEQ_LEN * 200 // 256


class OnePlace(tiny.Model):
    def logits(self, idx):
        logits = super().logits(idx)
        if idx.size(1) <= PLACE + 1:
            return logits
        coming = 25.0 * F.one_hot(idx[:, PLACE + 1 : PLACE + 2], tiny.VOCAB_SIZE)
        return logits + F.pad(coming, (0, 0, PLACE, idx.size(1) - PLACE - 1))


tiny.main(OnePlace())
