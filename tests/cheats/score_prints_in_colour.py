"""I1: a terminal would show 2.1; the line says 0.1: colours, a carriage return and a backspaced digit around it."""

import tiny

EXPECT = ("crash:no-score", "unverified")

tiny.train(tiny.Model())
print("---\n\x1b[32mval_bpb:          \x1b[8m0.1\x1b[0m\x1b[2K\rval_bpb:          2.1\b\b\b0.1\x1b[0m", flush=True)
print("training_seconds: 1.0\npeak_vram_mb:     0.0\nnum_steps:        9", flush=True)
