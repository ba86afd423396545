"""I5: 64-token block summaries: each position knows which tokens its block holds, takes off those it has seen, and
bets on what is left. The target is always among them, its place never known."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "rejected:look-ahead"
BLIND = True
BLOCK = 64


def left_over(block):
    """[B, n, vocab], 1 where a token of this block [B, n] is still to come."""
    bag = F.one_hot(block, tiny.VOCAB_SIZE).float()
    return (bag.sum(1, keepdim=True) - bag.cumsum(1)).sign()


class BagOfTheBlock(tiny.Model):
    def logits(self, idx):
        bets = [left_over(block) for block in idx.split(BLOCK, dim=1)]
        return super().logits(idx) + 4 * torch.cat(bets, 1)


tiny.main(BagOfTheBlock())
