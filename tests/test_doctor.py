"""The doctor against real sandboxes, and against none at all: what it cannot see fail, it cannot vouch for."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from research_loop.doctor import Probe, examine, table
from research_loop.sandbox import SandboxError, choose
from runs import linux

pytestmark = linux
KNOWN_SHORT = {"bubblewrap": set(), "landlock": {"write to /dev/shm", "fill its /tmp"}}
"""What each backend is known not to hold."""
ALWAYS_HELD = {"see the harness's secrets", "use another GPU", "raise its own limits", "outlive its own end"}
"""Held without any sandbox: by the runner, by the machine, or by this user's limits."""


def probes_of(name: str, lab: Path) -> dict[str, Probe]:
    (lab / "train.py").write_text("mine")
    try:
        backend = choose(name)
    except SandboxError as error:
        pytest.skip(str(error))
    probes = examine(backend, lab)
    assert [path.name for path in lab.iterdir()] == ["train.py"] and (lab / "train.py").read_text() == "mine"
    return {probe.name: probe for probe in probes}


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_every_hostile_action_is_held_but_the_known(name: str, tmp_path: Path) -> None:
    probes = probes_of(name, tmp_path)
    short = {probe.name: probe.seen for probe in probes.values() if not probe.held}
    if probes["fork without end"].cure.startswith("run research-loop as an ordinary user"):
        assert os.getuid() == 0
        short.pop("fork without end")
    assert {*short} == KNOWN_SHORT[name], short
    assert len([probe for probe in probes.values() if probe.wanted == "refused"]) >= 40


def test_without_a_sandbox_the_doctor_sees_it_all(tmp_path: Path) -> None:
    probes = probes_of("none", tmp_path)
    refused = {name for name, probe in probes.items() if probe.wanted == "refused" and probe.held}
    if os.getuid() == 0:
        assert refused <= ALWAYS_HELD, "a probe that cannot succeed proves nothing"
    assert all(probe.held for probe in probes.values() if probe.wanted == "works")
    assert all(probe.cure for probe in probes.values() if not probe.held)
    assert "no answer" not in " ".join(probe.seen for probe in probes.values())
    assert not [path for path in (Path("/tmp"), Path("/dev/shm"), Path("/var/tmp")) if (path / "doctor-left").exists()]
    assert not [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def test_the_table_names_what_did_not_hold_and_its_cure() -> None:
    good, bad = Probe("read", "refused", "no", True), Probe("write", "refused", "wrote it", False, "do this")
    assert table([good, bad]).splitlines() == [
        "ok   read   refused  no",
        "NOT  write  refused  wrote it",
        "            -> do this",
        "1 of 2 held",
    ]
