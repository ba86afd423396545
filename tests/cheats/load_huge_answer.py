"""Announces an answer of a terabyte (L2)."""

import os

import prepare
import tiny

EXPECT = ("unverified", "crash:no-score", "crash:exit", "crash:timeout")


def send(channel, header, payload=b""):
    channel.write(b'{"ready": true, "bytes": 0}\n' if "ready" in header else b'{"bytes": 1099511627776}\n')
    channel.flush()


prepare.send_message = send
try:
    tiny.main()
finally:
    print("val_bpb: 0.100000", flush=True)
    os._exit(0)
