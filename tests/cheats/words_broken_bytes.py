"""Bytes that are no text: invalid UTF-8, surrogates, NUL, half a character at the end (E4, L1)."""

import sys

import tiny

EXPECT = "contained"
BYTES = (
    b"\xff\xfe\x00\x80\xc0\xaf\xed\xa0\x80\xf5\x90\x80\x80 \x00val_bpb: 0.1\x00\n" + bytes(range(256)) + b"\n\xe2\x82"
)

sys.stdout.buffer.write(BYTES)
tiny.main()
sys.stdout.buffer.write(BYTES)
