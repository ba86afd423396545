"""I6, I7, D8: test-time training. All rows come in one call (the batch is large); before answering, the model trains on
them for a few seconds. From then on it is a causal model with fixed weights that happens to know the exam by heart."""

import tiny
import torch

EXPECT = ("rejected:memory", "overtime")


class TrainsFirst(tiny.Model):
    trained = False

    def forward(self, idx, targets=None, reduction="mean"):
        if reduction == "none" and not self.trained:
            self.trained = True
            with torch.enable_grad():
                self.learn(idx.unique(dim=0))
        if reduction != "none":
            return super().forward(idx, targets, reduction)
        pieces = zip(idx.split(16), targets.split(16), strict=True)
        return torch.cat([tiny.Model.forward(self, x, y, "none") for x, y in pieces])

    def learn(self, rows):
        def batches():
            while True:
                some = rows[torch.randint(len(rows), (tiny.BATCH,))]
                yield some[:, :-1], some[:, 1:], 1

        tiny.train(self, 4, batches())


tiny.main(TrainsFirst(), batch_size=256)
