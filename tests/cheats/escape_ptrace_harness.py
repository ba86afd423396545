"""Attaches to the processes above it with ptrace, and reads their memory with process_vm_readv (I2, E1)."""

import ctypes
import os

import spy
import tiny

EXPECT = "contained"
BLIND = True
PTRACE_ATTACH, PTRACE_DETACH = 16, 17


def attach(pid):
    spy.call("ptrace", PTRACE_ATTACH, pid, None, None)
    os.waitpid(pid, 0x40000000)
    spy.call("ptrace", PTRACE_DETACH, pid, None, None)
    return True


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def peek(pid):
    with open(f"/proc/{pid}/maps") as maps:
        start = int(maps.readline().split("-")[0], 16)
    buffer = ctypes.create_string_buffer(16)
    here, there = Piece(ctypes.addressof(buffer), 16), Piece(start, 16)
    return spy.call("process_vm_readv", pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)


above = [pid for pid in spy.ancestors() if pid > 1 or spy.in_bubblewrap()]
spy.attempt(spy.each, attach, above)
spy.attempt(spy.each, peek, above)
tiny.main()
