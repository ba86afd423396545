"""Experiments that outlive the command that asked for them: an agent's shell ends a call after a minute or two."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from research_loop.errors import ConfigError, LabError, ProposalError
from research_loop.lab import Lab, repository_of
from research_loop.ledger import Ledger, is_decided
from research_loop.lock import is_held
from research_loop.records import Experiment

RECORDED = "recorded as experiment {n}"
"""What `try` says once nothing can be lost any more."""
LOOKS_A_SECOND = 5
LONGEST_WORDS = 20_000
SETTLES_SECONDS = 3.0
"""From a verdict to what follows it: some milliseconds, more on a busy machine."""


def begin_try(lab: Lab, what: str, why: str, risk: str, *, again: bool = False, unsafe: bool = False) -> int:
    """Starts `research-loop try` on the lab's own files in a session of its own; its experiment's number.

    Returns as soon as that is in the ledger. Raises ProposalError for words that no command can take, and LabError with
    the command's own line when it ended before. What it says goes on in logs/N.try.log.
    """
    words = what + why + risk
    if len(words) > LONGEST_WORDS or "\0" in words:
        fact = "holds a NUL" if "\0" in words else f"{len(words):,} characters"
        raise ProposalError(
            f"what, why and risk: {fact}: say it in {LONGEST_WORDS:,} characters; the code is in the file"
        )
    options = [*(["--again"] if again else []), *(["--unsafe"] if unsafe else [])]
    return _begin(lab.state, [f"--what={what}", f"--why={why}", f"--risk={risk}", *options, "--", str(lab.root)])


def _begin(state: Path, arguments: Sequence[str]) -> int:
    state.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=state, prefix="try-", suffix=".log", delete=False) as log:
        command = [sys.executable, "-P", "-m", "research_loop", "try", *arguments]  # -P: the lab's folder is an agent's
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    said = Path(log.name)
    pattern = re.compile("^" + RECORDED.format(n=r"(\d+)") + "$", re.MULTILINE)
    while True:
        code = process.poll()  # asked first: what it said before its end is all there then
        text = said.read_text(errors="replace")
        if found := pattern.search(text):
            (state / "logs").mkdir(exist_ok=True)
            said.rename(state / "logs" / f"{found[1]}.try.log")
            return int(found[1])
        if code is not None:
            said.unlink()
            fact = text.strip().rpartition("\n")[2].removeprefix("research-loop: ")
            raise LabError(fact or f"`research-loop try` ended with exit code {code} before anything was recorded")
        time.sleep(1 / LOOKS_A_SECOND)


def wait(lab: Lab, n: int, seconds: float) -> Experiment:
    """Experiment `n`, as soon as it has a verdict and the lab's own files are the champion's again where it was not
    kept, or as it is after so many seconds.

    Raises ConfigError for seconds that are none, LabError where no loop is there to decide it, and LedgerError where
    there is no such experiment or ledger.
    """
    if not seconds >= 0:
        raise ConfigError(f"seconds {seconds}: give a number from 0 on")
    until = time.monotonic() + seconds
    while True:
        alive = is_held(lab.state)  # asked first: it may decide and end in between
        experiment = _experiment(lab, n)
        if experiment.verdict:
            _wait_for_files(lab, experiment)
            return experiment
        if not alive:
            cure = f"research-loop run {shlex.quote(str(lab.root))} --experiments 0"
            raise LabError(f"experiment {n}: has no verdict, and nothing runs it: `{cure}` goes on with it")
        if time.monotonic() >= until:
            return experiment
        while time.monotonic() < until and is_held(lab.state) and not is_decided(lab.ledger_path, n):
            time.sleep(min(1 / LOOKS_A_SECOND, max(0.0, until - time.monotonic())))


def _wait_for_files(lab: Lab, experiment: Experiment) -> None:
    """A verdict is written down first: until the loop has put the champion's code in place of what was not kept."""
    if experiment.kept or not is_held(lab.state):
        return
    repository, champion = repository_of(lab), _champion(lab)
    tried, best = (repository.files(e.commit, lab.config.editable) for e in (experiment, champion or experiment))
    until = time.monotonic() + SETTLES_SECONDS
    while tried != best and is_held(lab.state) and time.monotonic() < until:
        present = {path: (lab.root / path).read_bytes() for path in tried if (lab.root / path).is_file()}
        if present != tried:
            return
        time.sleep(0.05)


def _champion(lab: Lab) -> Experiment | None:
    ledger = Ledger(lab.ledger_path, read_only=True)
    try:
        return ledger.history.champion
    finally:
        ledger.close()


def _experiment(lab: Lab, n: int) -> Experiment:
    ledger = Ledger(lab.ledger_path, read_only=True)
    try:
        return ledger.experiment(n)
    finally:
        ledger.close()
