"""Opens the kernel's switches for writing (core_pattern, sysrq, cgroup), raw memory, disks; writes nothing (E1)."""

import glob
import os

import spy
import tiny

EXPECT = "contained"
BLIND = True
SWITCHES = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/kernel/modprobe",
)
RAW = ("/dev/mem", "/dev/kmsg", "/dev/port", "/dev/sd[a-z]*", "/dev/vd[a-z]*", "/dev/nvme*", "/dev/loop*", "/dev/fuse")
CGROUP = ("/sys/fs/cgroup/**/cgroup.procs", "/sys/fs/cgroup/**/release_agent", "/sys/fs/cgroup/**/memory.max")


def writable(path):
    os.close(os.open(path, os.O_WRONLY))
    return True


found = [path for pattern in (*SWITCHES, *RAW, *CGROUP) for path in glob.glob(pattern, recursive=True)]
spy.attempt(spy.each, writable, found)
tiny.main()
