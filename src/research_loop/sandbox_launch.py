"""Turns into the run's sandbox: the last program of ours before code that nobody vouches for.

    python -I -S sandbox_launch.py PLAN COMMAND...

Standard library only and nothing of ours, like the keeper that starts it. PLAN is JSON, made by sandbox.py: the
seccomp filter, limits, and either nothing more (COMMAND is bubblewrap, which takes the filter from descriptor
FILTER) or the paths that Landlock is to leave open. Whatever the plan asks for is done or the run does not start.
Landlock's calls and structures: Linux, Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import struct
import sys
from typing import Any

FILTER = 200
"""The descriptor at which bubblewrap finds the seccomp filter."""

GROUP = "research-loop."
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of Landlock's system calls, the same on every architecture."""
GET_VERSION, PATH_BENEATH = 1, 1
OLDEST = 3
"""Landlock's version of Linux 6.2: the ones before let a process cut off files that it may not open."""
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 22, 24, 38
FILTER_MODE = 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEVICE = 1, 2, 4, 8, 1 << 14, 1 << 15
FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
MAKE_DEVICES = 1 << 6 | 1 << 11
READ = EXECUTE | READ_FILE | READ_DIR
RIGHTS = {
    "listed": READ_DIR,
    "readable": READ,
    "writable": (1 << 16) - 1 & ~MAKE_DEVICES,
    "devices": READ_FILE | WRITE_FILE | IOCTL_DEVICE,
    "own": READ | WRITE_FILE | TRUNCATE,
}
"""Rights by the plan's lists of paths."""
TCP, SIGNALS_AND_ABSTRACT_SOCKETS = 0b11, 0b11

libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int | bytes | None) -> int:
    """A system call; OSError when it is refused."""
    sized = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    answer: int = libc.syscall(ctypes.c_long(number), *sized)
    return checked(answer)


def prctl(option: int, *arguments: Any) -> int:
    sized = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0, 0, 0)[:4]]
    return checked(libc.prctl(option, *sized))


def checked(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def version() -> int:
    """Landlock's; OSError where it is too old to hold."""
    abi = call(CREATE_RULESET, None, 0, GET_VERSION)
    if abi < OLDEST:
        raise OSError(f"version {abi} of Landlock cannot stop truncation")
    return abi


def rights_of(abi: int) -> int:
    """Every file-system right that this kernel's Landlock can take away."""
    return (1 << (15 + (abi >= 5))) - 1


def ruleset(abi: int) -> int:
    """A descriptor for rules: no file, no TCP, no signal and no abstract socket beyond what is added to it."""
    attributes = struct.pack("=QQQ", rights_of(abi), TCP, SIGNALS_AND_ABSTRACT_SOCKETS)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    return call(CREATE_RULESET, attributes[:size], size, 0)


def allow(rules: int, path: str, rights: int) -> int:
    """Open `path`, and what is beneath a folder, to the run; returns a descriptor of it that reads nothing."""
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rights &= -1 if os.path.isdir(path) else FOR_FILES  # noqa: PTH112
    call(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
    return opened


def close_files(plan: dict[str, Any]) -> None:
    """Take every right on files away from this process and all its children but those that the plan names."""
    abi = version()
    rules = ruleset(abi)
    for kind, rights in RIGHTS.items():
        for path in plan[kind]:
            opened = allow(rules, path, rights & rights_of(abi))
            # a rule holds for as long as the kernel remembers the folder, and of /proc/<pid> it forgets unused ones
            os.set_inheritable(opened, kind == "own")
    call(RESTRICT_SELF, rules, 0)


def drop_capabilities() -> None:
    """Root without its powers: none is left after the next exec."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # beyond the last that this kernel knows
            return


def close_calls(program: bytes) -> None:
    """Load the seccomp filter into this process."""
    code = ctypes.create_string_buffer(program, len(program))
    prctl(PR_SET_SECCOMP, FILTER_MODE, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))


def offer_filter(program: bytes) -> None:
    """Put the seccomp filter where bubblewrap reads it."""
    memory = os.memfd_create("seccomp")
    os.write(memory, program)
    os.lseek(memory, 0, os.SEEK_SET)
    os.dup2(memory, FILTER)


def limit(plan: dict[str, Any]) -> None:
    """No core dumps; and under Landlock what stands in for a name space and a sized file system."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getuid() == 0:
        count_together(plan["processes"])
    if "file_bytes" in plan:
        lower(resource.RLIMIT_FSIZE, plan["file_bytes"])
        lower(resource.RLIMIT_NPROC, threads_of_user() + plan["processes"])


def lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def threads_of_user() -> int:
    """The kernel counts all threads of a user against the limit of any of the user's processes."""
    count = 0
    for name in os.listdir("/proc"):  # noqa: PTH208
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():  # noqa: PTH116
                with open(f"/proc/{name}/stat", "rb") as stat:
                    count += int(stat.read().rpartition(b")")[2].split()[17])
        except OSError:  # it has just ended
            continue
    return count


def count_together(processes: int) -> None:
    """Root is under no limit of its own but a control group's; where no such group can be had there is none.

    The group is named after this process, which becomes the run; groups of runs that ended are removed on the way.
    """
    try:
        parent = own_group()
        for name in os.listdir(parent):  # noqa: PTH208
            if name.startswith(GROUP) and not os.path.exists(f"/proc/{name.removeprefix(GROUP)}"):  # noqa: PTH110
                os.rmdir(f"{parent}/{name}")  # noqa: PTH106
        group = f"{parent}/{GROUP}{os.getpid()}"
        os.mkdir(group)  # noqa: PTH102
        write(f"{group}/pids.max", processes)
        write(f"{group}/cgroup.procs", os.getpid())
    except OSError:  # the doctor says what that means
        return


def own_group() -> str:
    """The folder of the group that counts this process, version 1 or 2; OSError when there is none."""
    with open("/proc/self/cgroup") as listing:
        groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in listing)
    if "pids" in groups:
        return "/sys/fs/cgroup/pids" + groups["pids"]
    group = "/sys/fs/cgroup" + groups.get("", "")
    write(f"{group}/cgroup.subtree_control", "+pids")
    return group


def write(path: str, value: object) -> None:
    with open(path, "w") as file:
        file.write(str(value))


def contain(plan: dict[str, Any], program: bytes) -> None:
    """Landlock, then seccomp: its filter would refuse nothing that comes before it."""
    os.mkdir(plan["scratch"], 0o700)  # noqa: PTH102
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() == 0:
        drop_capabilities()
    close_files(plan)
    close_calls(program)


def restore(locale: str) -> None:
    """Undo what Python's start may have done to the environment: a C locale is coerced to UTF-8 (PEP 538)."""
    os.environ.pop("LC_CTYPE", None)
    if locale:
        os.environ["LC_CTYPE"] = locale


def main() -> None:
    plan, command = json.loads(sys.argv[1]), sys.argv[2:]
    program = base64.b64decode(plan["filter"])
    restore(plan["locale"])
    try:
        limit(plan)
        if "scratch" in plan:
            contain(plan, program)
        else:
            offer_filter(program)
        os.execvp(command[0], command)
    except (OSError, ValueError) as error:
        print(f"sandbox: {command[0]}: not started: {error}", file=sys.stderr)
        os._exit(126)


if __name__ == "__main__":
    main()
