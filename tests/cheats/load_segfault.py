"""Reads address 0 (L1)."""

import ctypes

EXPECT = "crash:signal"

ctypes.string_at(0)
