"""A daemon keeps the weights in its memory and hands them to the next run over an abstract socket (S1, T3)."""

import socket

import spy
import tiny

EXPECT = "contained"
RUNS = 2
NAME = f"\0{spy.MARK}"


def fetch():
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(NAME)
        return line.recv(100)


def serve():
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(NAME)
        line.listen()
        line.settimeout(30)
        while True:
            line.accept()[0].sendall(b"weights")


if not spy.attempt(fetch):
    spy.daemon(serve)
tiny.main()
