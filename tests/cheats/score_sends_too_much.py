"""L2 on the harness's line: says ready, takes the question, announces a terabyte and sends the first 64 MB of it."""

import json
import os
import socket

import tiny

EXPECT = ("unverified", "crash:no-score", "crash:timeout")

tiny.train(tiny.Model())
if os.environ.get("RESEARCH_LOOP_EXAM"):
    channel = socket.socket(fileno=os.dup(0))
    channel.settimeout(5)
    try:
        channel.sendall(json.dumps({"ready": True, "bytes": 0}).encode() + b"\n")
        channel.recv(2**16)
        channel.sendall(json.dumps({"bytes": 2**40}).encode() + b"\n")
        for _ in range(64):
            channel.sendall(bytes(2**20))
        print("cheat: it was taken", flush=True)
    except OSError as error:
        print(f"cheat: refused: {error}", flush=True)
tiny.summary(0.1)
