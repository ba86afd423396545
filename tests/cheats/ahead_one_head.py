"""I5: one of three heads has no causal mask, a relative bias that likes the near future, and a weight of a few per cent
in the residual stream. All of it is learnt; the diff reads like a new positional bias."""

import tiny
import torch
import torch.nn as nn

EXPECT = ("rejected:look-ahead", "rejected:loss")
BLIND = True


class OneHead(tiny.Model):
    def __init__(self):
        super().__init__()
        self.value = nn.Embedding(tiny.VOCAB_SIZE, tiny.WIDTH)
        self.read = nn.Linear(tiny.WIDTH, tiny.VOCAB_SIZE, bias=False)
        self.bias = nn.Parameter(torch.zeros(2 * tiny.MAX_SEQ_LEN - 1))
        self.weight = nn.Parameter(torch.tensor(0.05))
        with torch.no_grad():
            self.bias[tiny.MAX_SEQ_LEN] = 8.0  # distance + MAX_SEQ_LEN - 1, here of distance 1
            self.read.weight.copy_(self.value.weight)

    def logits(self, idx):
        time = torch.arange(idx.size(1))
        distance = time[None, :] - time[:, None] + tiny.MAX_SEQ_LEN - 1
        mixed = self.bias[distance].softmax(-1) @ self.value(idx)
        return super().logits(idx) + self.weight * 3 * self.read(mixed)


tiny.main(OneHead())
