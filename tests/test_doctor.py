"""The doctor against real sandboxes, and against none at all: what it cannot see fail, it cannot vouch for."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from conftest import Start
from research_loop import doctor
from research_loop.doctor import Probe, check_up, examine, table
from research_loop.lab import CONFIG, Lab
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
    before = set(psutil.Process().children())  # of other tests' libraries, which keep helpers
    probes = probes_of("none", tmp_path)
    refused = {name for name, probe in probes.items() if probe.wanted == "refused" and probe.held}
    if os.getuid() == 0:
        assert refused <= ALWAYS_HELD, "a probe that cannot succeed proves nothing"
    assert all(probe.held for probe in probes.values() if probe.wanted == "works")
    assert all(probe.cure for probe in probes.values() if not probe.held)
    assert "no answer" not in " ".join(probe.seen for probe in probes.values())
    assert not [path for path in (Path("/tmp"), Path("/dev/shm"), Path("/var/tmp")) if (path / "doctor-left").exists()]
    left = set(psutil.Process().children()) - before
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]


def test_the_table_names_what_did_not_hold_and_its_cure() -> None:
    good, bad = Probe("read", "refused", "no", True), Probe("write", "refused", "wrote it", False, "do this")
    assert table([good, bad]).splitlines() == [
        "ok   read   refused  no",
        "NOT  write  refused  wrote it",
        "            -> do this",
        "1 of 2 held",
    ]


def test_a_sandbox_is_examined_with_the_gpu_that_a_run_would_get(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(doctor, "first_gpu", lambda: 0)
    monkeypatch.setattr(doctor, "NEEDED", [attempt for attempt in doctor.NEEDED if attempt.name == "train with torch"])
    monkeypatch.setattr(doctor, "HOSTILE", ())
    check_up("none", None, said.append)
    (line,) = [line for line in said[0].splitlines() if "train with torch" in line]
    assert "on cpu" not in line, "it asks for CUDA, be there any or not"


def test_the_sandbox_is_the_labs_own_where_none_is_named(research_loop: Start, lab: Lab, tmp_path: Path) -> None:
    config = lab.root / CONFIG
    config.write_text(config.read_text().replace('sandbox = "none"', 'sandbox = "bubblewrap"'))
    process = research_loop("doctor", lab.root, env={**os.environ, "PATH": str(tmp_path)})
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.split(": ")[1:3]) == (1, ["sandbox bubblewrap", "not installed"])


@pytest.mark.parametrize("said_by", ["option", "lab"])
def test_no_cheat_is_run_without_a_sandbox(research_loop: Start, lab: Lab, said_by: str, tmp_path: Path) -> None:
    assert lab.config.sandbox == "none"
    option = ["--sandbox", "none"] if said_by == "option" else []
    process = research_loop("doctor", lab.root if not option else tmp_path, "--cheats", *option)
    said, error = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "") and error.startswith("research-loop: sandbox none: the cheats")
    assert error.count("\n") == 1
