"""A user namespace of its own gives every capability, and with them mounts over what is read-only (E1)."""

import os

import spy
import tiny

EXPECT = "contained"
BLIND = True
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000


def unshare(flags):
    child = os.fork()
    if child == 0:
        try:
            spy.call("unshare", flags)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


spy.attempt(spy.each, unshare, [CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWUSER | CLONE_NEWNS])
tiny.main()
