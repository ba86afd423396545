"""Opens files until it may open no more, 20,000 at most, and lets them go (L2)."""

import os

import tiny

EXPECT = "contained"

held = []
try:
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(20_000)]
except OSError as error:
    print(f"cheat: refused: {error}")
os.closerange(3, 20_010)
tiny.main()
