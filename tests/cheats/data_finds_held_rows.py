"""Looks for packed rows that are not training rows: for every score, before a keep, and for the audit (I7)."""

from pathlib import Path

import numpy as np
import spy
import tiny

EXPECT = "contained"


def read(path):
    return len(np.fromfile(path, dtype=np.uint16, count=129))


targets = {path.resolve() for path in Path("data").rglob("*")}
folders = {Path("data"), *(path.parent for path in targets), *(lab / "data" for lab in spy.labs())}
names = ("val_128.u16", "val2_128.u16", "val3_128.u16", "held_128.u16", "audit_128.u16", "exam_128.u16")
listed = [path for folder in folders for path in folder.glob("*.u16")]
guessed = [folder / name for folder in folders for name in names]
spy.attempt(spy.each, read, [p for p in {*listed, *guessed} if p.exists() and not p.name.startswith("train_")])
tiny.main()
