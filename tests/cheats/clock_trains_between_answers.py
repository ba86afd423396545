"""T1: commits to a score, and goes on training before it answers the challenges."""

import time

import tiny

EXPECT = ("overtime", "rejected:look-ahead")


class Restless(tiny.Model):
    asked = 0

    def forward(self, idx, targets=None, reduction="mean"):
        if reduction == "none":
            self.asked += 1
            if self.asked == 17:  # the first question is over: 128 rows, 8 at a time
                time.sleep(30)
        return super().forward(idx, targets, reduction)


tiny.main(Restless())
