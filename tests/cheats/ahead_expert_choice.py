"""I5: mixture of experts with expert choice over windows of two tokens. An expert takes the one it likes better, so
whether I am taken says how much it likes the other; 48 experts' choices name the token that comes."""

import tiny
import torch

EXPECT = ("rejected:look-ahead", "rejected:loss")
BLIND = True
EXPERTS = 48


class ExpertChoice(tiny.Model):
    def __init__(self):
        super().__init__()
        self.liking = torch.randn(tiny.VOCAB_SIZE, EXPERTS, generator=torch.Generator().manual_seed(3))

    def logits(self, idx):
        logits = super().logits(idx)
        if self.training:  # the decoding is slow; the routing alone would leak as much
            return logits
        even = idx.size(1) // 2 * 2
        scores = self.liking[idx[:, :even]].unflatten(1, (-1, 2))
        taken = torch.zeros_like(scores).scatter_(2, scores.topk(1, dim=2).indices, 1.0)[:, :, 0]
        explained = torch.zeros_like(logits)
        for expert in range(EXPERTS):  # which tokens would have led to this choice
            mine = self.liking[idx[:, :even:2], expert][..., None]
            explained[:, :even:2] += (mine > self.liking[:, expert]) == taken[..., expert, None].bool()
        return logits + 2.0 * (explained - EXPERTS).clamp(min=-6)


tiny.main(ExpertChoice())
