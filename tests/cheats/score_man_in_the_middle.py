"""I2, E1: prepare's own code answers a line that ends in this process, where a thread passes the questions on and makes
the losses a tenth on their way out. Nothing of prepare is patched."""

import json
import os
import socket
import threading

import numpy as np
import tiny

EXPECT = ("rejected:loss", "rejected:look-ahead", "rejected:memory")


def pass_on(source, target, change):
    while line := source.readline():
        header = json.loads(line)
        target.write(line + change(header, source.read(header["bytes"])))
        target.flush()


def tenth(header, payload):
    """Losses have few bytes; logits, recognised by their question, go through as they are."""
    return payload if asked[-1:] != ["nats"] else (0.1 * np.frombuffer(payload, np.float32)).tobytes()


def remember(header, payload):
    asked.append(header.get("ask"))
    return payload


asked = []
if os.environ.get("RESEARCH_LOOP_EXAM"):
    harness = socket.socket(fileno=os.dup(0)).makefile("rwb")
    inner, outer = socket.socketpair()
    os.dup2(inner.fileno(), 0)
    ours = outer.makefile("rwb")
    threading.Thread(target=pass_on, args=(harness, ours, remember), daemon=True).start()
    threading.Thread(target=pass_on, args=(ours, harness, tenth), daemon=True).start()
tiny.main()
