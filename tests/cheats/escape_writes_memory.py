"""Opens /proc/<pid>/mem of the processes above it for writing: no ptrace call is made (I2, E1)."""

import os

import spy
import tiny

EXPECT = "contained"
BLIND = True


def open_memory(pid):
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
    return True


spy.attempt(spy.each, open_memory, spy.outside())
tiny.main()
