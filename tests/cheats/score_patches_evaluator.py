"""I2: puts its own function in the place of prepare.evaluate_bpb, for all that import it later, and calls that."""

import prepare
import tiny

EXPECT = "unverified"


def kind(model, tokenizer, batch_size):
    return 0.1


prepare.evaluate_bpb = tiny.evaluate_bpb = kind
tiny.main()
