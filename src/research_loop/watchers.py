"""Who is told what happens: views. They decide nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from research_loop.records import Experiment, History, Run
from research_loop.tasks import Progress


class Watcher(Protocol):
    """Is told what happens and decides nothing."""

    def opened(self, history: History) -> None: ...
    def note(self, text: str) -> None: ...
    def started(self, experiment: Experiment, run: Run) -> None: ...
    def progressed(self, progress: Progress) -> None: ...
    def ended(self, experiment: Experiment) -> None: ...
    def planned(self, what: str) -> None: ...
    def decided(self, experiment: Experiment, history: History) -> None: ...
    def changed(self, experiment: Experiment, history: History) -> None: ...
    def closed(self) -> None: ...


class Watchers:
    """All of them as one. A view's file that cannot be written is said and does not end the night; the next start
    writes it."""

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def opened(self, history: History) -> None:
        self._tell(lambda watcher: watcher.opened(history))

    def note(self, text: str) -> None:
        for watcher in self._watchers:
            watcher.note(text)

    def started(self, experiment: Experiment, run: Run) -> None:
        self._tell(lambda watcher: watcher.started(experiment, run))

    def progressed(self, progress: Progress) -> None:
        self._tell(lambda watcher: watcher.progressed(progress))

    def ended(self, experiment: Experiment) -> None:
        self._tell(lambda watcher: watcher.ended(experiment))

    def planned(self, what: str) -> None:
        self._tell(lambda watcher: watcher.planned(what))

    def decided(self, experiment: Experiment, history: History) -> None:
        self._tell(lambda watcher: watcher.decided(experiment, history))

    def changed(self, experiment: Experiment, history: History) -> None:
        self._tell(lambda watcher: watcher.changed(experiment, history))

    def closed(self) -> None:
        self._tell(lambda watcher: watcher.closed())

    def _tell(self, event: Callable[[Watcher], None]) -> None:
        for watcher in self._watchers:
            try:
                event(watcher)
            except OSError as error:
                self.note(f"{error.filename or type(watcher).__name__}: not written ({error.strerror})")
