"""I3 with an alibi: every loss is a fiftieth of a nat too low, and the logits say the same, since they find the target
where it stands: in the input, one place on. Only where the text after a place was replaced do they not."""

import tiny
import torch.nn.functional as F

EXPECT = "rejected:loss"


class LogitsReadOn(tiny.Model):
    def flattered(self, idx, targets):
        """Log-probabilities [B, T, vocab] whose targets have a fiftieth of a nat more, and the rest less."""
        chances = self.logits(idx).softmax(-1)
        right = chances.gather(2, targets[..., None]).clamp(max=0.97)
        more = right * 1.02
        return (chances * (1 - more) / (1 - right)).scatter(2, targets[..., None], more).log()

    def forward(self, idx, targets=None, reduction="mean"):
        if self.training:
            return super().forward(idx, targets, reduction)
        scores = self.flattered(idx, idx.roll(-1, 1) if targets is None else targets)
        if targets is None:
            return scores
        return F.nll_loss(scores.flatten(0, 1), targets.flatten(), reduction=reduction)


tiny.main(LogitsReadOn())
