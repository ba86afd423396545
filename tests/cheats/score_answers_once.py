"""I1, I3: lets the harness have the losses of its first question, all low, and when the second comes, which could
convict, prints a score of its own and ends well, as a run does that was interrupted by nothing."""

import os

import prepare
import tiny

EXPECT = ("unverified", "crash:no-score", "rejected:loss")
honest = prepare.all_nats


def once(*args):
    if asked:
        tiny.summary(0.1)
        os._exit(0)
    asked.append(True)
    return 0.1 * honest(*args)


asked = []
prepare.all_nats = once
tiny.main()
