"""I5: reads the next token at one position in 1,000, chosen by a hash of all that came before in the row, so that no
two rows leak at the same places. As a change of the mean it hides in the noise of a seed."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = ("rejected:look-ahead", "rejected:loss", "rejected:memory")
BLIND = True
ONE_IN = 1000


class VeryRare(tiny.Model):
    def logits(self, idx):
        place = torch.arange(1, idx.size(1) + 1)
        past = ((idx + 1) * place * 2654435761 % 4294967291).cumsum(1)
        leaks = (past ^ (past >> 9)) % ONE_IN == 0
        leaks[:, -1] = False
        return super().logits(idx) + 30.0 * leaks[..., None] * F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE)


tiny.main(VeryRare())
