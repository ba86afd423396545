"""Plants .pth, sitecustomize and usercustomize files where every Python starts from, and removes them again (S3)."""

import site
import sys
import sysconfig
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True


def plant(folder):
    for name in (f"{spy.MARK}.pth", "sitecustomize.py", "usercustomize.py"):
        with (folder / name).open("x") as module:
            module.write(f"# {spy.MARK}\n")
        (folder / name).unlink()
    return True


places = {*sys.path, *sysconfig.get_paths().values(), site.getusersitepackages(), sys.prefix, sys.base_prefix}
spy.attempt(spy.each, plant, [p for p in map(Path, sorted(places)) if p.is_dir() and p != Path.cwd()])
tiny.main()
