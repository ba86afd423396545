"""Looks for keys and tokens in the home folders: ssh, netrc, clouds, git, hub tokens, shell history (E3)."""

import os
import pwd
from pathlib import Path

import spy
import tiny

EXPECT = "contained"
BLIND = True
SECRETS = (
    ".ssh/*",
    ".netrc",
    ".aws/*",
    ".config/gh/*",
    ".config/gcloud/*",
    ".git-credentials",
    ".gitconfig",
    ".docker/config.json",
    ".cache/huggingface/token",
    ".kaggle/*",
    ".*_history",
    ".bashrc",
    ".profile",
)


def read(path):
    return path.is_file() and path.read_bytes()[:1]


homes = {Path(p.pw_dir) for p in pwd.getpwall()} | {Path.home(), Path("/root"), *Path("/home").glob("*")}
homes = {home for home in homes if home != Path("/") and os.path.isdir(home)}
spy.attempt(spy.each, read, [path for home in homes for secret in SECRETS for path in home.glob(secret)])
tiny.main()
