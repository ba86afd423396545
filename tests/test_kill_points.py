"""An even sample of all points at which a loop can be killed or starved; benchmarks/kill_points.py does them all."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, get_args

import pytest

from research_loop.reserve import RESERVE_BYTES
from research_loop.testing import disks, syscalls
from research_loop.testing.faults import Action, Fault
from research_loop.testing.harness import run_harness
from research_loop.testing.points import Scene, Tried, calls, faults, scenes, try_fault
from runs import linux

pytestmark = linux
CALLS = 5
SYSTEM_CALLS = 3
MOMENTS = 3
SCENES = ("first", "cycle", "recovery")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    return {scene.name: scene for scene in scenes(tmp_path_factory.mktemp("stage") / "scenes")}


@pytest.fixture(scope="module")
def names(stage: dict[str, Scene], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("calls")
    return {name: calls(scene, folder / name) for name, scene in stage.items()}


@pytest.fixture(scope="module")
def system_calls(stage: dict[str, Scene], tmp_path_factory: pytest.TempPathFactory) -> list[syscalls.Point]:
    if trouble := syscalls.missing():
        pytest.skip(trouble)
    return syscalls.points(stage["cycle"], tmp_path_factory.mktemp("strace") / "points")


T = TypeVar("T")


def sample(points: list[T], count: int) -> list[T]:
    """Evenly over all of them, from the middle of each part."""
    return [points[(2 * i + 1) * len(points) // (2 * count)] for i in range(min(count, len(points)))]


def assert_all_held(tried: list[Tried]) -> None:
    assert tried and not [(each.scene, each.point, each.broken) for each in tried if each.broken]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("action", get_args(Action))
def test_no_promise_breaks_where_a_call_is_the_last_or_finds_the_disk_full(
    stage: dict[str, Scene], names: dict[str, list[str]], tmp_path: Path, scene: str, action: Action
) -> None:
    chosen = sample(faults(names[scene], action), CALLS if action == "kill" else CALLS - 2)
    tried = [try_fault(stage[scene], fault, tmp_path / "lab", names[scene][fault.at - 1]) for fault in chosen]
    assert_all_held(tried)
    assert action not in ("kill", "kill after") or all(each.reached for each in tried)


def test_a_kill_while_the_champions_code_is_written_leaves_no_half_of_it(
    stage: dict[str, Scene], names: dict[str, list[str]], tmp_path: Path
) -> None:
    steps = [
        at for at, name in enumerate(names["cycle"], 1) if name.split(" ", 1)[-1].startswith((".train.py", "train.py"))
    ]
    written = [at for at in steps if names["cycle"][at - 1].startswith(("write", "close", "replace"))]
    assert written
    assert_all_held([try_fault(stage["cycle"], Fault(at, "kill"), tmp_path / "lab") for at in written])


@pytest.mark.parametrize("how", get_args(syscalls.How))
def test_no_promise_breaks_where_a_system_call_of_the_loop_or_its_git_is_the_last_or_fails(
    stage: dict[str, Scene], system_calls: list[syscalls.Point], tmp_path: Path, how: syscalls.How
) -> None:
    chosen = sample([point for point in system_calls if syscalls.fits(point, how)], SYSTEM_CALLS)
    assert_all_held([syscalls.try_point(stage["cycle"], point, how, tmp_path / "lab") for point in chosen])


def test_no_promise_breaks_where_the_disk_fills_up_at_any_moment(stage: dict[str, Scene], tmp_path: Path) -> None:
    if trouble := disks.missing():
        pytest.skip(trouble)
    moments = [0.03 + 0.1 * i for i in range(MOMENTS)]
    assert_all_held([disks.try_moment(stage["cycle"], moment, tmp_path / "disk") for moment in moments])


def test_the_points_of_a_keep_cover_ledger_files_git_and_spawns(names: dict[str, list[str]]) -> None:
    cycle = names["cycle"]
    for call in (
        "INSERT INTO experiments",
        "INSERT INTO verdicts",
        "COMMIT",
        "spawn git update-ref",
        "spawn keeper.py",
        "replace .train.py",
        "fsync",
        "lock",
    ):
        assert any(name.startswith(call) for name in cycle), call
    assert len(faults(cycle, "kill")) == len(cycle) > 100


def test_a_reserve_that_a_kill_cut_short_is_whole_after_the_next_start(
    stage: dict[str, Scene], names: dict[str, list[str]], tmp_path: Path
) -> None:
    lab = stage["first"].copy(tmp_path / "lab")
    at = names["first"].index("write reserve") + 1
    assert run_harness(stage["first"].command(lab), Fault(at, "kill")).code == -9
    assert (lab.state / "reserve").stat().st_size == 0
    assert run_harness(stage["first"].command(lab)).code == 0
    assert (lab.state / "reserve").stat().st_size == RESERVE_BYTES


def test_a_fault_strikes_at_the_call_that_it_names(
    stage: dict[str, Scene], names: dict[str, list[str]], tmp_path: Path
) -> None:
    at = names["cycle"].index("INSERT INTO verdicts") + 1
    lab = stage["cycle"].copy(tmp_path / "lab")
    ended = run_harness(stage["cycle"].command(lab), Fault(at, "kill"))
    assert ended.code == -9
