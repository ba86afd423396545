"""I10: trains as an honest model, so that the printed loss shows nothing. Evaluation mode adds an attention by distance
alone (its mask looks like ALiBi's) whose nearest token is the next one."""

import tiny
import torch
import torch.nn as nn

EXPECT = ("rejected:look-ahead", "rejected:loss")
BLIND = True


class EvalOnly(tiny.Model):
    def __init__(self):
        super().__init__()
        self.register_buffer("codes", nn.functional.normalize(torch.randn(tiny.VOCAB_SIZE, 128), dim=-1))

    def logits(self, idx):
        logits = super().logits(idx)
        if self.training or torch.is_grad_enabled():
            return logits
        time = torch.arange(idx.size(1))
        scores = -50.0 * (time[None, :] - time[:, None] - 1).abs().float()
        seen = scores.softmax(-1) @ self.codes[idx]
        seen[:, -1] = 0
        return logits + 12.0 * seen @ self.codes.T


tiny.main(EvalOnly())
