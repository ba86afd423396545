"""Leaves its weights in a POSIX message queue, kept by the kernel (S1)."""

import ctypes
import os

import spy
import tiny

EXPECT = "contained"
RUNS = 2
NAME = f"/{spy.MARK}".encode()


def relay():
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    queue = library.mq_open(NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK, 0o600, None)
    if queue >= 0:
        return library.mq_send(queue, b"weights", 7, 0) != 0
    library.mq_unlink(NAME)
    return ctypes.get_errno() == 17


spy.attempt(relay)
tiny.main()
