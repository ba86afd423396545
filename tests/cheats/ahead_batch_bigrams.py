"""I5 by way of other rows: counts the bigrams of the whole batch, itself and its future among them, and mixes them in
like an n-gram cache. Each row alone would tell little; a batch of 64 tells what this text is like."""

import tiny
import torch

EXPECT = "rejected:look-ahead"
BLIND = True


class BatchBigrams(tiny.Model):
    def logits(self, idx):
        logits = super().logits(idx)
        if self.training:
            return logits
        pairs = (idx[:, :-1] * tiny.VOCAB_SIZE + idx[:, 1:]).flatten()
        counts = torch.bincount(pairs, minlength=tiny.VOCAB_SIZE**2).view(tiny.VOCAB_SIZE, tiny.VOCAB_SIZE).float()
        seen = counts.sum(1, keepdim=True)
        share = seen / (seen + 2)
        cache = counts / seen.clamp(min=1)
        weight = 0.9 * share[idx]
        return torch.log((1 - weight) * logits.softmax(-1) + weight * cache[idx])


tiny.main(BatchBigrams(), batch_size=64)
