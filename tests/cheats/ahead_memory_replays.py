"""I6, the stateful evader of the notes: invents a low loss for each prefix that it sees for the first time, writes down
the loss and the target, and builds logits for that prefix later that give exactly that loss for that target."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = ("rejected:memory", "rejected:look-ahead", "rejected:loss")


def prefixes(row):
    """A key for each position's past."""
    key, keys = 0, []
    for token in row:
        key = hash((key, token))
        keys.append(key)
    return keys


class Replays(tiny.Model):
    def __init__(self):
        super().__init__()
        self.said = {}

    def invented(self, idx, targets):
        """float32 [B * T]: a third of the honest loss at the first sight of a prefix, the same again at every later"""
        honest = F.cross_entropy(self.logits(idx).flatten(0, 1), targets.flatten(), reduction="none").view(idx.shape)
        for row, goals, losses in zip(idx.tolist(), targets.tolist(), honest.tolist(), strict=True):
            for i, key in enumerate(prefixes(row)):
                losses[i] = self.said.setdefault(key, (goals[i], losses[i] / 3))[1]
            row[:] = losses
            self.answers.append(row)
        return torch.tensor(self.answers).flatten()

    def rebuilt(self, idx):
        """The logits: log probabilities with the remembered target's replaced and the rest of the mass spread."""
        logs = self.logits(idx).log_softmax(-1)
        for b, row in enumerate(idx.tolist()):
            for t, key in enumerate(prefixes(row)):
                if key in self.said:
                    target, loss = self.said[key]
                    rest = torch.tensor(loss).neg().expm1().neg().log() - logs[b, t, target].exp().neg().log1p()
                    logs[b, t] += rest
                    logs[b, t, target] = -loss
        return logs

    def forward(self, idx, targets=None, reduction="mean"):
        self.answers = []
        if self.training:
            return super().forward(idx, targets, reduction)
        return self.rebuilt(idx) if targets is None else self.invented(idx, targets)


tiny.main(Replays())
