"""What must not change between scores that are compared: locked files, the task, the data."""

from __future__ import annotations

from research_loop.data.preparation import data_digest
from research_loop.errors import PinError
from research_loop.history import Repository
from research_loop.lab import CONFIG, Lab
from research_loop.ledger import Ledger
from research_loop.records import Experiment


def pin(ledger: Ledger, lab: Lab, baseline: Experiment) -> None:
    """Writes down, once, what the baseline runs with; its locked files are in its commit."""
    facts = {"task": lab.config.task_digest, "data": data_digest(lab) or "none"}
    for name, value in facts.items():
        if ledger.noted(f"{name}:{baseline.n}") is None:
            ledger.note(f"{name}:{baseline.n}", value)


def check_pins(ledger: Ledger, lab: Lab, repository: Repository, *, data: bool = True) -> None:
    """Compares with the baseline; without `data` before that is prepared. Raises PinError, which names what changed
    and how to put it back."""
    baseline = ledger.history.baseline
    if baseline is None:
        return
    changed, cure = _changed(ledger, lab, repository, baseline)
    if not changed and data and ledger.noted(f"data:{baseline.n}") not in (None, data_digest(lab) or "none"):
        changed, cure = "data", "put the documents back and `research-loop prepare`, or make a new lab"
    if changed:
        raise PinError(f"{lab.root / changed}: changed since the baseline, so scores would not compare: {cure}")


def _changed(ledger: Ledger, lab: Lab, repository: Repository, baseline: Experiment) -> tuple[str, str]:
    if ledger.noted(f"task:{baseline.n}") not in (None, lab.config.task_digest):
        return CONFIG, "put its [task] and seconds back, or make a new lab for the new ones"
    committed = repository.files(baseline.commit, lab.config.locked)
    for name, data in lab.read(lab.config.locked).items():
        if data != committed[name]:
            tag = ledger.noted("tag")
            return name, f"`git show autoresearch/{tag}:./{name} > {name}` there puts it back; a new lab may differ"
    return "", ""
