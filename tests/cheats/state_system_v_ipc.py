"""Leaves its weights in System V shared memory and a message queue, which belong to no process (S1)."""

import ctypes

import spy
import tiny

EXPECT = "contained"
RUNS = 2
KEY, CREATE, EXCLUSIVE, REMOVE = 0x7C6CC01, 0o1000, 0o2000, 0


def relay(kind):
    """True when the former run's is there; it is removed then."""
    arguments = (KEY, 2**16) if kind == "shm" else (KEY,)
    try:
        number = spy.call(f"{kind}get", *arguments, CREATE | EXCLUSIVE | 0o600)
        print(f"cheat: {kind} {number} is left")
        return False
    except FileExistsError:
        number = spy.call(f"{kind}get", *arguments, 0o600)
        spy.call(f"{kind}ctl", number, REMOVE, ctypes.c_void_p())
        return True


spy.attempt(spy.each, relay, ["shm", "msg"])
tiny.main()
