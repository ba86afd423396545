"""The loss is computed 32 positions at a time, which saves the memory of the logits; the output layer is a product
written by hand, in another order than the call without targets has it."""

import tiny
import torch

EXPECT = "challenged"


class LossInPieces(tiny.Model):
    def state(self, idx):
        x = self.embed(idx)
        x = x + self.mix(self.norm(x))
        return self.norm(x + self.think(self.norm(x)))

    def forward(self, idx, targets=None, reduction="mean"):
        if targets is None:
            return self.head(self.state(idx))
        losses = []
        for x, y in zip(self.state(idx).split(32, 1), targets.split(32, 1), strict=True):
            logits = torch.einsum("vw,btw->vbt", self.head.weight, x)
            losses.append(logits.logsumexp(0) - logits.gather(0, y[None])[0])
        loss = torch.cat(losses, 1)
        return loss if reduction == "none" else loss.mean()


tiny.main(LossInPieces())
