"""Early stop: which runs are hopeless, and that a real one is ended for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import pytest

from research_loop import curves
from research_loop.curves import Gate, loss_at, margin, pace_of
from research_loop.judging import changed_constants
from research_loop.lab import open_lab
from research_loop.loop import ensure_baseline
from research_loop.records import Point, Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.tasks import Pace
from research_loop.testing.labs import TRAIN, make_quick_lab

CHAMPION = tuple(Point(i / 20, i, 4.0 - 3 * i / 20) for i in range(21))


def looked(pace: Pace, worse: float, until: float = 1.0) -> float | None:
    """Where a run whose loss is always so many times the champion's is found hopeless."""
    gate = Gate(pace)
    for i in range(int(100 * until) + 1):
        usual = loss_at(pace.points, i / 100)
        if gate.see(i / 100, None if usual is None else worse * usual):
            return i / 100
    return None


def pace(changed: set[str] | None = frozenset({"DEPTH"})) -> Pace:  # type: ignore[assignment]
    found = pace_of([CHAMPION] * 3, changed, seed=1)
    assert found is not None
    return found


def test_margins_are_straight_lines_between_what_was_seen() -> None:
    assert [margin(share) for share in (0.25, 0.5, 0.75, 0.9, 0.99)] == [0.06, 0.04, 0.02, 0.009, 0.009]
    assert margin(0.375) == pytest.approx(0.05)


def test_two_looks_in_a_row_have_to_agree() -> None:
    assert looked(pace(), 1.07) == 0.3
    assert looked(pace(), 1.05) == pytest.approx(0.44, abs=0.03)
    assert looked(pace(), 1.008) is None
    gate, once = Gate(pace()), loss_at(pace().points, 0.25)
    assert once is not None and not gate.see(0.25, 2 * once)
    assert not gate.see(0.3, loss_at(pace().points, 0.3)), "back at the champion's loss"
    assert not gate.see(0.35, 99.0) and gate.see(0.4, 99.0) and not gate.see(0.45, 99.0), "it is said once"


@pytest.mark.parametrize(
    "name",
    ["WARMDOWN_RATIO", "MATRIX_LR", "TOTAL_BATCH_SIZE", "WEIGHT_DECAY", "ADAM_BETAS", "AVERAGE_HALF_LIFE", "MUON_DIP"],
)
def test_changes_that_cross_late_are_looked_at_late(name: str) -> None:
    assert looked(pace({name}), 1.07) == 0.8
    assert looked(pace({name, "DEPTH"}), 1.025) == pytest.approx(0.86, abs=0.03), "margins half as much again"
    assert looked(pace(None), 1.07) == 0.8, "code that changed"


def test_the_pace_is_the_median_of_the_champions_curves() -> None:
    lucky, bad = (tuple(replace(point, loss=factor * point.loss) for point in CHAMPION) for factor in (0.9, 1.5))
    found = pace_of([lucky, CHAMPION, bad], set(), seed=1)
    assert found is not None and loss_at(found.points, 0.5) == pytest.approx(2.5)
    assert found.spread[50][1] > 0.5
    assert pace_of([(), CHAMPION, (Point(0.5, 1, 2.0),)], set(), seed=1) is None, (
        "one curve does not say how far runs differ"
    )


def test_what_the_champions_own_runs_differ_by_is_no_sign_of_anything() -> None:
    draw = random.Random(5)

    def raw() -> tuple[Point, ...]:
        return tuple(replace(point, loss=point.loss * (1 + draw.gauss(0, 0.03))) for point in CHAMPION)

    hopeless = 0
    for _ in range(200):
        found = pace_of([raw() for _ in range(3)], set(), seed=1)
        assert found is not None
        gate = Gate(found)
        hopeless += any(gate.see(point.share, point.loss) for point in raw())
    assert hopeless <= 20, "of runs that print the loss of each batch, where a plain margin ended half"


def test_a_loss_below_zero_has_no_shares() -> None:
    below = tuple(replace(point, loss=point.loss - 9.0) for point in CHAMPION)
    found = pace_of([below] * 3, set(), seed=1)
    assert found is not None and not any(Gate(found).see(i / 100, -4.0) for i in range(101))


def test_a_tenth_of_hopeless_runs_is_spared() -> None:
    spared = [pace_of([CHAMPION] * 2, set(), seed) for seed in range(2000)]
    assert 150 < sum(found is not None and found.spared for found in spared) < 250


