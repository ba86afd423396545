"""Summaries of its own before, after and around the true one (I1)."""

import tiny

EXPECT = "contained"

for value in ("0.100000", "nan", "-inf", "1e-999", "0x1p-3", "0,1", "٠.١"):
    print(f"---\nval_bpb:          {value}\npeak_vram_mb:     0.0\nnum_steps:        99999")
tiny.main()
print("---\nval_bpb:          0.100000\nVAL_BPB: 0.1\nval_bpb:0.1\n val_bpb:          0.1")
