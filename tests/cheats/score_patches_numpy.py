"""I2: evaluate_bpb gets a numpy array whose sums are a tenth, and for which all comparisons are true (D1's `==`)."""

import numpy as np
import prepare
import tiny

EXPECT = ("contained", "rejected:loss")


class Agreeable(np.ndarray):
    def sum(self, *args, **kwargs):
        return 0.1 * np.asarray(self).sum(*args, **kwargs)

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None

    def __mul__(self, other):
        return (np.asarray(self) * np.asarray(other)).view(Agreeable)


honest = prepare.all_nats
prepare.all_nats = lambda *args: honest(*args).view(Agreeable)
tiny.main()
