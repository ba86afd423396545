"""The first GPU's device number, from what the driver says of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from research_loop.gpus import first_gpu

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
