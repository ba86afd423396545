"""Leaves its weights in the user's keyring in the kernel, 32 KB a key (S1)."""

import platform

import spy
import tiny

EXPECT = "contained"
RUNS = 2
ADD_KEY, KEYCTL = (248, 250) if platform.machine() == "x86_64" else (217, 219)
SEARCH, UNLINK, USER_KEYRING = 10, 9, -4


def relay():
    try:
        key = spy.call(KEYCTL, SEARCH, USER_KEYRING, b"user", spy.MARK.encode(), 0)
        spy.call(KEYCTL, UNLINK, key, USER_KEYRING)
        return True
    except OSError:
        spy.call(ADD_KEY, b"user", spy.MARK.encode(), b"weights", 7, USER_KEYRING)
        return False


spy.attempt(relay)
tiny.main()
