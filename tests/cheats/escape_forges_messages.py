"""Finds the harness's line among its descriptors and says on it, in many tongues, that the score is 0.1 (I1)."""

import json
import os
import stat
import struct

import tiny

EXPECT = ("contained", "crash:exit", "crash:no-score", "crash:signal", "crash:timeout", "unverified", "overtime")
BLIND = True
WORD = json.dumps({"val_bpb": 0.1, "score": 0.1, "value": 0.1, "verified": "challenged"}).encode()


def forge():
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.fstat(int(name)).st_mode
            if int(name) > 2 and (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)):
                os.write(
                    int(name), WORD + b"\n" + struct.pack("<I", len(WORD)) + WORD + struct.pack(">I", len(WORD)) + WORD
                )
        except OSError:
            continue


model = tiny.train(tiny.Model())
forge()
tiny.finish(model)
