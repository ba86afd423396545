"""The corpus of cheats is run for real: a spread of it always, all of it with --run-slow."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path

import pytest

from research_loop import cheats
from research_loop.aftermath import Seal
from research_loop.cheats import Bench, Cheat, Trial
from research_loop.errors import ConfigError
from research_loop.lab import Lab
from research_loop.testing.labs import git

pytestmark = [pytest.mark.timeout(1800)]

CORPUS = cheats.find_corpus()
EVERY = cheats.read_corpus(CORPUS)
TWICE = {"ahead", "escape", "score", "state"}
HONEST = b"import tiny\n\ntiny.main()\n"


def area(cheat: Cheat) -> str:
    return cheat.name.replace("/", "_").split("_")[0]


def spread() -> set[str]:
    """Names of a dozen cheats: of each area one, and of those that a score hangs on two."""
    areas = defaultdict(list)
    for cheat in EVERY:
        areas[area(cheat)].append(cheat.name)
    return {name for area, names in areas.items() for name in (names[0], names[len(names) // 2])[: 1 + (area in TWICE)]}


SAMPLE = spread()


FIRST = {EVERY[0].name, min(SAMPLE)}


def parameter(cheat: Cheat) -> object:
    """What is asked for first has all the others run, which keeps both cores busy, and what is slowed is late."""
    marks = [] if cheat.name in SAMPLE else [pytest.mark.slow]
    return pytest.param(cheat, id=cheat.name, marks=[*marks, *([pytest.mark.alone] if cheat.name in FIRST else [])])


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trial]:
    """What came of the cheats that this session asks for, several at once."""
    asked = [item for item in request.session.items if "trials" in getattr(item, "fixturenames", ())]
    wanted = [item.callspec.params["cheat"] for item in asked if not item.get_closest_marker("skip")]  # type: ignore[attr-defined]
    done = cheats.run_corpus(tmp_path_factory.mktemp("cheats"), wanted, print, CORPUS)
    return {trial.name: trial for trial in done}


@pytest.mark.parametrize("cheat", [parameter(cheat) for cheat in EVERY])
def test_a_cheat_comes_to_what_it_expects_and_touches_nothing_else(cheat: Cheat, trials: dict[str, Trial]) -> None:
    trial = trials[cheat.name]
    assert trial.held, f"{trial.seen}: {trial.detail}"


def test_the_corpus_covers_every_area_and_has_honest_models() -> None:
    areas = {area(cheat) for cheat in EVERY}
    assert {"score", "ahead", "state", "clock", "data", "escape", "load", "words", "honest"} <= areas
    assert sum(cheat.expected != ("challenged",) for cheat in EVERY) >= 60
    blind = [path for path in CORPUS.glob("*.py") if "\nBLIND = True\n" in path.read_text()]
    assert sum(path.name.startswith("escape") for path in blind) >= 5


# -------------------------------------------------------------------------------------------------------- the runner


@pytest.fixture(scope="module")
def open_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A lab whose runs are not contained: only cheats that stay within it are run here."""
    place = tmp_path_factory.mktemp("open")
    return Bench(cheats.make_lab(place / "lab", CORPUS, sandbox="none"), place, 1.0)


def test_an_outcome_that_was_not_expected_does_not_hold(open_bench: Bench) -> None:
    trial = open_bench.try_(Cheat("mistaken", HONEST, ("rejected:look-ahead",)))
    assert (trial.seen, trial.held) == ("contained", False)
    assert cheats.table([trial]).endswith("0 of 1 held")
    assert "where rejected:look-ahead was due" in cheats.table([trial])


def test_what_is_honest_is_measured_again_before_a_score_is_called_believed(open_bench: Bench) -> None:
    busy = Bench(open_bench.lab, open_bench.place, 99.0)
    trial = busy.try_(Cheat("plain", HONEST, ("contained",)))
    assert (trial.seen, trial.held) == ("contained", True) and busy.honest_bpb < 10


def test_late_is_what_had_no_time_and_needed_none() -> None:
    quick, slow = Cheat("quick", HONEST, ("contained",)), Cheat("slow", HONEST, ("contained", "crash:timeout"))
    seen = {
        (cheat.name, outcome, troubles): cheats.late(cheat, Trial("", (), outcome, 1.0, "", troubles))
        for cheat in (quick, slow)
        for outcome in ("overtime", "believed")
        for troubles in ((), ("it left a process",))
    }
    assert [key for key, late in seen.items() if late] == [("quick", "overtime", ())]


@pytest.mark.slow
def test_what_was_late_without_meaning_to_is_tried_once_more(tmp_path: Path) -> None:
    been, said = tmp_path / "been", list[str]()
    late = f"import os, time\nif not os.path.exists({str(been)!r}):\n    time.sleep(20)\n"

    def say(line: str) -> None:
        said.append(line)
        been.touch()

    tried = [Cheat("late", late.encode() + HONEST, ("contained",))]
    (trial,) = cheats.run_corpus(tmp_path / "place", tried, say, CORPUS, sandbox="none")
    assert trial.held and ["overtime" in said[0], said[1].startswith("once more: ok")] == [True, True]


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("escape_rewrites_results", "the cheat saw that it worked"),
        ("escape_moves_refs", "refs/heads/research-loop-cheat moved"),
        ("escape_git_hooks", ".git/config changed"),
    ],
)
def test_a_cheat_that_is_not_contained_is_noticed(open_bench: Bench, name: str, trouble: str) -> None:
    trial = open_bench.try_(next(cheat for cheat in EVERY if cheat.name == name))
    assert not trial.held
    assert trouble in trial.detail


def test_a_lab_that_is_not_as_its_ledger_says_is_noticed(open_bench: Bench) -> None:
    lab = open_bench.lab
    seal = Seal.of(lab)
    assert seal.troubles(lab, runs=0) == []
    with lab.root.joinpath("results.tsv").open("a") as table:
        table.write("0000000\t0.1\t0.0\tkeep\tnot so\n")
    (lab.root / "data" / "token_bytes.npy").write_bytes(b"changed")
    git(lab.root, "update-ref", "-d", "refs/research-loop/0")
    assert seal.troubles(lab, runs=0) == [
        "data/token_bytes.npy changed",
        "refs/research-loop/0 moved",
        "results.tsv is not the ledger's",
    ]
    forge(lab)
    assert "rows of the ledger changed" in seal.troubles(lab, runs=0)


def forge(lab: Lab) -> None:
    with sqlite3.connect(lab.ledger_path) as ledger:
        ledger.execute("DROP TRIGGER no_update_results")
        ledger.execute("UPDATE results SET score = 0.1")


def test_a_file_that_says_not_what_it_expects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "score_zero.py").write_bytes(HONEST)
    with pytest.raises(ConfigError, match=r"score_zero\.py: does not say what it expects"):
        cheats.read_corpus(tmp_path)


def test_a_cheat_grows_by_the_literal_that_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "words_weights.py").write_text('EXPECT = ("refused", "contained")\nGROW = 1000\nRUNS = 2\n')
    (cheat,) = cheats.read_corpus(tmp_path)
    assert len(cheat.code) > 2000
    assert (cheat.expected, cheat.runs) == (("refused", "contained"), 2)
