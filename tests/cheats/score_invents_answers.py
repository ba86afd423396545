"""I2, E1: takes the harness's line for itself and answers every question with whatever it holds for a good score."""

import json
import os
import socket

import numpy as np
import tiny

EXPECT = ("rejected:loss", "rejected:look-ahead", "rejected:memory", "unverified", "crash:exit")


def invent(request):
    """The bytes of an answer: 0.1 nats everywhere, and logits that like some token or other."""
    rows = np.frombuffer(channel.read(request["bytes"]), np.uint16).reshape(request["rows"], -1)
    if request["ask"] == "nats":
        return np.full((len(rows), rows.shape[1] - 1), 0.1, np.float32).tobytes()
    return np.random.default_rng(0).normal(size=(len(rows), tiny.VOCAB_SIZE)).astype(np.float32).tobytes()


def say(header, payload=b""):
    channel.write(json.dumps({**header, "bytes": len(payload)}).encode() + b"\n" + payload)
    channel.flush()


if os.environ.get("RESEARCH_LOOP_EXAM"):
    channel = socket.socket(fileno=os.dup(0)).makefile("rwb")
    say({"ready": True})
    while (line := channel.readline()) and "score" not in (request := json.loads(line)):
        say({}, invent(request))
tiny.summary(0.1)
