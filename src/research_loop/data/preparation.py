"""From `--data` to a lab that is ready to train: shards first, then the lab's own prepare.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from research_loop.data.sources import collect, intact
from research_loop.errors import DataError
from research_loop.exam import set_exam
from research_loop.lab import Lab


@dataclass(frozen=True, slots=True)
class CountModels:
    """Validation bits per byte of models that only count: what a network must beat."""

    unigram_bpb: float
    bigram_bpb: float


def prepare_lab(lab: Lab, *, pinned: str | None = None, say: Callable[[str], None] = print) -> CountModels | None:
    """Gets the documents and packs the rows, or sees in a moment that both are there; a lab without data has none.

    With `pinned`, the digest of a baseline's data, that data is taken as it is, wherever its source went. Raises
    DataError in one line when anything fails; what was finished is kept.
    """
    if lab.config.source is None:
        return None
    if pinned is None or data_digest(lab) != pinned or not intact(lab.shards):
        collect(lab.config.source, lab.shards, num_shards=lab.config.num_shards, say=say)
    if not (lab.root / "prepare.py").exists():
        place = lab.root / "prepare.py"
        raise DataError(f"{place}: is not there, but lab.toml has [data]: put it back, or take [data] out")
    if not _is_fresh(lab):
        _run_prepare(lab, say)
    if few := _few_held_rows(lab):
        say(few)
    return count_models(lab)


def _few_held_rows(lab: Lab) -> str:
    """What is missing where no rows are held back that would give a memory away; "" where there are enough."""
    from research_loop.challenge import FEWEST_HELD_ROWS

    exam = set_exam(lab.root / "data", seed=0)
    if lab.config.score == "run" or exam is None or exam.held[1] - exam.held[0] >= FEWEST_HELD_ROWS:
        return ""
    fact = f"{lab.root / 'data'}: too little validation text: {exam.held[1] - exam.held[0]} rows of it are never sent"
    return f"{fact}, and {FEWEST_HELD_ROWS} would show a run that remembers what it is scored on: give more text"


def count_models(lab: Lab) -> CountModels | None:
    """The count models' scores that prepare.py wrote down, if it ran."""
    try:
        report = json.loads((lab.root / "data" / "prepared.json").read_text())
        return CountModels(float(report["unigram_bpb"]), float(report["bigram_bpb"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def data_digest(lab: Lab) -> str | None:
    """Of the shards and constants that the prepared rows are made of; None where nothing is prepared."""
    return _reported(lab, "of")


def cuts_digest(lab: Lab) -> str | None:
    """Which validation rows are scored, held back and for audits; None where no prepare.py says so."""
    return _reported(lab, "cuts")


def _reported(lab: Lab, key: str) -> str | None:
    """One entry of what prepare.py wrote down, as text that compares."""
    try:
        return json.dumps(json.loads((lab.root / "data" / "prepared.json").read_text())[key], sort_keys=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_fresh(lab: Lab) -> bool:
    """Whole, and newer than shards and prepare.py: spares the seconds of starting torch to hear just that."""
    done = lab.root / "data" / "prepared.json"
    made_from = (lab.shards / "shards.json", lab.root / "prepare.py")
    try:
        sizes = json.loads(done.read_text())["files"]
        whole = all((done.parent / name).stat().st_size == size for name, size in sizes.items())
        return whole and all(path.stat().st_mtime_ns <= done.stat().st_mtime_ns for path in made_from)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _run_prepare(lab: Lab, say: Callable[[str], None]) -> None:
    say("training the tokenizer and packing rows ...")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "prepare.py"],
        cwd=lab.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        last = ""
        try:
            for line in process.stdout:
                last = line.rstrip() or last
                say(line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise DataError(f"{lab.root / 'prepare.py'}: ended with {process.returncode} ({last}): mend that, start again")
