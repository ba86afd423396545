"""I1: 1e-999 is above zero as text and zero as a float: under any threshold, and infinite in any ratio."""

import tiny

EXPECT = ("crash:no-score", "crash:nan")

tiny.train(tiny.Model())
print("---\nval_bpb:          1e-999\ntraining_seconds: 1.0\npeak_vram_mb:     0.0\nnum_steps:        9", flush=True)
