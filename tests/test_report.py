"""What a report says of kept changes, and that it claims nothing without an audit."""

from __future__ import annotations

from research_loop.audit import Noted
from research_loop.config import LabConfig
from research_loop.edits import constants
from research_loop.proposers.search import guesses
from research_loop.proposers.search.guesses import Family
from research_loop.records import Experiment, History, Result, Run, Score, Verdict, VerdictKind
from research_loop.views.report import parts, report


def experiment(n: int, what: str, kind: VerdictKind, value: float, parent: int | None) -> Experiment:
    runs = (Run(n, 0, 42, 0.0, result=Result("scored", score=Score(value))),)
    return Experiment(n, what, "", "", "search", parent, "c" * 40, f"k{n}", 0.0, runs, Verdict(kind, "lower", "", 0.0))


BASE = experiment(0, "baseline", "keep", 1.0, None)
FIRST = experiment(1, "MATRIX_LR 0.04 -> 0.05", "keep", 0.9, 0)
WORSE = experiment(2, "DEPTH 4 -> 5", "discard", 0.95, 1)
SECOND = experiment(3, "DEPTH 4 -> 6; ASPECT_RATIO 64 -> 48", "keep", 0.7, 1)
HISTORY = History((BASE, FIRST, WORSE, SECOND))
WITHOUT_FIRST = experiment(4, "MATRIX_LR 0.05 -> 0.04", "discard", 0.72, 3)


def test_without_ablations_only_the_order_of_discovery_is_said() -> None:
    assert [(part.experiment.n, part.worth) for part in parts(HISTORY, higher=False)] == [(1, None), (3, None)]
    text = report(HISTORY, (), LabConfig(), "lab")
    assert "order of discovery, which says nothing of their worth" in text and "by what leaving each out" not in text
    assert "no claim: experiment 3 has no complete audit" in text
    assert "+0.100000 when found, experiment 1: MATRIX_LR 0.04 -> 0.05" in text


def test_what_was_left_out_is_ranked_by_what_that_cost() -> None:
    history = History((*HISTORY.experiments, WITHOUT_FIRST))
    found = parts(history, higher=False)
    assert [part.experiment.n for part in found] == [1, 3]
    assert found[0].worth is not None and abs(found[0].worth - 0.02) < 1e-9
    assert "+0.020000  +0.100000 when found, experiment 1" in report(history, (), LabConfig(), "lab")
    before = experiment(4, "MATRIX_LR 0.05 -> 0.04", "discard", 0.72, 0)
    assert parts(History((*HISTORY.experiments, before)), higher=False)[0].worth is None, "not made of it"


SAID = """baseline (experiment 0): val_bpb 1.001000, standard deviation 0.001000, n 3, confirmed
champion (experiment 3): val_bpb 0.711000, standard deviation 0.001000, n 3, confirmed
champion less baseline: -0.290000: p 1e-09 (Welch's t-test, one-sided), significant
trained on H100
on text never sent: +0.0004 nats a token: THE GAIN DOES NOT SHOW THERE, as with a model that remembers"""


def test_a_claim_is_all_that_the_audit_said_with_what_it_was_of_and_when() -> None:
    lines = report(HISTORY, [Noted(3, 86400.0, 0, SAID)], LabConfig(), "lab", audit_runs=6).splitlines()
    start = lines.index(f"  {SAID.splitlines()[0]}")
    assert lines[start - 1].endswith(": the audit of experiment 3, 1970-01-02 00:00 UTC, said:")
    assert lines[start : start + 6] == [*(f"  {line}" for line in SAID.splitlines()), ""]
    assert "nothing was kept after the baseline" in report(History((BASE,)), (), LabConfig(), "lab")


def test_a_champion_since_the_audit_is_said_to_have_none() -> None:
    since = report(HISTORY, [Noted(1, 0.0, 0, SAID)], LabConfig(), "lab")
    assert "since then experiment 3 is the champion, and has not been audited" in since
    back = report(HISTORY, [Noted(3, 0.0, 0, "three"), Noted(1, 9.0, 6, "one")], LabConfig(), "lab")
    assert "  one\n" in back and "  three\n" not in back and "champion, and only an earlier audit was of it" in back


def test_runs_of_an_older_versions_audit_are_no_claim_and_count_as_a_try() -> None:
    old = report(HISTORY, (), LabConfig(), "lab", audit_runs=6)
    assert "no claim: an older version recorded runs of audits and no conclusion: `research-loop audit`" in old
    again = report(HISTORY, [Noted(3, 0.0, 6, SAID)], LabConfig(), "lab", audit_runs=12)
    assert "audits in this lab: 1, and an older version's before them" in again


def test_the_search_leaves_out_each_old_keep_that_still_stands() -> None:
    source = "DEPTH = 6\nASPECT_RATIO = 48\nMATRIX_LR = 0.05\n"
    values = {name: constant.value for name, constant in constants(source).items()}
    ideas = list(guesses.ablations(Family.of(HISTORY, 3, values, None)))
    assert [dict(idea.changes) for idea in ideas] == [{"MATRIX_LR": 0.04}]
    assert list(guesses.ablations(Family.of(HISTORY, 3, {**values, "MATRIX_LR": 0.06}, None))) == []
