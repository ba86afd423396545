"""The first GPU's device number, from what the driver says of each."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from research_loop.errors import ConfigError
from research_loop.gpus import Brakes, Gpu, Pool, choose, first_gpu, machine

FACTS = """Model: 		 NVIDIA H100 80GB HBM3
IRQ:   		 29
GPU UUID: 	 GPU-{uuid}
Video BIOS: 	 96.00.74.00.01
Bus Location: 	 {bus}
Device Minor: 	 {minor}
GPU Excluded:	 No
"""


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Two GPUs whose device numbers are not in the order of the bus."""
    for bus, minor, uuid in (("0000:06:00.0", 3, "aaaa-1"), ("0000:81:00.0", 0, "bbbb-2")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(FACTS.format(bus=bus, minor=minor, uuid=uuid))
    return tmp_path


@pytest.mark.parametrize(
    ("visible", "number"),
    [(None, 3), ("0", 3), ("1", 0), ("1,0", 0), (" 1 ", 0), ("GPU-bbbb", 0), ("GPU-aaaa-1,GPU-bbbb-2", 3)],
)
def test_the_first_that_cuda_may_see_counts(
    driver: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, number: int
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert first_gpu(driver) == number


@pytest.mark.parametrize("visible", ["", "-1", "2", "GPU-cccc", "none"])
def test_none_is_none(driver: Path, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert first_gpu(driver) is None


def test_a_machine_without_a_driver_has_none(tmp_path: Path) -> None:
    assert first_gpu(tmp_path / "nothing") is None


def test_a_gpu_is_named_by_model_and_uuid(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine(driver) == "NVIDIA H100 80GB HBM3 GPU-bbbb-2"


@pytest.mark.parametrize(("visible", "numbers"), [(None, [3, 0]), ("1,0", [0, 3]), ("GPU-bbbb,0", [0, 3])])
def test_several_are_those_that_cuda_may_see_in_its_order(
    driver: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, numbers: list[int]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.number for gpu in choose(2, driver)] == numbers


@pytest.mark.parametrize(("visible", "found"), [("1", 1), ("1,1", 1), ("0,7", 1), ("0,-1,1", 1), ("", 0)])
def test_fewer_than_asked_for_is_said(driver: Path, monkeypatch: pytest.MonkeyPatch, visible: str, found: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match=f"--gpus 2: {found} found: ask for fewer"):
        choose(2, driver)


def test_gpus_of_two_kinds_are_not_compared(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    facts = driver / "0000:81:00.0" / "information"
    facts.write_text(facts.read_text().replace("H100 80GB HBM3", "L40S"))
    with pytest.raises(ConfigError, match="--gpus 2: NVIDIA H100 80GB HBM3, NVIDIA L40S: choose alike ones"):
        choose(2, driver)
    assert [gpu.number for gpu in choose(1, driver)] == [3]


def test_an_experiments_runs_take_turns_on_the_gpus() -> None:
    one, two = Gpu(3, "H100", "GPU-a"), Gpu(0, "H100", "GPU-b")
    pool = Pool([one, two])
    assert pool.machine == "2 x H100 GPU-a GPU-b"
    assert pool.take(4, 0) == one and pool.take(6, 0) == two and pool.take(7, 0) is None
    pool.give_back(4, 0)
    assert not pool.suits(["GPU-a"]) and pool.suits(["GPU-b"]) and pool.suits([]), "GPU-a is the free one"
    assert pool.suits(["GPU-a", "GPU-b"]) and pool.suits(["GPU-of-another-machine"])
    pool.give_back(6, 0)
    assert pool.take(4, 1, ["GPU-a"]) == two and pool.take(4, 1, ["GPU-a"]) == two, "asked for again, it is the same"
    assert pool.take(8, 2, ["GPU-a", "GPU-a"]) == one, "better than none"
    assert Pool().take(4, 0) is None and Pool().machine is None and Pool().suits([])


def test_without_a_gpu_the_processor_is_the_machine(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Xeon (R) 9 \nprocessor\t: 1\nmodel name\t: Xeon\n")
    assert machine(tmp_path, tmp_path / "cpuinfo").startswith("Xeon (R) 9, ")
    assert " cores" in machine(tmp_path, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("reasons", "on"),
    [
        (pynvml.nvmlClocksEventReasonNone, False),
        (pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonGpuIdle, False),
        (pynvml.nvmlClocksEventReasonHwSlowdown | pynvml.nvmlClocksEventReasonSwPowerCap, False),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, True),
        (pynvml.nvmlClocksEventReasonHwSlowdown | pynvml.nvmlClocksEventReasonHwThermalSlowdown, True),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, True),
    ],
)
def test_heat_and_the_power_supply_hold_a_gpu_back_and_its_own_power_limit_does_not(
    monkeypatch: pytest.MonkeyPatch, reasons: int, on: bool
) -> None:
    driver = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMinorNumber": lambda handle: (3, 0)[handle],
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: reasons if handle == 1 else 0,
    }
    for name, answer in driver.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert Brakes(0).on() is on and Brakes(3).on() is False and Brakes(7).on() is None


def test_without_a_driver_nobody_knows() -> None:
    if first_gpu() is not None:
        pytest.skip("this machine has a driver")
    assert Brakes(0).on() is None
