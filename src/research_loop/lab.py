"""The lab: a folder with locked and editable files, lab.toml, and the state of its loop in .research-loop/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from research_loop import edits
from research_loop.config import LabConfig, read_config, render_config
from research_loop.errors import ConfigError, LabError
from research_loop.files import write_whole
from research_loop.history import Repository
from research_loop.records import Files

STATE = ".research-loop"
CONFIG = "lab.toml"
IGNORED = [f"{STATE}/", "data/", "results.tsv", "run.log", "__pycache__/", ".venv/", "uv.lock"]
GPT_FILES = ("prepare.py", "train.py", "program.md")


IDEAS_CHARACTERS = 100_000


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

    @property
    def ideas(self) -> str:
        """What the user wrote into ideas.md to be tried; read anew each time. Raises LabError where it is no file."""
        path = self.root / "ideas.md"
        if not path.exists():
            return ""
        if not path.is_file():
            raise LabError(f"{path}: is not a file: move it away, or write your ideas into one")
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - IDEAS_CHARACTERS))  # the newest are at the end
            return file.read(IDEAS_CHARACTERS).decode(errors="replace")

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


def open_lab(root: Path) -> Lab:
    """Raises LabError when `root` is no lab, ConfigError when its lab.toml does not hold."""
    if not (root / CONFIG).is_file():
        raise LabError(f"{root}: is not a lab (no {CONFIG} in it): `research-loop init {root}` makes one")
    return Lab(root.resolve(), read_config(root / CONFIG))


def repository_of(lab: Lab) -> Repository:
    """The git repository that holds the lab. Raises LabError when there is none (any more)."""
    repository = Repository.find(lab.root)
    if repository is None:
        lost = "has lost its git repository: bring its .git back, or make a new lab"
        never = "is not in a git repository: `git init` there, then start again"
        raise LabError(f"{lab.root}: {lost if lab.ledger_path.exists() else never}")
    return repository


# ------------------------------------------------------------------------------------------------------------- make


@dataclass(frozen=True, slots=True)
class Machine:
    """What trains: "cuda", "mps" or "cpu"; of the first GPU the memory that is free, and the 10^12 operations a second
    of a large product on it."""

    device: str
    memory_gb: float
    name: str
    tflops: float = 0.0


PROBE = """
import json, sys, time, torch
print("loaded", flush=True)
def reached(dtype, n=4096, times=20):
    x = torch.randn(n, n, device="cuda", dtype=dtype)
    for count in (times // 4, times):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            x @ x
        torch.cuda.synchronize()
    return 2 * n**3 * times / (time.perf_counter() - start) / 1e12
def found():
    if torch.cuda.is_available():
        p, free = torch.cuda.get_device_properties(0), torch.cuda.mem_get_info(0)[0]
        return ["cuda", free / 2**30, p.name, reached(torch.bfloat16 if p.major >= 8 else torch.float32)]
    return ["mps", 0.0, "Apple GPU"] if torch.backends.mps.is_available() else ["cpu", 0.0, "CPU"]
try:
    print(json.dumps(found()))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
"""

FREE_IT = "see who holds it with `nvidia-smi`, choose another with CUDA_VISIBLE_DEVICES, or constants with --profile"


def probe_machine() -> Machine:
    """Asks torch in a process of its own: the harness itself never loads it. Raises LabError where it cannot say."""
    command, nothing = [sys.executable, "-c", PROBE], subprocess.DEVNULL
    done = subprocess.run(command, stdin=nothing, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout.splitlines()
    found = next((line for line in reversed(said) if line.startswith("[")), "")
    if done.returncode or not found:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        if "loaded" in said:
            raise LabError(f"the first GPU cannot be used ({last}): {FREE_IT}")
        raise LabError(f"torch cannot be loaded by {sys.executable} ({last}): install the project's dependencies")
    return Machine(*json.loads(found))


def profiles() -> list[dict[str, Any]]:
    text = (resources.files("research_loop") / "labs" / "gpt" / "profiles.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["profile"])


def fitting(machine: Machine) -> dict[str, Any]:
    """The first profile of a machine's device, free memory and speed: a GPU that something else holds or keeps busy is
    a small or slow one. Raises LabError where next to nothing is free."""
    for profile in profiles():
        fits = profile["memory_gb"] <= machine.memory_gb and profile["tflops"] <= machine.tflops
        if profile["device"] == machine.device and fits:
            return profile
    raise LabError(f"{machine.name}: {machine.memory_gb:.1f} GB of its memory are free, too few to train in: {FREE_IT}")


def choose_profile(name: str | None = None) -> dict[str, Any]:
    """The named profile, or the one that fits this machine. Raises ConfigError for an unknown name, LabError where the
    machine cannot be looked at or nothing fits."""
    known = profiles()
    if name is None:
        return fitting(probe_machine())
    found = [p for p in known if p["name"] == name]
    if not found:
        raise ConfigError(f"--profile {name}: there is none; known are {', '.join(p['name'] for p in known)}")
    return found[0]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new GPT lab is to be; None leaves it to the profile of this machine."""

    source: str | None = None
    num_shards: int | None = None
    train: Path | None = None
    budget_seconds: int | None = None
    profile: str | None = None


def make_gpt_lab(root: Path, wish: Wish) -> Lab:
    """Lays out the GPT lab in `root`, with a git repository of its own.

    Constants come from a profile; with `wish.train`, that file is taken as it is in place of ours. Raises LabError
    when the folder already holds one of the files. A new folder appears whole or not at all.
    """
    root = root.absolute()
    _refuse_to_overwrite(root, (*GPT_FILES, CONFIG))
    source = absolute_source(wish.source)
    chosen = choose_profile(wish.profile)
    files = {name: _template(name) for name in GPT_FILES}
    seconds = wish.budget_seconds or int(chosen["prepare"]["TIME_BUDGET"])
    files["prepare.py"] = _with_constants(files["prepare.py"], {**chosen["prepare"], "TIME_BUDGET": seconds})
    files["train.py"] = _users_file(wish.train) if wish.train else _with_constants(files["train.py"], chosen["train"])
    files[CONFIG] = render_config(_tables(replace(wish, source=source), chosen, seconds)).encode()
    files[".gitignore"] = "".join(f"/{line}\n" for line in IGNORED).encode()
    if not _inside_project(root):
        files["pyproject.toml"] = _template("pyproject.toml.in")
    _lay_out(root, files)
    return open_lab(root)


def _tables(wish: Wish, chosen: Mapping[str, Any], seconds: int) -> dict[str, dict[str, Any]]:
    """Sections and keys of the new lab's lab.toml."""
    # counted in shards of the profile's own source
    usual = chosen.get("num_shards") if wish.source in (None, chosen["source"]) else None
    return {
        "task": {
            "command": ["python", "train.py"],
            "editable": ["train.py"],
            "locked": ["prepare.py"],
            "link": ["data"],
            "metric": "val_bpb",
            "direction": "lower",
            "score": chosen["score"],
            "sandbox": chosen["sandbox"],
            "memory": "peak_vram_mb",
        },
        "budget": {"seconds": seconds, "limit_seconds": max(2 * seconds, seconds + int(chosen["startup_seconds"]))},
        "data": {"source": wish.source or chosen["source"], "num_shards": wish.num_shards or usual},
        "lab": {"profile": chosen["name"], "train": str(wish.train.resolve()) if wish.train else None},
    }


def _lay_out(root: Path, files: Files) -> None:
    """Into a folder beside `root` that then takes its name; into `root` itself where that holds something."""
    for left in root.parent.glob(f".{root.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    if root.exists() and any(root.iterdir()):
        _write_lab(root, files)
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    part = root.with_name(f".{root.name}.{os.getpid()}.part")
    try:
        _write_lab(part, files)
        part.rename(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_lab(root: Path, files: Files) -> None:
    """lab.toml comes last: with it, the folder is a lab."""
    root.mkdir(exist_ok=True)
    new = {name: data for name, data in files.items() if not (root / name).exists()}
    for name in new.keys() - {CONFIG}:
        write_whole(root / name, new[name])
    if not (root / ".git").exists():
        Repository.create(root).start(new, "Lay out the lab")
    elif repository := Repository.find(root):
        repository.exclude(f"/{line}" for line in IGNORED)
    write_whole(root / CONFIG, new[CONFIG])


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
    if path.suffix != ".py":
        raise LabError(f"{path}: is no Python file (.py): name your train.py after --train")
    edits.check({path.name: data})
    return data


def absolute_source(source: str | None) -> str | None:
    """A path is kept whole, so that it means the same from any folder; a data set's name stays a name."""
    if source is None or source in ("builtin", "tinystories", "climbmix"):
        return source
    path = Path(source).expanduser()
    if not source.strip() or not path.exists():
        raise ConfigError(
            f"--data {source}: no such folder or file, nor builtin, tinystories or climbmix: check the path"
        )
    return str(path.resolve())


def check_same_lab(lab: Lab, wish: Wish) -> None:
    """The same wish again is fine. Raises ConfigError for one that asks for another lab in the same folder."""
    made = lab.config
    asked = {
        "--data": (absolute_source(wish.source), made.source),
        "--num-shards": (wish.num_shards, made.num_shards),
        "--train": (str(wish.train.resolve()) if wish.train else None, made.train),
        "--budget": (wish.budget_seconds, made.budget_seconds),
        "--profile": (wish.profile, made.profile),
    }
    for option, (given, known) in asked.items():
        if given is not None and given != known:
            fact = f"{lab.root} is a lab already, made with {known if known is not None else 'the default'}"
            raise ConfigError(f"{option} {given}: {fact}: leave it out, or name a new folder")


def _inside_project(root: Path) -> bool:
    """`uv run` takes the nearest pyproject.toml upward; where that is not ours nor uses us, a lab needs its own."""
    for folder in (root.resolve(), *root.resolve().parents):
        if (folder / "pyproject.toml").is_file():
            return folder == root.resolve() or "research-loop" in (folder / "pyproject.toml").read_text(
                errors="replace"
            )
    return False
