"""Proposers and runners are found by entry point, the built-ins included."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from research_loop.errors import ConfigError


def load(kind: str, name: str) -> Any:
    """The class or factory of a `kind` ("proposer", "runner") by its name; ConfigError names the known ones."""
    known = {entry.name: entry for entry in entry_points(group=f"research_loop.{kind}s")}
    if name not in known:
        raise ConfigError(f"no {kind} named {name!r}: choose one of {', '.join(sorted(known)) or '(none installed)'}")
    try:
        return known[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind} {name!r} cannot be loaded ({error}): install its package again") from error
