"""False keeps among experiments that begin as the champion does and see other text: the null campaign for pairs.

    ./uv run python benchmarks/null_pairs.py FOLDER [--experiments 300] [--budget 2] [--eval-tokens 32768]

`doctor --null` gives every run luck of its own, so that no two make a pair. Here the code of experiment n skips n
batches after its first: the same weights, the same first loss, other text from then on, and nothing gained. It is a
real CPU lab whose clock counts work (race.py), so that what else this machine does changes no score. Called again it
goes on. Prints false keeps beside the rules that others use, and how many verdicts came of pairs.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from race import make_first

from research_loop import null, verdict
from research_loop.loop import ensure_baseline
from research_loop.records import Checkout, Experiment, Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session

FIRST = "    x, y, epoch = next(batches)\n    trained"
EVERY = 7
"""Progress is printed this often."""


def null_proposal(checkout: Checkout, n: int) -> Proposal:
    """The champion's code, but for `n` batches that it does not see."""
    source = checkout.files["train.py"].decode()
    assert source.count(FIRST) == 1, "made for another train.py"
    skip = FIRST.replace("\n", f"\n    [next(batches) for _ in range({n})]\n")
    files = {"train.py": source.replace(FIRST, skip).encode()}
    return Proposal(files, f"{n} batches skipped", proposer="search/null", parent=checkout.parent)


def campaign(session: Session, experiments: int) -> None:
    if ensure_baseline(session) is None:
        return
    for experiment in session.history.open:
        session.finish(experiment.n)
    baseline = session.history.baseline
    assert baseline is not None
    files = session.repository.files(baseline.commit, session.lab.config.editable)
    while (done := len(null.nulls(session.history))) < experiments:
        # from the baseline's code, whatever was kept: what is skipped must not add up
        checkout = session.open()
        session.close(null_proposal(Checkout(checkout.parent, files, checkout.context), done + 1))
        if done % EVERY == 0:
            print(f"{done + 1} of {experiments}", flush=True)


def by_pairs(experiment: Experiment) -> bool:
    """Whether its verdict compared seed by seed; "2 seeds of both" is how the fact says so."""
    return experiment.verdict is not None and " of both" in experiment.verdict.detail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--budget", type=int, default=2)
    parser.add_argument("--eval-tokens", type=int, default=32768)
    arguments = parser.parse_args()
    verdict.MARGIN_SECONDS = verdict.SLOWED = math.inf  # by a clock of work nothing is slow
    lab = make_first(arguments.folder, arguments.budget, True, arguments.eval_tokens)
    with Session(lab, LocalRunner()) as session:
        campaign(session, arguments.experiments)
        found = null.nulls(session.history)
        print(null.report(session.history, lab.config.metric, lab.config.direction, lab.config.budget_seconds))
        twice = [e for e in found if len(e.scores) > 1]
        print(f"{len(twice)} of them were run more than once, {sum(map(by_pairs, found))} were judged by pairs")


if __name__ == "__main__":
    main()
