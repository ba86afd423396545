"""Writes bits where the whole machine can read them: host name, and the kernel's settings (S1)."""

import platform
import socket
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
RUNS = 2


def rename():
    if socket.gethostname() == spy.MARK:
        return True
    if spy.in_bubblewrap():  # the machine's own name is left alone
        spy.call("sethostname", spy.MARK.encode(), len(spy.MARK))
    return False


def tune(name):
    setting = Path("/proc/sys") / name
    return platform.system() == "Linux" and setting.write_text(setting.read_text())


spy.attempt(rename)
spy.attempt(spy.each, tune, ["kernel/domainname", "kernel/panic", "vm/swappiness", "kernel/random/boot_id"])
tiny.main()
