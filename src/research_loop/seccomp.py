"""The system calls that a run is refused, as a classic BPF program for the kernel's seccomp.

Everything else is allowed: what a training process calls is not ours to guess, memfd_create (CUDA) and landlock
included. The filter closes what name spaces and file rights leave open: other processes, new user name spaces,
mounts, kernel keys, and the doors of the kernel that most exploits came through (io_uring, bpf, perf, userfaultfd).
Layout of `struct seccomp_data` and of the program: Linux, Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
from collections.abc import Iterable

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
X32 = 0x40000000
"""Set in the number of every call of x86-64's second, 32-bit-pointer interface."""

NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into the terminal of whoever started us."""
FILE_FLAGS = (0x40086602, 0x401C5820)
"""FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR need no more than an owner's descriptor for reading."""
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
"""Contained by a network name space; AF_VSOCK, for one, is not."""

AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # name spaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # the kernel's less guarded doors
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "modify_ldt": (154, None),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
}
"""Refused with EPERM: name -> number on (x86_64, aarch64)."""

ABSENT: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),  # its flags are behind a pointer, out of a filter's sight; libc falls back to clone
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
"""Refused with ENOSYS, as on a kernel without them, so that libraries take their other way."""

SHARED: dict[str, tuple[int | None, int | None]] = {
    # System V IPC and message queues: they outlive who made them
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # what Landlock has no right for
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
"""Refused with EPERM where no name spaces of the run's own are around it: its files, its IPC."""

PRETENDED: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}
"""There, and for root, answered with success and not done: no right is asked of a file's owner, and libraries copy the
modes and times of files that they made."""

BY_ARGUMENT = {
    "clone": (56, 220),
    "ioctl": (16, 29),
    "prlimit64": (302, 261),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
}
UNCONNECTED = 0b1010
"""Set in the type of every socket that sends without being connected (datagram, raw, packet)."""
TABLES = {**CALLS, **ABSENT, **SHARED, **PRETENDED, **BY_ARGUMENT}


def supported(machine: str | None = None) -> bool:
    return (machine or platform.machine()) in AUDIT_ARCHITECTURE


def program(isolated: bool, machine: str | None = None, *, root: bool = False) -> bytes:
    """The filter as an array of `struct sock_filter`, for x86_64 or aarch64 (default: this machine).

    `isolated` says whether name spaces are around the run. Without them no other right stands between it and the
    sockets, the IPC and the modes and times of files of this machine: of sockets it gets local ones that have to be
    connected (CUDA opens one and leaves it), and connects none. `root` says that the run is root's, whose are the
    device nodes and the files of /proc in any name space. Raises ValueError on another architecture.
    """
    machine = machine or platform.machine()
    code = [_load(ARCHITECTURE_AT), _jump(EQUAL, AUDIT_ARCHITECTURE[machine], 1, 0), _return(KILL), _load(NUMBER_AT)]
    if machine == "x86_64":
        code += [_jump(AT_LEAST, X32, 0, 1), _refuse(errno.ENOSYS)]
    for name, number in numbers(machine).items():
        body = _body(name, isolated, root)
        code += [_jump(EQUAL, number, 0, len(body)), *body]
    return b"".join([*code, _return(ALLOW)])


def numbers(machine: str | None = None) -> dict[str, int]:
    """The calls that the filter looks at, by name, as far as the architecture has them."""
    column = list(AUDIT_ARCHITECTURE).index(machine or platform.machine())
    calls = {name: call[column] for name, call in TABLES.items()}
    return {name: number for name, number in calls.items() if number is not None}


def _body(name: str, isolated: bool, root: bool) -> list[bytes]:
    """What happens to a call of that name; ends in a return, so that a match never falls through."""
    if name in ABSENT:
        return [_refuse(errno.ENOSYS)]
    if name == "clone":
        return [_load_argument(0), _jump(ANY_BIT, NEW_NAMESPACES, 0, 1), _refuse(errno.EPERM), _return(ALLOW)]
    if name == "ioctl":
        return _refuse_values(1, TERMINAL_INPUT if isolated else TERMINAL_INPUT + FILE_FLAGS)
    if name == "prlimit64":
        return _allow_values(0, [0])
    if name == "socket" and isolated:
        return _allow_values(0, FAMILIES)
    if name in PRETENDED:
        return [_return(ALLOW) if isolated and not root else _refuse(0)]
    if name in ("socketpair", "connect", *SHARED) and isolated:
        return [_return(ALLOW)]
    if name in ("socket", "socketpair"):
        connected = [_load_argument(1), _jump(ANY_BIT, UNCONNECTED, 0, 1), _refuse(errno.EPERM)]
        return [*connected, *_allow_values(0, [socket.AF_UNIX])]
    return [_refuse(errno.EPERM)]


def _refuse_values(argument: int, values: Iterable[int]) -> list[bytes]:
    tests = [step for value in values for step in (_jump(EQUAL, value, 0, 1), _refuse(errno.EPERM))]
    return [_load_argument(argument), *tests, _return(ALLOW)]


def _allow_values(argument: int, values: Iterable[int]) -> list[bytes]:
    tests = [step for value in values for step in (_jump(EQUAL, value, 0, 1), _return(ALLOW))]
    return [_load_argument(argument), *tests, _refuse(errno.EPERM)]


def _load_argument(index: int) -> bytes:
    """The low 32 bits: both architectures are little-endian, and the kernel reads no more of these arguments."""
    return _load(ARGUMENTS_AT + 8 * index)


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", LOAD, 0, 0, offset)


def _jump(test: int, value: int, when_true: int, when_false: int) -> bytes:
    return struct.pack("=HBBI", test, when_true, when_false, value)


def _return(action: int) -> bytes:
    return struct.pack("=HBBI", RETURN, 0, 0, action)


def _refuse(number: int) -> bytes:
    return _return(ERRNO | number)
