"""Which GPU a run gets, by the number of its device node; its name and memory, and whether it may run at full speed."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from research_loop.errors import ConfigError

INFORMATION = Path("/proc/driver/nvidia/gpus")
"""A folder a GPU, named by its place on the bus, with the driver's facts in `information`."""
BRAKES = (
    pynvml.nvmlClocksEventReasonSwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One that runs may get: `number` as in /dev/nvidia<number>."""

    number: int
    model: str
    uuid: str


class Pool:
    """The GPUs that a session's runs are spread over, one a run at a time.

    Scores of all of them are held against each other as those of one machine, so an experiment's runs take turns on
    them: what one of them is faster or slower by speaks for and against it alike.
    """

    def __init__(self, gpus: Sequence[Gpu] = ()) -> None:
        self._gpus, self._taken = tuple(gpus), dict[tuple[int, int], Gpu]()

    @property
    def machine(self) -> str | None:
        """What its runs train on; None where there is nothing to choose from, and the machine says it."""
        uuids = " ".join(gpu.uuid for gpu in self._gpus)
        return f"{len(self._gpus)} x {self._gpus[0].model} {uuids}" if self._gpus else None

    def suits(self, before: Sequence[str | None]) -> bool:
        """Whether a GPU is free on which an experiment, whose runs had those `before` by UUID, is due: none of the
        others had fewer of them."""
        counts = [before.count(gpu.uuid) for gpu in self._gpus]
        return not counts or any(before.count(gpu.uuid) == min(counts) for gpu in self._free())

    def take(self, n: int, k: int, before: Sequence[str | None] = ()) -> Gpu | None:
        """A free one for run `k` of experiment `n`: of those that the fewest of its runs `before` had, the first."""
        self.give_back(n, k)
        gpu = min(self._free(), key=lambda gpu: before.count(gpu.uuid), default=None)
        if gpu is not None:
            self._taken[n, k] = gpu
        return gpu

    def give_back(self, n: int, k: int) -> None:
        self._taken.pop((n, k), None)

    def _free(self) -> list[Gpu]:
        return [gpu for gpu in self._gpus if gpu not in self._taken.values()]


def choose(count: int, information: Path = INFORMATION) -> list[Gpu]:
    """So many of those that CUDA_VISIBLE_DEVICES allows, all if it is not set, in its order. Raises ConfigError where
    there are fewer, or where they are not alike: runs on them could not be compared."""
    found = [_gpu(facts) for facts in _allowed(information, os.environ.get("CUDA_VISIBLE_DEVICES"))]
    gpus = [gpu for gpu in found if gpu is not None][:count]
    if len(gpus) < count:
        cure = "ask for fewer, or see `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        raise ConfigError(f"--gpus {count}: {len(gpus)} found: {cure}")
    models = sorted({gpu.model for gpu in gpus})
    if len(models) > 1:
        raise ConfigError(f"--gpus {count}: {', '.join(models)}: choose alike ones with CUDA_VISIBLE_DEVICES")
    return gpus


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
    found = _allowed(information, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return found[0] if found else {}


def _allowed(information: Path, visible: str | None) -> list[dict[str, str]]:
    """Facts of all that are allowed, up to the first that is not there, as CUDA reads it."""
    found = [_facts(path) for path in sorted(information.glob("*/information"))]
    if visible is None:
        return found
    allowed: list[dict[str, str]] = []
    for wanted in (part.strip() for part in visible.split(",")):
        if wanted.isdecimal():
            meant = found[int(wanted) : int(wanted) + 1]
        else:
            meant = [facts for facts in found if wanted and facts.get("GPU UUID", "").startswith(wanted)][:1]
        if not meant or meant[0] in allowed:
            break
        allowed += meant
    return allowed


def _gpu(facts: dict[str, str]) -> Gpu | None:
    number, uuid = facts.get("Device Minor", ""), facts.get("GPU UUID", "")
    return Gpu(int(number), facts.get("Model", "GPU"), uuid) if number.isdecimal() and uuid else None


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
