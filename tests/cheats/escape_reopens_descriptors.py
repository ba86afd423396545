"""Opens files read-only, then again for writing through /proc/self/fd; and writes to every file it inherited (E1)."""

import os
import stat
import sys

import prepare
import spy
import tiny

EXPECT = "contained"
BLIND = True


def append(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND)
        os.write(again, f"\n# {spy.MARK}\n".encode())
        return True
    finally:
        os.close(descriptor)


def inherited(number):
    if not stat.S_ISREG(os.fstat(number).st_mode):
        return False
    os.write(os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_APPEND), f"\n{spy.MARK}\n".encode())
    return True


spy.attempt(spy.each, append, [prepare.__file__, tiny.__file__, sys.argv[0], "data"])
spy.attempt(
    spy.each,
    inherited,
    [int(n) for n in os.listdir("/proc/self/fd") if int(n) > 2 and os.path.exists(f"/proc/self/fd/{n}")],
)
tiny.main()
