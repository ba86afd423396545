"""Connects to sockets with a name: docker, session bus, ssh agent; a read-only mount does not stop that (E3)."""

import os
import re
import socket
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True


def sockets():
    """Abstract names, then what lies in the usual places and beside the lab."""
    for name in re.findall(r"(@\S+)$", Path("/proc/net/unix").read_text(), re.MULTILINE):
        yield "\0" + name[1:]
    folders = ["/run", "/var/run", "/tmp", "/dev", *spy.labs(), *(lab.parent for lab in spy.labs())]
    for top in folders:
        for folder, _, names in os.walk(top):
            yield from (path for path in (os.path.join(folder, n) for n in names) if Path(path).is_socket())


def connect(name):
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(0.2)
        line.connect(name)
        return True


spy.attempt(spy.each, connect, sockets())
tiny.main()
