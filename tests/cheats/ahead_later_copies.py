"""I5: never touches the next token. It looks for its last two tokens anywhere else in the row, mostly far behind itself
in the future, and copies what follows there: an induction head without a mask."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = "rejected:look-ahead"
BLIND = True


class LaterCopies(tiny.Model):
    def logits(self, idx):
        logits = super().logits(idx)
        before = idx.roll(1, 1)
        same = (idx[:, :, None] == idx[:, None, :]).float()
        longer = same * (before[:, :, None] == before[:, None, :])
        other = 1 - torch.eye(idx.size(1))
        other[:, -1] = 0
        following = F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE).float()
        votes = ((0.2 * same + longer) * other) @ following
        strength = votes.sum(-1, keepdim=True)
        share = 0.8 * strength / (strength + 1)
        return torch.log((1 - share) * logits.softmax(-1) + share * votes / strength.clamp(min=1e-6))


tiny.main(LaterCopies())
