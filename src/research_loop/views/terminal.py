"""The running loop on a terminal (one line an experiment and a live line below) or in a pipe (plain lines)."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from research_loop.records import Experiment, History, Run
from research_loop.tasks import Progress
from research_loop.views import Quiet
from research_loop.views.text import best, row, taken_back, tally

STYLES = {"keep": "bold green", "discard": "", "crash": "red"}
HEADER = f"{'n':>5}  {'verdict':<7}  {'score':>10}  what"
PLAIN_SECONDS = 10.0


class Terminal(Quiet):
    """Live view. Use as a context manager, so that the terminal is whole afterwards."""

    def __init__(self, metric: str, budget_seconds: float) -> None:
        self._metric, self._budget = metric, budget_seconds
        self._history = History()
        self._running: dict[int, tuple[Experiment, Progress | None]] = {}
        self._next = ""
        self._headed = False
        self._console = Console()
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Terminal:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        if self._history.champion:
            self._console.print(self._summary(), highlight=False)

    def opened(self, history: History) -> None:
        self._history = history

    def note(self, text: str) -> None:
        self._console.print(Text(text))

    def started(self, experiment: Experiment, run: Run) -> None:
        if not self._headed:
            self._show_table_so_far()
        self._running[experiment.n], self._next = (experiment, None), ""

    def progressed(self, progress: Progress) -> None:
        if progress.n in self._running:
            self._running[progress.n] = self._running[progress.n][0], progress

    def ended(self, experiment: Experiment) -> None:
        self._running.pop(experiment.n, None)

    def planned(self, what: str) -> None:
        self._next = what

    def decided(self, experiment: Experiment, history: History) -> None:
        self._history = history
        assert experiment.verdict is not None
        self._print(row(experiment), STYLES[experiment.verdict.kind])
        if experiment.verdict.kind == "crash":
            self._print(f"{'':>7}{experiment.verdict.detail}", "red")

    def changed(self, experiment: Experiment, history: History) -> None:
        self._history = history
        if not experiment.kept:
            self._print(taken_back(experiment), "bold red")

    def _show_table_so_far(self) -> None:
        self._headed = True
        self._print(HEADER, "dim")
        for experiment in self._history.experiments[-10:]:
            if experiment.verdict:
                self._print(row(experiment), STYLES[experiment.verdict.kind])

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(text, style=style, no_wrap=True, overflow="ellipsis"))

    def _summary(self) -> str:
        return f"{best(self._history, self._metric)}; {tally(self._history)}"

    def _render(self) -> Group:
        if not self._running:
            return Group()
        summary = self._summary() if self._history.champion else "the baseline comes first"
        lines: list[Text | Table] = []
        for experiment, progress in list(self._running.values()):  # drawn by a thread of its own
            lines.append(Text(f"{experiment.n:>5}  {experiment.what}", no_wrap=True, overflow="ellipsis"))
            lines.append(self._bar(progress))
        lines.append(Text(summary, style="cyan", no_wrap=True, overflow="ellipsis"))
        if self._next:
            lines.append(Text(f"{self._if()}: {self._next}", style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _if(self) -> str:
        return "next, if this is discarded" if len(self._running) == 1 else "next, if these are discarded"

    def _bar(self, progress: Progress | None) -> Table:
        share = (progress.share if progress else None) or 0.0
        loss = progress.loss if progress else None
        left = f"{self._budget * (1 - share):.0f} s left" if 0 < share < 1 else "scoring" if share else "starting"
        table = Table.grid(padding=(0, 1))
        table.add_row(
            "      ", ProgressBar(total=1.0, completed=share, width=30), left, f"loss {loss:.4f}" if loss else ""
        )
        return table


class PlainLines(Quiet):
    """The same for a pipe: one line an event, progress every few seconds, with its experiment's number where there are
    several."""

    def __init__(self, metric: str, budget_seconds: float) -> None:
        self._metric, self._budget = metric, budget_seconds
        self._running: dict[int, tuple[float, float]] = {}  # when it was last told of, and the share then
        self._announced: set[int] = set()

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to restore."""

    def opened(self, history: History) -> None:
        if history.experiments:
            print(f"going on after {len(history.experiments)} experiments; {best(history, self._metric)}", flush=True)

    def note(self, text: str) -> None:
        print(text, flush=True)

    def started(self, experiment: Experiment, run: Run) -> None:
        self._running[experiment.n] = time.monotonic(), 0.0
        if experiment.verdict is not None or experiment.n in self._announced:
            print(f"  run {run.k + 1} of experiment {experiment.n}", flush=True)
            return
        self._announced.add(experiment.n)
        why = f" ({experiment.why})" if experiment.why else ""
        print(f"experiment {experiment.n}: {experiment.what}{why}", flush=True)

    def progressed(self, progress: Progress) -> None:
        said_at, before = self._running.get(progress.n, (0.0, 0.0))
        share = progress.share
        ends = share is not None and share >= 1 and before < 1
        if share is None or share == before or not (ends or time.monotonic() - said_at > PLAIN_SECONDS):
            return
        self._running[progress.n] = time.monotonic(), share
        loss = "" if progress.loss is None else f", loss {progress.loss:.4f}"
        left = f"{self._budget * (1 - share):.0f} s left" if share < 1 else "trained, scoring"
        print(f"  {self._which(progress.n)}{left}{loss}", flush=True)

    def ended(self, experiment: Experiment) -> None:
        self._running.pop(experiment.n, None)

    def decided(self, experiment: Experiment, history: History) -> None:
        verdict = experiment.verdict
        assert verdict is not None
        fact = f"{verdict.kind}: {verdict.detail}; {best(history, self._metric)}; {tally(history)}"
        print(f"  {self._which(experiment.n)}{fact}", flush=True)

    def changed(self, experiment: Experiment, history: History) -> None:
        if not experiment.kept:
            print(f"  {taken_back(experiment)}; {best(history, self._metric)}", flush=True)

    def _which(self, n: int) -> str:
        """Nothing where there is only one that it can be."""
        return f"{n}: " if self._running.keys() - {n} else ""
