"""What a verdict is given: how much code there is, and how long ago the champion was run."""

from __future__ import annotations

import math
from dataclasses import replace

from research_loop.judging import lines_of_code, runs_since_champion
from research_loop.records import Experiment, History, Result, Run, Score, Verdict

PLAIN = b'"""What it does."""\nA = (\n    1,\n    2,\n)\n\n\ndef f(a, b):\n    # why\n    return a\n'


def test_formatting_is_no_code() -> None:
    assert lines_of_code({"a.py": PLAIN}) == 3
    for same in (
        PLAIN.replace(b"(\n    1,\n    2,\n)", b"(1, 2)"),
        PLAIN.replace(b'"""What it does."""\n', b""),
        PLAIN.replace(b"    # why\n", b""),
        PLAIN.replace(b"def f(a, b):\n    # why\n    return a", b"def f(\n    a,\n    b,\n):\n    return a"),
    ):
        assert lines_of_code({"a.py": same}) == 3
    assert lines_of_code({"a.py": b"A = 1; B = 2; C = 3\n"}) == 3
    assert lines_of_code({"a.md": b"one\n\ntwo\n", "b.py": b"A = (\n"}) == 3


def test_runs_since_the_champions_last_are_counted_and_another_session_is_long_ago() -> None:
    def experiment(n: int, *began: float) -> Experiment:
        runs = tuple(Run(n, k, 42, at, result=Result("scored", score=Score(1.0))) for k, at in enumerate(began))
        verdict = Verdict("keep" if n < 2 else "discard", "", "", float(n))
        return Experiment(n, "w", "", "", "search", 0 if n else None, "c", "k", 0.0, runs, verdict)

    history = History((experiment(0, 1.0), experiment(1, 2.0, 9.0), experiment(2, 5.0), experiment(3, 10.0, 11.0)))
    assert runs_since_champion(history) == 2
    held_up = Run(1, 2, 42, 12.0, result=Result("slowed"))
    again = replace(history.experiments[1], runs=(*history.experiments[1].runs, held_up))
    known = History((history.experiments[0], again, *history.experiments[2:]))
    assert runs_since_champion(known) == 2, "a run that does not count is none"
    begun = replace(history.experiments[1], runs=(*history.experiments[1].runs, Run(1, 2, 42, 12.0)))
    known = History((history.experiments[0], begun, *history.experiments[2:]))
    assert runs_since_champion(known) == 2, "nor is one that goes on beside others"
    assert runs_since_champion(history, began=8.0) == 2
    assert runs_since_champion(history, began=9.5) == math.inf
    assert runs_since_champion(History()) == 0


def test_the_champion_is_the_last_kept_not_the_highest_number() -> None:
    def kept(n: int, at: float) -> Experiment:
        return Experiment(n, "w", "", "", "s", None, "c", "k", 0.0, (), Verdict("keep", "lower", "", at))

    history = History((kept(0, 1.0), kept(1, 3.0), kept(2, 2.0)))
    assert history.champion is history.experiments[1] and [e.n for e in history.kept] == [0, 2, 1]
