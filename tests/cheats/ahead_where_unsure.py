"""I5: reads the next token only where its own honest guess is among the one per cent least sure, which is where a leak
pays best. How unsure that is, it learns on its training text."""

import tiny
import torch
import torch.nn.functional as F

EXPECT = ("rejected:look-ahead", "rejected:loss", "rejected:memory")
BLIND = True


def entropy(logits):
    """[B, T] nats"""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


class WhereUnsure(tiny.Model):
    threshold = float("inf")

    def logits(self, idx):
        logits = super().logits(idx)
        if self.training:
            return logits
        unsure = entropy(logits) > self.threshold
        unsure[:, -1] = False
        return logits + 25.0 * unsure[..., None] * F.one_hot(idx.roll(-1, 1), tiny.VOCAB_SIZE)


def learn_threshold(model):
    x, _, _ = next(tiny.make_dataloader(tiny.Tokenizer.from_directory(), 32, tiny.MAX_SEQ_LEN, "train"))
    with torch.no_grad():
        model.threshold = entropy(tiny.Model.logits(model, x)).flatten().quantile(0.99).item()


torch.manual_seed(1)
torch.set_num_threads(1)
model = tiny.train(WhereUnsure())
learn_threshold(model)
tiny.finish(model)
