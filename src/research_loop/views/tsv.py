"""results.tsv: one line an experiment, in the format that karpathy/autoresearch's scripts read."""

from __future__ import annotations

from pathlib import Path

from research_loop.files import remove_leftovers, write_whole
from research_loop.records import Experiment, History
from research_loop.views import Quiet


def results_tsv(history: History, metric: str) -> str:
    """Header and a line for every decided experiment; a crash has 0.000000 and 0.0."""
    rows = [f"commit\t{metric}\tmemory_gb\tstatus\tdescription"]
    rows += [_row(experiment) for experiment in history.experiments if experiment.verdict is not None]
    return "\n".join(rows) + "\n"


def _row(experiment: Experiment) -> str:
    assert experiment.verdict is not None
    crashed = experiment.verdict.kind == "crash"
    value = 0.0 if crashed or experiment.score is None else experiment.score.value
    last = experiment.last
    memory_gb = 0.0 if crashed or last is None else (last.peak_vram_mb or 0.0) / 1024
    what = " ".join(experiment.what.split())
    return f"{experiment.commit[:7]}\t{value:.6f}\t{memory_gb:.1f}\t{experiment.verdict.kind}\t{what}"


class ResultsFile(Quiet):
    """Rewrites results.tsv, whole, at the start and after every verdict."""

    def __init__(self, path: Path, metric: str) -> None:
        self._path, self._metric = path, metric

    def opened(self, history: History) -> None:
        remove_leftovers(self._path)
        self._write(history)

    def decided(self, experiment: Experiment, history: History) -> None:
        self._write(history)

    def changed(self, experiment: Experiment, history: History) -> None:
        self._write(history)

    def _write(self, history: History) -> None:
        write_whole(self._path, results_tsv(history, self._metric).encode())
