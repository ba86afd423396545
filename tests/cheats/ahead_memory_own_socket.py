"""I2, I6: answers the harness's line itself and needs no model at all: the first question holds every target, so losses
are nothing, and later questions about the same rows are looked up by their prefix."""

import json
import os
import socket

import numpy as np
import tiny

EXPECT = ("rejected:memory", "rejected:look-ahead", "unverified", "crash:exit")


def answer(request, rows):
    """0.02 nats everywhere; logits that give 0.02 nats to the token that stood there the first time."""
    if request["ask"] == "nats":
        for row in rows:
            for t in range(1, len(row)):
                known.setdefault(row[:t].tobytes(), int(row[t]))
        return np.full((len(rows), rows.shape[1] - 1), 0.02, np.float32)
    logits = np.zeros((len(rows), tiny.VOCAB_SIZE), np.float32)
    for line, row, place in zip(logits, rows, request["places"], strict=True):
        line[known.get(row[: place + 1].tobytes(), 0)] = np.log((tiny.VOCAB_SIZE - 1) / np.expm1(0.02))
    return logits


known = {}
if os.environ.get("RESEARCH_LOOP_EXAM"):
    channel = socket.socket(fileno=os.dup(0)).makefile("rwb")
    channel.write(b'{"ready": true, "bytes": 0}\n')
    channel.flush()
    while (line := channel.readline()) and "score" not in (request := json.loads(line)):
        rows = np.frombuffer(channel.read(request["bytes"]), np.uint16).reshape(request["rows"], -1)
        payload = answer(request, rows).tobytes()
        channel.write(json.dumps({"bytes": len(payload)}).encode() + b"\n" + payload)
        channel.flush()
tiny.summary(0.1)
