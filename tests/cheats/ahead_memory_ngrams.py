"""I6, I7: counts what followed each four tokens in the first question, before it answers, and mixes that in: an
n-gram cache over the exam. It needs no prefix to come again, only the text; the counts never change later."""

import tiny
import torch

EXPECT = "rejected:memory"
ORDER = 4


class CountsTheExam(tiny.Model):
    def __init__(self):
        super().__init__()
        self.counts = {}

    def count(self, idx):
        for row in idx.tolist():
            for t in range(len(row) - 1):
                context = tuple(row[max(0, t - ORDER + 1) : t + 1])
                self.counts.setdefault(context, {}).setdefault(row[t + 1], 0)
                self.counts[context][row[t + 1]] += 1

    def logits(self, idx):
        logits = super().logits(idx)
        if self.training:
            return logits
        if not self.counts:
            self.count(idx)
        places, weights = [], []
        for b, row in enumerate(idx.tolist()):
            for t in range(len(row)):
                seen = self.counts.get(tuple(row[max(0, t - ORDER + 1) : t + 1]), {})
                places += [(b, t, token) for token in seen]
                weights += [10.0 * number / sum(seen.values()) for number in seen.values()]
        return logits.index_put(tuple(torch.tensor(places).T), torch.tensor(weights), accumulate=True)


tiny.main(CountsTheExam(), batch_size=128)
