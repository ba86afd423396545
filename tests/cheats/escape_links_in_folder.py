"""Puts links to the ledger, to git and to / in place of the folder's own files: the harness may follow them (E1)."""

import os
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True


def relink(name):
    aside = Path(f"{spy.MARK}-{name}")
    os.rename(name, aside)
    for lab in spy.labs() or [Path("/")]:
        target = lab / ".research-loop" / "ledger.sqlite"
        Path(name).symlink_to(target if target.exists() else lab)
        break
    return True


names = ["run.log", "train.py", "prepare.py", "tiny.py", "data", "results.tsv"]
spy.attempt(spy.each, relink, [name for name in names if os.path.lexists(name)])
tiny.main()
