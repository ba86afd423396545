"""What happens between two steps of a keep, with two labs in one repository, or with files put in the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from research_loop import sandbox
from research_loop.branch import Branch, ref_of
from research_loop.errors import LedgerError, PinError, ProposalError, SandboxError
from research_loop.history import Repository
from research_loop.lab import Lab, make_blank_lab, open_lab
from research_loop.ledger import Ledger
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.proposers.search import SearchProposer
from research_loop.records import Checkout, History, Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import TRAIN, git, make_quick_lab
from research_loop.views import Quiet
from research_loop.views.tsv import ResultsFile


class Notes(Quiet):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def session_of(lab: Lab, slots: int = 1, *watchers: Quiet) -> Session:
    return Session(lab, LocalRunner(slots), [ResultsFile(lab.root / "results.tsv", "val_bpb"), *watchers])


def edited(checkout: Checkout, old: str, new: str) -> Proposal:
    source = checkout.files["train.py"].decode()
    assert old in source
    return Proposal({"train.py": source.replace(old, new).encode()}, f"{old} to {new}", parent=checkout.parent)


class Died(BaseException):
    """Stands for the end of the process: nothing of ours catches it."""


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        *((Ledger, "start_run"), (Ledger, "finish_run"), (Ledger, "decide"), (Branch, "mark"), (Branch, "follow")),
        *((Branch, "_replace_files"), (Repository, "point"), (Repository, "commit"), (ResultsFile, "decided")),
    ],
)
def test_an_end_before_any_step_of_a_keep_is_made_good_by_the_next_start(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: type, step: str
) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
    with pytest.raises(Died), monkeypatch.context() as patch, session_of(lab) as session:
        proposal = edited(session.open(), "DEPTH = 8", "DEPTH = 10")

        def die(*_: object, **__: object) -> None:
            raise Died

        patch.setattr(owner, step, die)
        session.close(proposal)
    with session_of(lab) as session:
        if len(session.history.experiments) == 1:
            session.submit(proposal)
        while session.history.open:
            session.pump(timeout=1.0)
        champion = session.history.champion
        assert champion is not None and champion.n == 1
        assert git(lab.root, "rev-parse", session.branch.ref).strip() == champion.commit
        assert git(lab.root, "rev-parse", ref_of(1)).strip() == champion.commit
    assert "DEPTH = 10" in (lab.root / "train.py").read_text()
    assert (lab.root / "results.tsv").read_text().count("\n") == 3


def test_a_ledger_that_fails_at_the_verdict_of_the_baseline_does_not_block_the_lab(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LedgerError("ledger: disk full")

    with monkeypatch.context() as patch, pytest.raises(LedgerError), session_of(lab) as session:
        patch.setattr(Ledger, "decide", full)
        ensure_baseline(session)
    with session_of(lab) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None and baseline.kept and len(baseline.runs) == 1


def test_two_labs_in_one_repository_leave_each_other_whole(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    labs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.py").write_text(TRAIN.format(seconds=0.1))
        labs.append(make_blank_lab(tmp_path / name, {"editable": ["train.py"]}, 5.0))
    commits, branches = [], []
    for lab in labs:
        with session_of(lab) as session:
            baseline = ensure_baseline(session)
            assert baseline is not None
            commits.append(baseline.commit)
            branches.append(session.branch.name)
    assert len(set(branches)) == 2
    refs = git(tmp_path, "for-each-ref", "--format=%(objectname) %(refname)")
    assert f"{commits[1]} refs/research-loop/0\n" in refs
    assert f"{commits[0]} refs/research-loop/saved/{commits[0]}\n" in refs


def test_a_proposal_with_a_file_that_is_not_editable_is_refused(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        files = {**session.open().files, "helper.py": b"evil = 1\n"}
        with pytest.raises(ProposalError, match=r"helper\.py: is not editable"):
            session.submit(Proposal(files, "more than asked", parent=0))
        assert len(session.history.experiments) == 1


def test_a_copy_of_a_lab_does_not_end_the_originals_run(lab: Lab, tmp_path: Path) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        session.submit(edited(session.open(), "SECONDS = 0.2\nDEPTH = 8", "SECONDS = 1.0\nDEPTH = 10"))
        session.pump(timeout=0.3)
        shutil.copytree(lab.root, tmp_path / "copy")
        with session_of(open_lab(tmp_path / "copy")):
            pass
        while session.history.open:
            session.pump(timeout=1.0)
        assert session.history.experiments[1].kept


def test_where_no_sandbox_works_an_automatic_one_is_done_without_and_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_trouble", lambda name: "" if name == "none" else "not on this kernel")
    text = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(text.replace('sandbox = "none"', 'sandbox = "auto"'))
    notes = Notes()
    with session_of(open_lab(lab.root), 1, notes) as session:
        assert ensure_baseline(session)
        run_loop(session, SearchProposer(), Limits(experiments=1))
        assert len(session.history.experiments) == 2
        code = session.open().files["train.py"] + b"# by a model\n"
        with pytest.raises(ProposalError, match="`--unsafe` runs it with all your rights"):
            session.close(Proposal({"train.py": code}, "somebody's", parent=0, proposer="user"), again=True)
        assert len(session.history.experiments) == 2
    assert notes.said[0].startswith("runs are not contained, and their scores unverified: no sandbox works here")
    with Session(open_lab(lab.root), LocalRunner(), unsafe=True) as session:
        better = code.replace(b"DEPTH = 8", b"DEPTH = 10")
        assert session.close(Proposal({"train.py": better}, "somebody's", parent=0, proposer="user")).kept
        session.submit(Proposal({"train.py": code}, "somebody's", parent=0, proposer="user"), again=True)
    with session_of(open_lab(lab.root)) as session:
        champion, still_open = session.history.experiments[2:]
        with pytest.raises(ProposalError, match="`--unsafe`"):
            session.finish(still_open.n)
        with pytest.raises(ProposalError, match="`--unsafe`"):
            session.start_audit(champion)
        with pytest.raises(ProposalError, match="`--unsafe`"):
            run_loop(session, SearchProposer(), Limits(experiments=1))
        assert still_open in session.history.open
    (lab.root / "lab.toml").write_text(text.replace('sandbox = "none"', 'sandbox = "landlock"'))
    with pytest.raises(SandboxError, match="not on this kernel"):
        session_of(open_lab(lab.root))


def test_uncommitted_work_that_runs_do_not_see_is_said(lab: Lab) -> None:
    (lab.root / "helper.py").write_text("# changed\n")
    notes = Notes()
    with session_of(lab, 1, notes):
        pass
    assert notes.said == ["note: helper.py changed but not committed: runs do not see that"]


def test_refs_that_somebody_deleted_come_back(lab: Lab) -> None:
    with session_of(lab) as session:
        run_loop(session, SearchProposer(), Limits(experiments=2))
    git(lab.root, "update-ref", "-d", ref_of(1))
    with session_of(lab) as session:
        assert git(lab.root, "rev-parse", ref_of(1)).strip() == session.ledger.experiment(1).commit


def test_a_stop_with_two_runs_in_flight_records_both_as_stopped(lab: Lab) -> None:
    with session_of(lab, 2) as session:
        ensure_baseline(session)
        checkout = session.open()
        for depth in (9, 10):
            session.submit(edited(checkout, "SECONDS = 0.2\nDEPTH = 8", f"SECONDS = 5\nDEPTH = {depth}"))
        session.pump(timeout=0.3)
        assert session.runner.running == 2
    ledger = Ledger(lab.ledger_path, read_only=True)
    outcomes = [run.result.outcome for e in ledger.history.open for run in e.runs if run.result]
    assert outcomes == ["stopped", "stopped"]


def test_what_restore_brought_back_is_not_overwritten_by_the_next_start(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        first = session.open().files
        session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 10"))
    lab.write(first)
    with session_of(lab):
        pass
    assert (lab.root / "train.py").read_bytes() == first["train.py"]


def test_a_discarded_try_that_a_kill_interrupted_is_put_back_when_it_is_decided(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        champion = session.open().files
        proposal = edited(session.open(), "DEPTH = 8", "DEPTH = 7")
        lab.write(proposal.files)
        session.submit(proposal)
    assert (lab.root / "train.py").read_bytes() != champion["train.py"]
    with session_of(lab) as session:
        assert run_loop(session, SearchProposer(), Limits(experiments=1)) == "done"
        assert [e.verdict.kind for e in session.history.experiments if e.verdict] == ["keep", "discard"]
    assert (lab.root / "train.py").read_bytes() == champion["train.py"]


def test_a_file_that_the_user_edits_is_said_at_a_keep_and_nothing_at_a_discard(lab: Lab) -> None:
    notes = Notes()
    with session_of(lab, 1, notes) as session:
        ensure_baseline(session)
        session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 7"))
        assert notes.said == []
        proposal = edited(session.open(), "DEPTH = 8", "DEPTH = 10")
        (lab.root / "train.py").write_text("# half an idea\n")
        session.close(proposal)
    assert len(notes.said) == 1 and notes.said[0].startswith("train.py was edited meanwhile")


def test_a_missing_train_py_does_not_end_the_night(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        proposal = edited(session.open(), "DEPTH = 8", "DEPTH = 10")
        (lab.root / "train.py").unlink()
        assert session.close(proposal).kept


def test_results_that_cannot_be_written_are_said_and_written_later(lab: Lab) -> None:
    notes = Notes()
    with session_of(lab, 1, notes) as session:
        (lab.root / "results.tsv").unlink()
        (lab.root / "results.tsv").mkdir()
        ensure_baseline(session)
    assert any("results.tsv" in text and "not written" in text for text in notes.said)
    (lab.root / "results.tsv").rmdir()
    with session_of(lab):
        pass
    assert "baseline" in (lab.root / "results.tsv").read_text()


PREPARE = "import pathlib\npathlib.Path('data').mkdir(exist_ok=True)\npathlib.Path('data/ran').touch()\n"


def data_lab(tmp_path: Path) -> Lab:
    """A lab with locked prepare.py and data, of which prepare.py only says that it ran."""
    lab = make_quick_lab(tmp_path / "lab", seconds=0.1)
    (lab.root / "prepare.py").write_text(PREPARE)
    (lab.root / "data").mkdir()
    (lab.root / "data" / "prepared.json").write_text('{"of": {"shards": "a"}, "unigram_bpb": 2.0, "bigram_bpb": 1.0}')
    text = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(text.replace("[task]", '[task]\nlocked = ["prepare.py"]\nlink = ["data"]'))
    return open_lab(lab.root)


def test_data_that_changed_since_the_baseline_is_refused_by_name(tmp_path: Path) -> None:
    lab = data_lab(tmp_path)
    with session_of(lab) as session:
        ensure_baseline(session)
        (lab.root / "data" / "prepared.json").write_text('{"of": {"shards": "b"}}')
        with pytest.raises(PinError, match="data: changed since the baseline"):
            session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 10"))


class Stuck:
    """Proposes the champion's code again and again."""

    name = "stuck"

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        return Proposal(checkout.files, "the same", proposer=self.name, parent=checkout.parent)


def test_a_proposer_that_only_repeats_itself_ends_the_loop_in_one_line(lab: Lab) -> None:
    notes = Notes()
    with session_of(lab, 1, notes) as session, pytest.raises(ProposalError, match="unchanged"):
        run_loop(session, Stuck(), Limits(experiments=2))
    assert sum("stuck: " in text for text in notes.said) == 2
