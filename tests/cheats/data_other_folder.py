"""Points prepare at a data folder of its own, where one easy sentence is all the validation there is (I8, D7 g)."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import prepare
import tiny

EXPECT = "contained"

own = Path(tempfile.mkdtemp()) / "data"
shutil.copytree("data", own)
np.tile(np.arange(4, 133, dtype=np.uint16), 64).tofile(own / "val_128.u16")
prepare.DATA_DIR = own
os.environ["RESEARCH_LOOP_DATA"] = json.dumps(str(own))
tiny.main()
