"""What proposers cost the machine: seconds between runs with the built-in search, and with a model that drafts.

    ./uv run python benchmarks/idle.py [--experiments 30] [--seconds 2] [--answer-after 0 1]

Real loops over quick labs; the model's server is scripted, on loopback, and answers at once or after so many seconds.
Prints a table: median and longest gap between the end of a run and the start of the next, and how many were drafts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
from pathlib import Path

from research_loop import edits
from research_loop.desk import Desk
from research_loop.lab import Lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, run_loop
from research_loop.proposers import choose
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import make_quick_lab
from research_loop.testing.models import Call, ScriptedModel, Turn


def turns(source: str, count: int) -> list[Turn]:
    """Answers that each set another rate, in a whole file."""
    words = {"what": "another MATRIX_LR", "why": "a guess", "risk": "none"}
    found = []
    for k in range(1, count + 1):
        content = edits.replace(source, {"MATRIX_LR": 0.04 + 0.001 * k})
        found.append(Turn(calls=(Call("propose", {**words, "files": [{"path": "train.py", "content": content}]}),)))
    return found


def loop(lab: Lab, names: list[str], experiments: int) -> None:
    proposer, drafters, shared = choose(names, 0)
    with Session(lab, LocalRunner()) as session, Desk(session, drafters, shared="search" if shared else "") as desk:
        run_loop(session, proposer, Limits(experiments), desk)


def line(name: str, lab: Lab) -> str:
    history = Ledger(lab.ledger_path, read_only=True).history
    runs = sorted((run for e in history.experiments for run in e.runs), key=lambda run: run.started_at)
    gaps = [b.started_at - a.started_at - a.result.seconds for a, b in itertools.pairwise(runs) if a.result]
    drafts = sum(e.draft is not None for e in history.experiments)
    return f"| {name} | {len(runs)} | {drafts} | {statistics.median(gaps):.3f} | {max(gaps):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--answer-after", type=float, nargs="+", default=[0.0, 1.0])
    arguments = parser.parse_args()
    print("| proposer | runs | drafts | median gap, s | longest, s |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        lab = make_quick_lab(Path(place, "search"), seconds=arguments.seconds)
        loop(lab, ["search"], arguments.experiments)
        print(line("search", lab), flush=True)
        for seconds in arguments.answer_after:
            lab = make_quick_lab(Path(place, f"model-{seconds}"), seconds=arguments.seconds)
            answers = turns((lab.root / "train.py").read_text(), arguments.experiments + 1)
            with ScriptedModel([Turn(calls=turn.calls, seconds=seconds) for turn in answers]) as model:
                os.environ["OPENAI_BASE_URL"] = f"{model.url}/v1"
                loop(lab, ["openai:scripted"], arguments.experiments)
            print(line(f"a model that answers after {seconds:g} s", lab), flush=True)


if __name__ == "__main__":
    main()
