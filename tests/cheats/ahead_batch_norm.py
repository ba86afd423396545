"""I5, the honest mistake: BatchNorm over batch and time that still takes the statistics of what it is shown at
evaluation. Every position hears a little of all later ones and of the other rows; here it gains nothing by it, yet its
score is not that of a model that is given a prefix."""

import tiny
import torch.nn.functional as F

EXPECT = "rejected:look-ahead"
BLIND = True


class BatchNorm(tiny.Model):
    def norm(self, x):
        return F.batch_norm(x.flatten(0, 1), None, None, training=True).view_as(x)


tiny.main(BatchNorm())
