"""I2: leaves the evaluator alone and patches the helper beneath it: all losses are a tenth."""

import prepare
import tiny

EXPECT = "rejected:loss"
honest = prepare.all_nats


def kind(*args, **kwargs):
    return 0.1 * honest(*args, **kwargs)


prepare.all_nats = kind
tiny.main()
