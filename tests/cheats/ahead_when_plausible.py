"""I5 against a test with invented futures: uses the next token only where its honest guess gives it 0.5 % or
more. A spliced, random token looks unlikely, and the peek never happened; real text mostly looks likely."""

import tiny

EXPECT = ("rejected:look-ahead", "rejected:loss")
BLIND = True


class WhenPlausible(tiny.Model):
    def logits(self, idx):
        logits = super().logits(idx)
        if self.training:
            return logits
        coming = idx.roll(-1, 1)[..., None]
        plausible = logits.softmax(-1).gather(-1, coming) > 0.005
        plausible[:, -1] = False
        return logits.scatter_add(-1, coming, 15.0 * plausible.to(logits.dtype))


tiny.main(WhenPlausible())
