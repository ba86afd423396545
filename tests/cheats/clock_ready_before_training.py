"""Says that it is ready before it has trained at all, keeps the harness waiting, and answers when it is done (T2)."""

import json
import os
import socket

import prepare
import tiny

EXPECT = ("overtime", "crash:timeout", "crash:exit", "crash:no-score", "unverified")

if os.environ.get("RESEARCH_LOOP_EXAM"):
    line = socket.socket(fileno=os.dup(0))
    line.sendall(json.dumps({"ready": True, "bytes": 0}).encode() + b"\n")
    said, prepare.send_message = prepare.send_message, lambda *words: None if "ready" in words[1] else said(*words)
os.nice(19)
tiny.torch.set_num_threads(1)
tiny.finish(tiny.train(tiny.Model(), seconds=22))
