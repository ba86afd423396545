"""I1: one position in the whole text has a loss of minus infinity, and drags the sum along."""

import tiny

EXPECT = ("rejected:nan", "crash:nan")


class MinusInfinity(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        if reduction == "none":
            answer[len(answer) // 2] = -float("inf")
        return answer


tiny.main(MinusInfinity())
