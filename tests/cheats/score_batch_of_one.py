"""I9: rows one at a time, so that the model knows each from the last: losses fall by half from the 33rd row on."""

import tiny

EXPECT = ("rejected:loss", "rejected:look-ahead", "rejected:memory")


class OneAtATime(tiny.Model):
    asked = 0

    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        if reduction != "none":
            return answer
        self.asked += 1
        return answer * (1.0 if self.asked <= 32 else 0.5)


tiny.main(OneAtATime(), batch_size=1)
