"""The lab: a folder with locked and editable files, lab.toml, and the state of its loop in .research-loop/."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from research_loop import edits
from research_loop.config import LabConfig, read_config, render_config
from research_loop.errors import ConfigError, LabError
from research_loop.history import Repository
from research_loop.records import Files

STATE = ".research-loop"
CONFIG = "lab.toml"
IGNORED = [f"{STATE}/", "data/", "results.tsv", "run.log", "__pycache__/", ".venv/", "uv.lock"]
GPT_FILES = ("prepare.py", "train.py", "program.md")


@dataclass(frozen=True, slots=True)
class Lab:
    """An existing lab, its lab.toml read and checked."""

    root: Path
    config: LabConfig

    @property
    def state(self) -> Path:
        return self.root / STATE

    @property
    def ledger_path(self) -> Path:
        return self.state / "ledger.sqlite"

    @property
    def shards(self) -> Path:
        return self.root / "data" / "shards"

    def log_path(self, n: int, k: int) -> Path:
        return self.state / "logs" / f"{n}.{k}.log"

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Bytes of files in the lab. Raises LabError naming the first one that cannot be read."""
        found = {}
        for path in paths:
            try:
                found[path] = (self.root / path).read_bytes()
            except OSError as error:
                cure = f"put it back, or take it out of {CONFIG}"
                raise LabError(f"{self.root / path}: cannot be read ({error.strerror}): {cure}") from error
        return found

    def write(self, files: Files) -> None:
        """Writes files whole: each is the old one or the new one, never half."""
        for path, data in files.items():
            write_whole(self.root / path, data)

    def pins(self) -> dict[str, str]:
        """What must not change between scores that are compared: name -> digest."""
        pins = {path: hashlib.sha256(data).hexdigest() for path, data in self.read(self.config.locked).items()}
        return {**pins, CONFIG: self.config.task_digest}


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file in one step, keeping its mode; the data is on disk before the name points to it."""
    part = path.with_name(f"{path.name}.part")
    with open(part, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    if path.exists():
        part.chmod(path.stat().st_mode)
    part.replace(path)


def open_lab(root: Path) -> Lab:
    """Raises LabError when `root` is no lab, ConfigError when its lab.toml does not hold."""
    if not (root / CONFIG).is_file():
        raise LabError(f"{root}: is not a lab (no {CONFIG} in it): `research-loop init {root}` makes one")
    return Lab(root.resolve(), read_config(root / CONFIG))


# ------------------------------------------------------------------------------------------------------------- make


@dataclass(frozen=True, slots=True)
class Machine:
    """What trains: "cuda", "mps" or "cpu", with the memory of the first accelerator."""

    device: str
    memory_gb: float
    name: str


PROBE = """
import json, torch
if torch.cuda.is_available():
    p = torch.cuda.get_device_properties(0)
    found = ["cuda", p.total_memory / 2**30, p.name]
elif torch.backends.mps.is_available():
    found = ["mps", 0.0, "Apple GPU"]
else:
    found = ["cpu", 0.0, "CPU"]
print(json.dumps(found))
"""


def probe_machine() -> Machine:
    """Asks torch in a process of its own: the harness itself never loads it."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise LabError(f"torch cannot be loaded by {sys.executable} ({last}): install the project's dependencies")
    return Machine(*json.loads(done.stdout.strip().splitlines()[-1]))


