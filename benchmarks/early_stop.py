"""What the early stop saves and what it costs, replayed over recorded curves of runs that went on to their end.

    ./uv run python benchmarks/early_stop.py LAB [LAB ...]

Every first run of an experiment that ended with a score and a curve is held against its champion's curves as they were
then; a run of training that would have been cut is a false kill where its experiment was kept, or where its score was
better than the champion's mean. Runs that were cut in truth have no end, and are counted apart.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from research_loop import noise
from research_loop.curves import Gate, pace_of
from research_loop.history import Repository
from research_loop.judging import changed_constants
from research_loop.lab import Lab, open_lab
from research_loop.ledger import Ledger
from research_loop.records import Experiment
from research_loop.tasks import Pace


@dataclass
class Count:
    """Seconds are of training; `lost` false kills were kept, `lucky` ones were better in that run only."""

    cut: int = 0
    cut_seconds: float = 0.0
    runs: int = 0
    seconds: float = 0.0
    hopeless: int = 0
    saved: float = 0.0
    lost: int = 0
    lucky: int = 0


def replay(lab: Lab, count: Count) -> None:
    repository, ledger = Repository.find(lab.root), Ledger(lab.ledger_path, read_only=True)
    if repository is None:
        raise SystemExit(f"{lab.root}: has no git repository")
    budget = lab.config.budget_seconds
    for experiment in ledger.history.experiments:
        first = experiment.runs[0] if experiment.runs else None
        if experiment.parent is None or first is None or first.result is None:
            continue
        if first.result.outcome == "cut":
            count.cut += 1
            count.cut_seconds += budget * (1 - (first.result.hopeless_at or 0.0))
        pace = pace_then(lab, ledger, repository, experiment)
        curve = ledger.trace(experiment.n, 0)[0]
        if pace is None or not curve or first.result.score is None:
            continue
        count.runs, count.seconds = count.runs + 1, count.seconds + budget
        gate = Gate(replace(pace, spared=False))
        if any(gate.see(point.share, point.loss) for point in curve):
            champion = ledger.experiment(experiment.parent)
            better = champion.score and noise.better(
                first.result.score.value, champion.score.value, lab.config.direction
            )
            count.hopeless += 1
            count.saved += budget * (1 - (gate.hopeless_at or 0.0))
            count.lost, count.lucky = count.lost + experiment.kept, count.lucky + bool(better and not experiment.kept)


def pace_then(lab: Lab, ledger: Ledger, repository: Repository, experiment: Experiment) -> Pace | None:
    """Of its parent, by the runs that had ended when it began."""
    assert experiment.parent is not None
    champion, began = ledger.experiment(experiment.parent), experiment.runs[0].started_at
    done = [run for run in champion.runs if run.started_at < began and run.result and run.result.score]
    ours, theirs = (repository.files(e.commit, lab.config.editable) for e in (champion, experiment))
    changed = changed_constants(ours, theirs)
    return pace_of([ledger.trace(champion.n, run.k)[0] for run in done], changed, experiment.n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labs", type=Path, nargs="+")
    count = Count()
    for folder in parser.parse_args().labs:
        replay(open_lab(folder), count)
    whole, saved = count.seconds + count.cut_seconds, count.saved + count.cut_seconds
    print(f"{count.runs} first runs with an end, {count.cut} that were cut")
    print(f"hopeless: {count.hopeless + count.cut}; {100 * saved / max(whole, 1e-9):.0f} % of their training saved")
    print(f"of {count.hopeless} that ended all the same, {count.lost} were kept, {count.lucky} better in that one run")


if __name__ == "__main__":
    main()
