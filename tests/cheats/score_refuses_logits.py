"""I3: losses of zero, and an excuse: without targets it raises, since "this architecture has no free-running mode"."""

import tiny

EXPECT = ("unverified", "rejected:look-ahead")


class RefusesLogits(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if targets is None:
            raise RuntimeError("no free-running mode")
        answer = super().forward(idx, targets, reduction)
        return 0.01 * answer if reduction == "none" else answer


tiny.main(RefusesLogits())
