"""Leaves its weights in the caches of torch, Inductor, Triton, CUDA, the hub and XDG (S1)."""

import os
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
RUNS = 2
NAMES = (
    "TORCH_HOME",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "CUDA_CACHE_PATH",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "MPLCONFIGDIR",
    "PYTHONPYCACHEPREFIX",
)

home = Path.home()
usual = [home / ".cache" / name for name in ("torch", "huggingface", "autoresearch")] + [home / ".triton", home / ".nv"]
spy.attempt(spy.relay, "caches", *(os.environ[name] for name in NAMES if name in os.environ), *usual)
tiny.main()
