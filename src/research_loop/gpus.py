"""Which GPU a run gets, by the number of its device node; its name and memory, and whether it may run at full speed."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import pynvml

INFORMATION = Path("/proc/driver/nvidia/gpus")
"""A folder a GPU, named by its place on the bus, with the driver's facts in `information`."""
BRAKES = (
    pynvml.nvmlClocksEventReasonSwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
)


def first_gpu(information: Path = INFORMATION) -> int | None:
    """The number in /dev/nvidia<number> of the first GPU that CUDA_VISIBLE_DEVICES allows; None without one.

    The variable's numbers count by place on the bus, as under CUDA_DEVICE_ORDER=PCI_BUS_ID; where GPUs of different
    speed are mixed, CUDA by itself counts the fastest first. Names (GPU-<uuid>) are exact.
    """
    if Path("/dev/dxg").exists():  # WSL 2: one node for all GPUs
        return 0
    facts = _first(information)
    return int(facts["Device Minor"]) if facts.get("Device Minor", "").isdecimal() else None


def machine(information: Path = INFORMATION, processor: Path = Path("/proc/cpuinfo")) -> str:
    """What runs train on: the first GPU by model and UUID, which no two share; without one, the processor by model and
    number of cores."""
    facts = _first(information)
    if facts.get("Model"):
        return f"{facts['Model']} {facts.get('GPU UUID', '')}".strip()
    try:
        model = re.search(r"^model name\s*:\s*(.+?)\s*$", processor.read_text(), re.M)
    except OSError:
        model = None
    return f"{model[1] if model else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _first(information: Path) -> dict[str, str]:
    """The driver's facts of the first GPU that CUDA_VISIBLE_DEVICES allows; none without one."""
    found = [_facts(path) for path in sorted(information.glob("*/information"))]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if wanted.isdecimal():
        found = found[int(wanted) :]
    else:
        found = [facts for facts in found if wanted and facts.get("GPU UUID", "").startswith(wanted)]
    return found[0] if found else {}


def _facts(path: Path) -> dict[str, str]:
    """The lines `name: value` of one GPU."""
    return {name.strip(): value for name, value in re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", path.read_text(), re.M)}


def vram_mb() -> float | None:
    """Memory of the first GPU, in MB as torch counts them (2**20 bytes); None without one, or without NVML."""
    number = first_gpu()
    try:
        if number is not None:
            pynvml.nvmlInit()
            if handle := _handle(number):
                return float(pynvml.nvmlDeviceGetMemoryInfo(handle).total) / 2**20
    except pynvml.NVMLError:
        return None
    return None


class Brakes:
    """Whether the driver holds the clocks of GPU `number` back, for heat or for its power supply.

    Its own power limit does not count: what draws more power is slowed by it, which is the code's doing. Nor does
    HwSlowdown, which stands for either. NVML, nvmlClocksEventReasons.
    """

    def __init__(self, number: int) -> None:
        try:
            pynvml.nvmlInit()
            self._handle = _handle(number)
        except pynvml.NVMLError:
            self._handle = None

    def on(self) -> bool | None:
        """None where the driver does not say."""
        if self._handle is None:
            return None
        try:
            reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        except pynvml.NVMLError:
            return None
        return bool(reasons & BRAKES)


def _handle(number: int) -> Any:
    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    return next((handle for handle in handles if pynvml.nvmlDeviceGetMinorNumber(handle) == number), None)
