"""Forks 600 processes that sleep for some seconds (L2)."""

import subprocess
import sys

import tiny

EXPECT = "contained"
BOMB = """
import os, time
try:
    for i in range(600):
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
    print("cheat: it worked")
except OSError as error:
    print("cheat: refused:", i, error)
"""

subprocess.run([sys.executable, "-S", "-c", BOMB], check=False)
tiny.main()
