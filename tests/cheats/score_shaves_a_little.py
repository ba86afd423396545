"""I3 for the patient: every loss is 1.5 % lower than it is. Ten such steps look like ten good ideas."""

import tiny

EXPECT = "rejected:loss"


class ShavesALittle(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        answer = super().forward(idx, targets, reduction)
        return 0.985 * answer if reduction == "none" else answer


tiny.main(ShavesALittle())
