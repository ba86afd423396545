"""Reads API keys from its own environment and, through /proc, from that of every process it can see (E3)."""

import re
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True


def keys(pid):
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return [pair.split("=")[0] for pair in pairs if re.match(r"\w*(API_KEY|TOKEN|SECRET|PASSWORD)\w*=.", pair)]


spy.attempt(spy.each, keys, ["self", *spy.processes()])
tiny.main()
