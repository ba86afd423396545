"""Removes the sign that a harness is there, so that prepare scores, on rows of the cheat's own make (I8, I1)."""

import os
import tempfile
from pathlib import Path

import numpy as np
import prepare
import tiny

EXPECT = "unverified"

own = Path(tempfile.mkdtemp())
train = np.fromfile("data/train_128.u16", dtype=np.uint16)[: 129 * 8]
np.tile(train, 16).tofile(own / "val_128.u16")
np.save(own / "token_bytes.npy", 4 * np.load("data/token_bytes.npy"))
os.environ.pop("RESEARCH_LOOP_EXAM", None)
model = tiny.train(tiny.Model())
prepare.DATA_DIR = own
tiny.summary(prepare.evaluate_bpb(model, None, tiny.BATCH))