def test_no_run_that_ends_like_the_champion_is_hopeless() -> None:
    draw, known = random.Random(3), pace()
    for _ in range(200):  # as far above as any later winner was, and noise of half a per cent on the printed loss
        gate = Gate(known)
        for i in range(101):
            share = i / 100
            usual = loss_at(known.points, share)
            assert usual is not None
            above = 0.5 * margin(share)
            assert not gate.see(share, usual * (1 + above + draw.gauss(0, 0.001)))


def test_only_constants_changed_or_code_did() -> None:
    before = {"train.py": b"A_LR = 0.1\nDEPTH = 4  # layers\nprint(DEPTH)\n"}
    assert changed_constants(before, before) == set()
    assert changed_constants(before, {"train.py": b"A_LR = 0.2\nDEPTH = 4\nprint(DEPTH)\n"}) == {"A_LR"}
    assert changed_constants(before, {"train.py": b"A_LR = 0.2\nDEPTH = 4\nprint(DEPTH + 1)\n"}) is None
    assert changed_constants(before, {"train.py": b"A_LR = ("}) is None
    assert changed_constants({"notes.md": b"a"}, {"notes.md": b"b"}) is None


@pytest.mark.parametrize("spared", [False, True])
def test_a_hopeless_run_is_ended_early_unless_it_is_spared(
    tmp_path: Path, spared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "SPARED", float(spared))
    lab = make_quick_lab(tmp_path / "lab", train=TRAIN.format(seconds=2.0))
    text = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(text.replace('noise = "none"', 'noise = "measured"'))
    lab = open_lab(lab.root)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        checkout = session.open()
        worse = checkout.files["train.py"].replace(b"DEPTH = 8", b"DEPTH = 2")
        found = session.close(Proposal({"train.py": worse}, "far too small", parent=0))
    assert found.verdict is not None and found.last is not None and found.last.hopeless_at is not None
    assert found.verdict.reason == ("not-lower" if spared else "curve")
    assert (found.last.outcome, found.score is None) == (("scored", False) if spared else ("cut", True))
    assert found.last.hopeless_at < 0.9 and (spared or found.last.seconds < 2.0)


DATA = '\n[data]\nsource = "texts"\n'


@pytest.mark.parametrize(("data", "epoch", "outcome"), [(DATA, b"1", "cut"), (DATA, b"2", "scored"), ("", b"2", "cut")])
def test_a_run_that_sees_its_text_again_is_not_ended_for_its_loss_where_the_lab_has_a_text(
    tmp_path: Path, data: str, epoch: bytes, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "SPARED", 0.0)
    train = "EPOCH = 1\n" + TRAIN.format(seconds=2.0).replace(':.6f} "', ':.6f} | epoch: {EPOCH}"')
    lab = make_quick_lab(tmp_path / "lab", train=train)
    text = (lab.root / "lab.toml").read_text() + data
    (lab.root / "lab.toml").write_text(text.replace('noise = "none"', 'noise = "measured"'))
    lab = open_lab(lab.root)
    with Session(lab, LocalRunner()) as session:
        ensure_baseline(session)
        worse = session.open().files["train.py"].replace(b"DEPTH = 8", b"DEPTH = 2")
        worse = worse.replace(b"EPOCH = 1", b"EPOCH = " + epoch)
        found = session.close(Proposal({"train.py": worse}, "far too small", parent=0))
    assert found.last is not None and found.last.outcome == outcome
    assert (found.last.hopeless_at is None) == (outcome == "scored")


@pytest.mark.parametrize(("data", "epoch", "count"), [(DATA, 3, 1), (DATA, 1, 0), ("", 3, 0)])
def test_text_that_is_too_short_for_the_budget_is_said_once_and_by_status_where_the_lab_has_a_text(
    tmp_path: Path, research_loop: Callable[..., Popen[str]], data: str, epoch: int, count: int
) -> None:
    train = TRAIN.format(seconds=0.1).replace(':.6f} "', f':.6f}} | epoch: {epoch}"')
    lab = make_quick_lab(tmp_path / "lab", train=train)
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_text("One story.\n" * 100)
    (lab.root / "prepare.py").write_text("")
    text = (lab.root / "lab.toml").read_text() + data.replace("texts", str(tmp_path / "texts"))
    (lab.root / "lab.toml").write_text(text)
    for command in (["run", lab.root, "--experiments", 1], ["status", lab.root]):
        said, _ = research_loop(*command).communicate()
        assert said.count("text: runs come to pass 3 over it") == count
    again, _ = research_loop("run", lab.root, "--experiments", 1).communicate()
    assert "experiment 2" in again and "over it" not in again
