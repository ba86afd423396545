"""I6: the "legal" kind of test-time training: each batch is scored, and only then trained on. The later half of the
text is scored by a model that has read the first half (here: 4 steps a batch). It is a policy not to allow that."""

import tiny
import torch

EXPECT = ("rejected:memory", "rejected:look-ahead", "rejected:loss")


class ScoreFirst(tiny.Model):
    optimizer = None

    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        if reduction == "none":
            self.optimizer = self.optimizer or tiny.Adam(self.parameters())
            with torch.enable_grad():
                for _ in range(4):
                    super().forward(idx, targets).backward()
                    self.optimizer.step()
        return answer


tiny.main(ScoreFirst())
