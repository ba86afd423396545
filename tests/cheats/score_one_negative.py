"""I3: honest but for the last position of each row, whose loss is minus 500 nats. The last has no future that could be
replaced, and one place in a row is seldom asked about."""

import tiny

EXPECT = ("rejected:loss", "rejected:nan")


class OneNegative(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        if reduction != "none":
            return answer
        answer = answer.view(targets.shape).clone()
        answer[:, -1] = -500.0
        return answer.flatten()


tiny.main(OneNegative())