def profiles() -> list[dict[str, Any]]:
    text = (resources.files("research_loop") / "labs" / "gpt" / "profiles.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["profile"])


def choose_profile(name: str | None = None) -> dict[str, Any]:
    """The named profile, or the first that fits this machine. Raises ConfigError for an unknown name."""
    known = profiles()
    if name is None:
        machine = probe_machine()
        return next(p for p in known if p["device"] == machine.device and p["memory_gb"] <= machine.memory_gb)
    found = [p for p in known if p["name"] == name]
    if not found:
        raise ConfigError(f"--profile {name}: there is none; known are {', '.join(p['name'] for p in known)}")
    return found[0]


def make_gpt_lab(
    root: Path,
    *,
    source: str | None = None,
    num_shards: int | None = None,
    train: Path | None = None,
    budget_seconds: int | None = None,
    profile: str | None = None,
) -> Lab:
    """Lays out the GPT lab in `root`, with a git repository of its own.

    Constants come from the profile of this machine, or the named one. With `train`, that file is taken as it is in
    place of ours. Raises LabError when the folder already holds one of the files.
    """
    _refuse_to_overwrite(root, (*GPT_FILES, CONFIG))
    chosen = choose_profile(profile)
    files = {name: _template(name) for name in GPT_FILES}
    seconds = budget_seconds or int(chosen["prepare"]["TIME_BUDGET"])
    files["prepare.py"] = _with_constants(files["prepare.py"], {**chosen["prepare"], "TIME_BUDGET": seconds})
    files["train.py"] = _with_constants(files["train.py"], chosen["train"])
    if train is not None:
        files["train.py"] = _users_file(train)
    task: dict[str, Any] = {
        "command": ["python", "train.py"],
        "editable": ["train.py"],
        "locked": ["prepare.py"],
        "link": ["data"],
    }
    task |= {"metric": "val_bpb", "direction": "lower", "memory": "peak_vram_mb"}
    limit = max(2 * seconds, seconds + int(chosen["startup_seconds"]))
    tables: dict[str, dict[str, Any]] = {"task": task, "budget": {"seconds": seconds, "limit_seconds": limit}}
    tables["data"] = {"source": absolute_source(source) or chosen["source"], "num_shards": num_shards}
    tables["lab"] = {"profile": chosen["name"], "train": None if train is None else str(train.resolve())}
    files[CONFIG] = render_config(tables).encode()
    files[".gitignore"] = "".join(f"/{line}\n" for line in IGNORED).encode()
    if not _inside_project(root):
        files["pyproject.toml"] = _template("pyproject.toml.in")
    root.mkdir(parents=True, exist_ok=True)
    lab_files = {name: data for name, data in files.items() if not (root / name).exists()}
    for name, data in lab_files.items():
        write_whole(root / name, data)
    _own_repository(root, lab_files)
    return open_lab(root)


def make_blank_lab(root: Path, task: Mapping[str, Any], budget_seconds: float) -> Lab:
    """A lab without GPT in the user's own git repository: only lab.toml is written. `task` holds its [task] keys."""
    _refuse_to_overwrite(root, (CONFIG,))
    repository = Repository.find(root)
    if repository is None:
        raise LabError(f"{root}: is not in a git repository: `git init` there first, or leave out --blank")
    tables = {"task": dict(task), "budget": {"seconds": budget_seconds, "limit_seconds": 2 * budget_seconds}}
    write_whole(root / CONFIG, render_config(tables).encode())
    repository.exclude(f"/{repository.prefix}{line}" for line in (f"{STATE}/", "results.tsv", "run.log"))
    try:
        lab = open_lab(root)
        lab.read((*lab.config.editable, *lab.config.locked))
    except (ConfigError, LabError):
        (root / CONFIG).unlink()
        raise
    return lab


def _refuse_to_overwrite(root: Path, names: Iterable[str]) -> None:
    for name in names:
        if (root / name).exists():
            raise LabError(f"{root / name}: is there already: choose another folder, or move it away")


def _template(name: str) -> bytes:
    return (resources.files("research_loop") / "labs" / "gpt" / name).read_bytes()


def _with_constants(source: bytes, values: Mapping[str, object]) -> bytes:
    return edits.replace(source.decode(), values).encode()


def _users_file(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabError(f"{path}: cannot be read ({error.strerror}): name your train.py after --train") from error
    edits.check({path.name: data})
    return data


def absolute_source(source: str | None) -> str | None:
    """A path is kept whole, so that it means the same from any folder; a data set's name stays a name."""
    if source is None or source in ("builtin", "tinystories", "climbmix"):
        return source
    return str(Path(source).expanduser().resolve())


def _inside_project(root: Path) -> bool:
    """`uv run` takes the nearest pyproject.toml upward; a lab outside any needs its own."""
    return any((folder / "pyproject.toml").exists() for folder in (root.resolve(), *root.resolve().parents))


def _own_repository(root: Path, files: Files) -> None:
    if (root / ".git").exists():
        return
    repository = Repository.create(root)
    repository.start(files, "Lay out the lab")
