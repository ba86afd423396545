"""lab.toml: what a lab's task is. Read strictly: an unknown key or a wrong type is one line with place and cure."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from research_loop.errors import ConfigError
from research_loop.plain import plain

Check = Callable[[Any], bool]


SANDBOXES = ("auto", "bubblewrap", "landlock", "none")
LONGEST_SECONDS = 30 * 24 * 3600


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(v) for v in value)


def _is_paths(value: Any) -> bool:
    """Paths inside the lab: relative, without '..'."""
    return _is_texts(value) and not any(PurePosixPath(v).is_absolute() or ".." in PurePosixPath(v).parts for v in value)


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST_SECONDS


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) is not None


KEYS: dict[str, dict[str, tuple[str, Check]]] = {
    "task": {
        "command": ('a list of words like ["python", "train.py"]', lambda v: _is_texts(v) and bool(v)),
        "editable": ('a list of files in the lab like ["train.py"]', lambda v: _is_paths(v) and bool(v)),
        "locked": ('a list of files in the lab like ["prepare.py"]', _is_paths),
        "link": ('a list of folders or files in the lab like ["data"]', _is_paths),
        "metric": ('a name printed as "name: value", like "val_bpb"', _is_name),
        "direction": ('"lower" or "higher"', lambda v: v in ("lower", "higher")),
        "noise": ('"measured" or "none" (every run of a code scores the same)', lambda v: v in ("measured", "none")),
        "score": ('"run" (its own word) or "harness" (asked and challenged)', lambda v: v in ("run", "harness")),
        "sandbox": ('"auto", "bubblewrap", "landlock" or "none"', lambda v: v in SANDBOXES),
        "dry_run": ('"auto" (where there is a GPU), "always" or "never"', lambda v: v in ("auto", "always", "never")),
        "memory": ('a name printed as "name: value", like "peak_vram_mb"', _is_name),
    },
    "budget": {
        "seconds": ("a number of seconds above 0, a month at most", _is_seconds),
        "limit_seconds": ("a number of seconds above 0, a month at most", _is_seconds),
    },
    "data": {
        "source": ('"builtin", "tinystories", "climbmix" or a path', _is_text),
        "num_shards": ("a whole number above 0", lambda v: type(v) is int and v > 0),
    },
    "lab": {
        "profile": ("the name of the profile that its constants are from", _is_text),
        "train": ("the file that its train.py is from", _is_text),
    },
    "search": {
        "proposer": (
            'the name of a proposer, like "search", or a list of names',
            lambda v: _is_text(v) or (_is_texts(v) and bool(v)),
        ),
        "runner": ('the name of a runner, like "local"', _is_text),
        "seed": ("a whole number", lambda v: type(v) is int),
    },
}


@dataclass(frozen=True, slots=True)
class LabConfig:
    """lab.toml, checked. `limit_seconds` is the hard limit of a run by the harness's clock, twice the budget unless
    set; `link` names folders and files that are not in git and are linked into every run's folder; `sandbox` is ""
    where nobody chose: none, and no code of a model."""

    command: tuple[str, ...] = ("python", "train.py")
    editable: tuple[str, ...] = ("train.py",)
    locked: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    metric: str = "val_bpb"
    direction: Literal["lower", "higher"] = "lower"
    noise: Literal["measured", "none"] = "measured"
    score: Literal["run", "harness"] = "run"
    sandbox: str = ""
    dry_run: Literal["auto", "always", "never"] = "auto"
    memory: str = "peak_vram_mb"
    budget_seconds: float = 300.0
    limit_seconds: float = 600.0
    source: str | None = None
    num_shards: int | None = None
    profile: str | None = None
    train: str | None = None
    proposer: str | tuple[str, ...] = "search"
    runner: str = "local"
    seed: int = 0

    @property
    def task_digest(self) -> str:
        """Changes with anything in lab.toml that makes scores before and after incomparable."""
        parts = [
            self.command,
            self.editable,
            self.locked,
            self.link,
            self.metric,
            self.direction,
            self.score,
            self.budget_seconds,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_config(path: Path) -> LabConfig:
    """Reads and checks lab.toml. Raises ConfigError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): `research-loop init` makes one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML ({error}): mend that line") from error
    values: dict[str, Any] = {}
    for section, table in tables.items():
        _known(path, "section", section, KEYS)
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {plain(section)} is a section: write [{section}] and its keys below it")
        for key, value in table.items():
            _known(path, "key", key, KEYS[section], f"[{section}] ")
            wanted, check = KEYS[section][key]
            if not check(value):
                raise ConfigError(f"{path}: [{section}] {key} = {value!r}: must be {wanted}")
            values["budget_seconds" if (section, key) == ("budget", "seconds") else key] = (
                tuple(value) if isinstance(value, list) else value
            )
    values.setdefault("limit_seconds", 2.0 * values.get("budget_seconds", LabConfig().budget_seconds))
    config = LabConfig(**values)
    if config.limit_seconds < config.budget_seconds:
        raise ConfigError(f"{path}: [budget] limit_seconds = {config.limit_seconds:g}: must not be below seconds")
    both = set(config.editable) & set(config.locked)
    if both:
        raise ConfigError(f"{path}: {sorted(both)[0]} is in editable and in locked: take it out of one")
    return config


def _known(path: Path, what: str, name: str, known: dict[str, Any], where: str = "") -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        cure = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        raise ConfigError(f"{path}: {where}unknown {what} {plain(name)}: {cure}")


def render_config(tables: dict[str, dict[str, Any]]) -> str:
    """TOML text of sections and keys; None is left out. json's strings, numbers and lists are TOML's too."""
    blocks = []
    for section, table in tables.items():
        lines = [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if value is not None
        ]
        if lines:
            blocks.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(blocks) + "\n"
