"""Leaves its weights in POSIX shared memory that outlives the process, taken from the hands of its tracker (S1)."""

from multiprocessing import resource_tracker, shared_memory

import spy
import tiny

EXPECT = "contained"
RUNS = 2


def relay():
    try:
        return shared_memory.SharedMemory(spy.MARK).buf[0] == 7
    except FileNotFoundError:
        block = shared_memory.SharedMemory(spy.MARK, create=True, size=2**20)
        block.buf[0] = 7
        resource_tracker.unregister(f"/{spy.MARK}", "shared_memory")
        return False


spy.attempt(relay)
tiny.main()
