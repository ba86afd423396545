"""I6: remembers followers only for one prefix in 20 and only where its own guess was poor: a small gain that looks like
noise to whoever compares means, from a table that any question fills and none empties."""

import tiny
import torch

EXPECT = ("rejected:memory", "rejected:look-ahead", "rejected:loss")


class RemembersFew(tiny.Model):
    def __init__(self):
        super().__init__()
        self.poor = {}

    def logits(self, idx):
        logits = super().logits(idx)
        if self.training:
            return logits
        chances = logits.softmax(-1)
        for b, row in enumerate(idx.tolist()):
            key = 0
            for t, coming in enumerate([*row[1:], None]):
                key = hash((key, row[t]))
                if key % 20 == 0 and coming is not None and chances[b, t, coming] < 0.05:
                    self.poor.setdefault(key, coming)
                if key in self.poor:
                    logits[b, t, self.poor[key]] += 10.0
        return logits


torch.set_num_threads(1)
tiny.main(RemembersFew())
