"""Remounts what is read-only as writable, by the old mount call and by the new mount_setattr; unmounts covers (E1)."""

import ctypes
import re
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True
MS_REMOUNT, MS_BIND, MNT_DETACH, MOUNT_SETATTR, AT_FDCWD = 32, 4096, 2, 442, -100


def remount(place):
    spy.call("mount", None, place.encode(), None, MS_REMOUNT | MS_BIND, None)
    return True


def setattr_(place):
    clear_readonly = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    spy.call(MOUNT_SETATTR, AT_FDCWD, place.encode(), 0, clear_readonly, ctypes.c_size_t(32))
    return True


def uncover(place):
    spy.call("umount2", place.encode(), MNT_DETACH)
    return True


mounts = re.findall(r"^\S+ \S+ \S+ \S+ (\S+) ", Path("/proc/self/mountinfo").read_text(), re.MULTILINE)
ours = [place for place in mounts if not place.startswith(("/proc", "/dev", "/sys"))]
inside = [place for place in ours if Path.cwd().is_relative_to(place)]
if spy.in_bubblewrap():
    spy.attempt(spy.each, remount, inside)
    spy.attempt(spy.each, setattr_, inside)
    spy.attempt(spy.each, uncover, ["/tmp", "/dev/shm"])
tiny.main()
