"""L2 on the harness's line: a megabyte of noise without a newline, then a score by word of mouth."""

import os
import socket

import tiny

EXPECT = ("unverified", "crash:no-score", "crash:timeout")

tiny.train(tiny.Model())
if os.environ.get("RESEARCH_LOOP_EXAM"):
    line = socket.socket(fileno=os.dup(0))
    line.settimeout(5)
    try:
        line.sendall(os.urandom(2**20).replace(b"\n", b" "))
        print("cheat: it was taken", flush=True)
    except OSError as error:
        print(f"cheat: refused: {error}", flush=True)
tiny.summary(0.1)
