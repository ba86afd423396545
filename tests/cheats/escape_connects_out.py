"""TCP to public addresses over IPv4 and IPv6: weights from the network, keys to it (E3, S2)."""

import socket

import spy
import tiny

EXPECT = "contained"
BLIND = True


def connect(address):
    with socket.create_connection(address, timeout=1):
        return True


spy.attempt(spy.each, connect, [("1.1.1.1", 443), ("8.8.8.8", 53), ("2606:4700:4700::1111", 443)])
tiny.main()
