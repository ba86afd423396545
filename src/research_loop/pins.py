"""What must not change between scores that are compared: locked files, the task, the data, the installed packages."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from research_loop.data.preparation import cuts_digest, data_digest
from research_loop.errors import PinError
from research_loop.files import write_whole
from research_loop.history import Repository
from research_loop.lab import CONFIG, Lab
from research_loop.ledger import Ledger
from research_loop.records import Experiment

PACKAGES = ("torch", "numpy", "tiktoken", "pyarrow", "rustbpe")
"""What a GPT lab's files import; with all that these need."""

VOLATILE = ("prepared.json", "shards.json")
"""Reports beside the data that are written again at a start; what matters of them is compared by itself."""


def pin(ledger: Ledger, lab: Lab, baseline: Experiment) -> None:
    """Writes down, once, what the baseline runs with; its locked files are in its commit."""
    facts = {"task": lab.config.task_digest, "data": data_digest(lab) or "none"}
    facts["cuts"] = cuts_digest(lab) or "none"
    facts |= {"files": json.dumps(file_digests(lab)), "packages": json.dumps(package_digests(lab))}
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
    if not changed and data:
        changed, cure = _changed_data(ledger, lab, baseline)
    if changed:
        raise PinError(f"{changed}: changed since the baseline, so scores would not compare: {cure}")


def _changed(ledger: Ledger, lab: Lab, repository: Repository, baseline: Experiment) -> tuple[str, str]:
    if ledger.noted(f"task:{baseline.n}") not in (None, lab.config.task_digest):
        return str(lab.root / CONFIG), "put its [task] and seconds back, or make a new lab for the new ones"
    committed = repository.files(baseline.commit, lab.config.locked)
    for name, data in lab.read(lab.config.locked).items():
        if data != committed[name]:
            tag = ledger.noted("tag")
            back = f"`git show autoresearch/{tag}:./{name} > {name}` there puts it back; a new lab may differ"
            return str(lab.root / name), back
    before = json.loads(ledger.noted(f"packages:{baseline.n}") or "{}")
    name = _difference(before, package_digests(lab)) if before else ""
    was, cure = before.get(name, "").split(" ")[0], "a new lab starts from the new one"
    return name and f"package {name}", f"install {f'{name}=={was}' if was else 'what it was'} again; {cure}"


def _changed_data(ledger: Ledger, lab: Lab, baseline: Experiment) -> tuple[str, str]:
    if ledger.noted(f"data:{baseline.n}") not in (None, data_digest(lab) or "none"):
        return str(lab.root / "data"), "put the documents back and `research-loop prepare`, or make a new lab"
    before = json.loads(ledger.noted(f"files:{baseline.n}") or "{}")
    name = _difference(before, file_digests(lab)) if before else ""
    report = lab.root / "data" / "prepared.json"
    made_again = f"delete {report} and `research-loop prepare` makes it again"
    if ledger.noted(f"cuts:{baseline.n}") not in (None, cuts_digest(lab) or "none"):
        return f"{report}: which rows are scored", made_again
    return name and str(lab.root / name), made_again


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The first name that is gone, new or another's; "" where there is none."""
    return next((name for name in sorted({*before, *after}) if before.get(name) != after.get(name)), "")


# ----------------------------------------------------------------------------------------------------------- digests


def file_digests(lab: Lab) -> dict[str, str]:
    """SHA-256 by path of every file that runs of a GPT lab read beside the code: rows, tokenizer, byte counts, shards.

    A file whose size, times and inode are those of the last look is not read again: gigabytes would be, at each run.
    """
    if lab.config.score == "run":
        return {}
    memory = lab.state / "digests.json"
    known = _read_json(memory)
    found: dict[str, str] = {}
    seen: dict[str, list[str]] = {}
    for path in _linked_files(lab):
        name, facts = str(path.relative_to(lab.root)), path.stat()
        mark = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}"
        was = known.get(name, ["", ""])
        found[name] = was[1] if was[0] == mark else _sha256(path)
        seen[name] = [mark, found[name]]
    if seen != known:
        write_whole(memory, json.dumps(seen).encode())
    return found


def _linked_files(lab: Lab) -> Iterator[Path]:
    for name in lab.config.link:
        root = lab.root / name
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and path.name not in VOLATILE and not path.name.endswith(".part"):
                yield path


def package_digests(lab: Lab) -> dict[str, str]:
    """Version and SHA-256 of the list of importable files of what a GPT lab imports, by name; Python's version with it.

    The same packages in another environment are the same. Any other task's programs are its user's.
    """
    if lab.config.score == "run":
        return {}
    found = {"python": platform.python_version()}
    waiting = list(PACKAGES)
    while waiting:
        name = waiting.pop()
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # a requirement of another platform or of an extra
            continue
        if name not in found:
            found[name] = f"{package.version} {_digest_of_files(package.read_text('RECORD') or '')}"
            waiting += [_name(line) for line in package.requires or () if "extra ==" not in line]
    return found


def _digest_of_files(record: str) -> str:
    """Of the lines of a RECORD, without those that differ from one environment to the next: scripts, which name their
    interpreter, notes of the installer, and compiled modules."""
    lines = (line for line in record.splitlines() if not line.startswith(("..", "/")))
    kept = sorted(line for line in lines if ".dist-info/" not in line and ".pyc," not in line)
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _name(requirement: str) -> str:
    """The package of a requirement, in its one spelling (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def _sha256(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, list[str]]:
    """What was written down at the last look; nothing where that cannot be read."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
