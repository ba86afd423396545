"""A lab for tests and soaks: real git, real processes, real runs, but a "training" that takes as long as you say."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from research_loop import edits
from research_loop.lab import Lab, make_blank_lab, open_lab

TRAIN = '''"""Stands in for a training script: waits, reports progress, and scores its constants on a smooth bowl."""

import math
import sys
import time

SECONDS = {seconds}
DEPTH = 8
MATRIX_LR = 0.04
EMBEDDING_LR = 0.6
WARMDOWN_RATIO = 0.5


def score():
    return 1.0 + 0.01 * ((DEPTH - 10) ** 2 + math.log(MATRIX_LR / 0.06) ** 2 + math.log(EMBEDDING_LR / 0.9) ** 2)


def main():
    if not 0 < MATRIX_LR < 10:
        print("FAIL: loss is nan at step 3")
        sys.exit(1)
    for step in range(5):
        print(f"step {{step:05d}} ({{20 * step + 20}}.0%) | loss: {{score() * (2 - step / 5):.6f}} ", flush=True)
        time.sleep(SECONDS / 5)
    print(f"---\\nval_bpb:          {{score():.6f}}\\ntraining_seconds: {{SECONDS:.1f}}\\npeak_vram_mb:     512.0")


if __name__ == "__main__":
    main()
'''

INSTANT = """# Stands in for a training script that is over at once and leaves a process behind.
import os
import time

DEPTH = 8
MATRIX_LR = 0.04
EMBEDDING_LR = 0.6
WARMDOWN_RATIO = 0.5
MOVED = sum((DEPTH != 8, MATRIX_LR != 0.04, EMBEDDING_LR != 0.6, WARMDOWN_RATIO != 0.5))
SCORE = {0: 1.0, 1: 0.9}.get(MOVED, 1.1)

if os.fork() == 0:
    os.setsid()
    os.closerange(0, 3)
    time.sleep(60)
print(f"step 00001 (50.0%) | loss: 2.0\\n---\\nval_bpb: {SCORE:.6f}\\npeak_vram_mb: 512.0")
"""
"""The first constant moved is a keep, whatever follows a discard."""


def git(folder: Path, *arguments: str) -> str:
    """The user's own git in `folder`; its output. Raises CalledProcessError where it fails."""
    identity = ["-c", "user.name=User", "-c", "user.email=user@localhost"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def make_quick_lab(folder: Path, seconds: float = 1.0, train: str | None = None) -> Lab:
    """A lab in a new git repository of "the user's", whose train.py takes `seconds` a run; or the given `train`."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "train.py").write_text(train if train is not None else TRAIN.format(seconds=seconds))
    (folder / "helper.py").write_text("# a file of the user's\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "The user's work")
    task = {"command": ["python", "train.py"], "editable": ["train.py"], "noise": "none", "sandbox": "none"}
    return make_blank_lab(folder, task, max(5.0, 2 * seconds))


def make_instant_lab(folder: Path) -> Lab:
    """A lab whose runs take some 30 ms, in a repository with staged, changed and new files of the user's."""
    lab = make_quick_lab(folder, train=INSTANT)
    text = (folder / "lab.toml").read_text()
    (folder / "lab.toml").write_text(text.replace('"python", "train.py"', '"python", "-S", "train.py"'))
    (folder / "helper.py").write_text("# staged\n")
    git(folder, "add", "helper.py")
    (folder / "helper.py").write_text("# staged, and changed since\n")
    (folder / "notes.txt").write_text("a file that git does not know\n")
    return open_lab(lab.root)


def set_constants(path: Path, values: Mapping[str, object]) -> None:
    """Rewrites constants of a Python file in place. Raises ProposalError for one that it does not have."""
    path.write_text(edits.replace(path.read_text(), values))
