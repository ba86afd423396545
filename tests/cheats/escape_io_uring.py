"""io_uring does reads, writes and connects past a filter that looks at system calls (E1, E3)."""

import ctypes

import spy
import tiny

EXPECT = "contained"
BLIND = True
IO_URING_SETUP = 425


def setup():
    return spy.call(IO_URING_SETUP, 4, ctypes.create_string_buffer(120)) > 2


spy.attempt(setup)
tiny.main()
