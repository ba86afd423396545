"""Who runs: a runner holds some runs at once and hands back what the harness saw of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from research_loop import plugins
from research_loop.records import Result, Run
from research_loop.tasks import Job, Progress


@dataclass(frozen=True, slots=True)
class Started:
    """The process that answers for a run; pid and create time (seconds since the epoch) name it for good."""

    keeper_pid: int
    keeper_create_time: float


class Runner(Protocol):
    """Starts runs and waits for them. One thread calls all of it."""

    slots: int
    """How many runs it can hold at once."""

    @property
    def running(self) -> int:
        """Runs started and not yet handed back by `wait`."""
        ...

    def start(self, job: Job) -> Started:
        """Start a run. Raises RunError when it cannot be started; a run that fails is a result, not an error."""
        ...

    def wait(self, timeout: float, on_progress: Callable[[Progress], None] | None = None) -> list[tuple[Job, Result]]:
        """Return as soon as a run has ended; [] after `timeout` seconds, or at once when nothing runs."""
        ...

    def stop(self) -> None:
        """Kill all runs now; the next `wait` returns them as `stopped`."""
        ...

    def recover(self, runs: Iterable[Run], lab_id: str) -> None:
        """End what is left of runs that a killed harness started; every process of the lab carries `lab_id`."""
        ...

    def close(self) -> None:
        """Stop what still runs and free everything; nothing can be started afterwards."""
        ...


def load(name: str) -> Callable[..., Runner]:
    """The runner's class or factory by its entry-point name, called with `slots` where it is to hold several;
    ConfigError names the known ones."""
    factory: Callable[..., Runner] = plugins.load("runner", name)
    return factory
