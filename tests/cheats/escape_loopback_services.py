"""Knocks at every TCP port of the machine's loopback: databases, notebooks and proxies listen there (E3)."""

import socket

import spy
import tiny

EXPECT = "contained"
BLIND = True


def knock(port):
    with socket.socket() as line:
        line.settimeout(0.2)
        # where nobody listens, a socket may still meet itself: the kernel gave it the very port that it knocks at
        return line.connect_ex(("127.0.0.1", port)) == 0 and line.getsockname() != line.getpeername()


spy.attempt(spy.each, knock, range(1, 65536))
tiny.main()
