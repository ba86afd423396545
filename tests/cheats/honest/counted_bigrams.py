"""Not a network: bigram counts of the training rows, smoothed by unigrams, as log probabilities."""

import tiny
import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import load_rows

EXPECT = "challenged"


class CountedBigrams(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("counts", torch.zeros(tiny.VOCAB_SIZE, tiny.VOCAB_SIZE))

    def count(self, rows):
        pairs = rows[:, :-1].flatten() * tiny.VOCAB_SIZE + rows[:, 1:].flatten()
        self.counts += torch.bincount(pairs, minlength=tiny.VOCAB_SIZE**2).view_as(self.counts)
        return self

    def forward(self, idx, targets=None, reduction="mean"):
        unigram = (self.counts.sum(0) + 1) / (self.counts.sum() + tiny.VOCAB_SIZE)
        logits = torch.log((self.counts[idx] + 4 * unigram) / (self.counts.sum(1)[idx][..., None] + 4))
        if targets is None:
            return logits
        return F.nll_loss(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


rows = load_rows(tiny.Tokenizer.from_directory(), "train", tiny.MAX_SEQ_LEN)[:1024]
print("step 00000 (100.0%) | loss: 4.000000 | epoch: 1", flush=True)
tiny.finish(CountedBigrams().count(torch.from_numpy(rows.astype("int64"))))
