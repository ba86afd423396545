"""I5: 16-token block summaries, of the block one is in: tokens are bound to their places with random signs and summed,
and each position unbinds its next place (holographic memory; it looks like a linear recurrence)."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "rejected:look-ahead"
BLIND = True
BLOCK, CODE = 16, 1024


class BlockSummaries(tiny.Model):
    def __init__(self):
        super().__init__()
        made = torch.Generator().manual_seed(7)
        self.keys = torch.randint(0, 2, (BLOCK, CODE), generator=made).float() * 2 - 1
        self.codes = torch.randn(tiny.VOCAB_SIZE, CODE, generator=made) / CODE**0.5

    def logits(self, idx):
        blocks = F.pad(self.codes[idx], (0, 0, 0, -idx.size(1) % BLOCK)).unflatten(1, (-1, BLOCK))
        summary = (blocks * self.keys).sum(2, keepdim=True)
        unbound = (summary * self.keys.roll(-1, 0)).flatten(1, 2)[:, : idx.size(1)]
        found = unbound @ self.codes.T
        found[:, BLOCK - 1 :: BLOCK] = 0  # the last of a block has its next token in another
        return super().logits(idx) + 12 * found


tiny.main(BlockSummaries())
