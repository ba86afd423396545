"""One experiment is open and close, over a real repository, real processes and a real ledger."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from research_loop.branch import ref_of
from research_loop.errors import LabError, LockedError, PinError, ProposalError
from research_loop.lab import Lab, open_lab
from research_loop.loop import Limits, ensure_baseline, run_loop
from research_loop.proposers.search import SearchProposer
from research_loop.records import Checkout, Experiment, History, Proposal
from research_loop.runners.local import LocalRunner
from research_loop.session import Session
from research_loop.testing.labs import TRAIN, git, make_quick_lab
from research_loop.views.tsv import ResultsFile


def session_of(lab: Lab, slots: int = 1) -> Session:
    return Session(lab, LocalRunner(slots), [ResultsFile(lab.root / "results.tsv", lab.config.metric)])


def edited(checkout: Checkout, old: str, new: str, what: str = "an edit") -> Proposal:
    source = checkout.files["train.py"].decode()
    assert old in source
    return Proposal({"train.py": source.replace(old, new).encode()}, what, parent=checkout.parent)


def refs(lab: Lab) -> Mapping[str, str]:
    lines = git(lab.root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in lines)


def user_state(lab: Lab) -> tuple[object, ...]:
    """All of the user's: index, HEAD, branches and files."""
    index = (lab.root / ".git" / "index").read_bytes()
    status, head = git(lab.root, "status", "--porcelain"), git(lab.root, "rev-parse", "HEAD")
    return index, status, head, refs(lab)["refs/heads/main"]


def test_a_better_score_is_kept_and_a_worse_one_discarded_and_both_stay_in_git(lab: Lab) -> None:
    with session_of(lab) as session:
        baseline = ensure_baseline(session)
        better = session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 10", "DEPTH 8 -> 10"))
        worse = session.close(edited(session.open(), "MATRIX_LR = 0.04", "MATRIX_LR = 9.0", "too high"))
    assert baseline is not None and baseline.kept and better.kept
    assert worse.verdict is not None and (worse.verdict.kind, worse.verdict.reason) == ("discard", "not-lower")
    branch = refs(lab)[f"refs/heads/autoresearch/{session_tag(lab)}"]
    assert branch == better.commit == refs(lab)[ref_of(1)]
    assert "MATRIX_LR = 9.0" in git(lab.root, "show", f"{refs(lab)[ref_of(2)]}:train.py")
    assert git(lab.root, "rev-parse", f"{better.commit}^").strip() == baseline.commit
    assert "DEPTH = 10" in (lab.root / "train.py").read_text()


def session_tag(lab: Lab) -> str:
    return next(name for name in refs(lab) if name.startswith("refs/heads/autoresearch/")).rsplit("/", 1)[1]


def test_results_tsv_is_the_ledger_in_upstreams_columns(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 10", "DEPTH\t8 ->\n10"))
        crash = session.close(edited(session.open(), "MATRIX_LR = 0.04", "MATRIX_LR = 99.0", "NaN"))
        commits = [e.commit[:7] for e in session.history.experiments]
    assert crash.verdict is not None and (crash.verdict.kind, crash.verdict.reason) == ("crash", "nan")
    lines = (lab.root / "results.tsv").read_text().splitlines()
    assert lines == [
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        f"{commits[0]}\t1.043288\t0.5\tkeep\tbaseline",
        f"{commits[1]}\t1.003288\t0.5\tkeep\tDEPTH 8 -> 10",
        f"{commits[2]}\t0.000000\t0.0\tcrash\tNaN",
    ]
    assert "val_bpb" not in git(lab.root, "ls-files")


def test_run_log_is_a_copy_that_a_redirect_by_hand_cannot_harm(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
    assert "val_bpb:          1.04" in (lab.root / "run.log").read_text()
    (lab.root / "run.log").write_text("")
    assert "val_bpb:          1.04" in lab.log_path(0, 0).read_text()


def test_equal_is_discarded(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        equal = session.close(edited(session.open(), "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.6"))
    assert equal.verdict is not None and equal.verdict.kind == "discard"


def test_higher_is_better_where_the_lab_says_so(lab: Lab) -> None:
    text = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(text.replace("[task]", '[task]\ndirection = "higher"'))
    with session_of(open_lab(lab.root)) as session:
        ensure_baseline(session)
        assert not session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 10")).kept
        assert session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 4")).kept


def test_what_was_tried_is_not_run_again_unless_asked(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        checkout = session.open()
        session.close(edited(checkout, "DEPTH = 8", "DEPTH = 7"))
        same_meaning = edited(checkout, "DEPTH = 8", "DEPTH  =  3 + 4  # the same in other words")
        with pytest.raises(ProposalError, match="tried as experiment 1 \\(discard\\)"):
            session.close(same_meaning)
        with pytest.raises(ProposalError, match="the champion's code unchanged"):
            session.close(Proposal(checkout.files, "nothing", parent=0))
        assert session.close(same_meaning, again=True).n == 2


def test_code_that_does_not_parse_is_refused_before_anything_is_recorded(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        with pytest.raises(ProposalError, match=r"train\.py:7: ") as caught:
            session.close(edited(session.open(), "SECONDS = ", "SECONDS = = "))
        assert len(session.history.experiments) == 1
    assert "\n" not in str(caught.value)


def test_the_users_files_index_and_branches_are_never_touched(lab: Lab) -> None:
    (lab.root / "helper.py").write_text("# uncommitted work\n")
    (lab.root / "staged.py").write_text("# staged work\n")
    git(lab.root, "add", "staged.py")
    hook = lab.root / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    before = user_state(lab)
    with session_of(lab) as session:
        ensure_baseline(session)
        session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 7"))
    assert user_state(lab) == before
    assert (lab.root / "helper.py").read_text() == "# uncommitted work\n"
    assert not (lab.root / "hook-ran").exists()


def test_a_keep_does_not_overwrite_what_the_user_is_editing(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
        proposal = edited(session.open(), "DEPTH = 8", "DEPTH = 10")
        (lab.root / "train.py").write_text("# half an idea\n")
        assert session.close(proposal).kept
    assert (lab.root / "train.py").read_text() == "# half an idea\n"


def test_a_branch_that_somebody_moved_is_saved_before_it_follows_the_ledger(lab: Lab) -> None:
    with session_of(lab) as session:
        baseline = ensure_baseline(session)
        branch = session.branch.ref
    assert baseline is not None
    foreign = git(lab.root, "commit-tree", f"{baseline.commit}^{{tree}}", "-m", "foreign").strip()
    git(lab.root, "update-ref", branch, foreign)
    with session_of(lab):
        pass
    assert refs(lab)[branch] == baseline.commit
    assert refs(lab)[f"refs/research-loop/saved/{foreign}"] == foreign


def test_a_second_session_is_refused_with_the_pid_of_the_first(lab: Lab) -> None:
    import os

    with session_of(lab), pytest.raises(LockedError, match=f"pid {os.getpid()}"):
        session_of(lab)
    with session_of(lab):
        pass


def test_an_edited_locked_file_is_named_and_can_be_put_back_as_said(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=0.1)
    config = (lab.root / "lab.toml").read_text().replace("[task]", '[task]\nlocked = ["helper.py"]')
    (lab.root / "lab.toml").write_text(config)
    with session_of(open_lab(lab.root)) as session:
        ensure_baseline(session)
        (lab.root / "helper.py").write_text("# easier\n")
        with pytest.raises(PinError, match=r"helper\.py: changed since the baseline") as caught:
            session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 10"))
    with pytest.raises(PinError):
        session_of(open_lab(lab.root))
    cure = str(caught.value).split("`")[1]
    subprocess.run(cure, shell=True, cwd=lab.root, check=True)
    with session_of(open_lab(lab.root)) as session:
        assert session.close(edited(session.open(), "DEPTH = 8", "DEPTH = 10")).kept


def test_another_budget_in_lab_toml_is_refused_after_the_baseline(lab: Lab) -> None:
    with session_of(lab) as session:
        ensure_baseline(session)
    text = (lab.root / "lab.toml").read_text()
    (lab.root / "lab.toml").write_text(text.replace("seconds = 5.0", "seconds = 6.0", 1))
    with pytest.raises(PinError, match=r"lab\.toml: changed since the baseline"):
        session_of(open_lab(lab.root))


def test_a_baseline_that_runs_out_of_time_names_the_limit_and_a_higher_one_is_taken(tmp_path: Path) -> None:
    root = make_quick_lab(tmp_path / "lab", train="import time\ntime.sleep(2)\nprint('val_bpb: 1.0')\n").root
    text = (root / "lab.toml").read_text()
    (root / "lab.toml").write_text(
        text.replace("limit_seconds = 10.0", "limit_seconds = 1.0").replace(" = 5.0", " = 0.5")
    )
    with session_of(open_lab(root)) as session, pytest.raises(LabError) as caught:
        ensure_baseline(session)
    assert "raise limit_seconds in lab.toml, which is 1; else `research-loop show 0` has its log" in str(caught.value)
    (root / "lab.toml").write_text(text)
    with session_of(open_lab(root)) as session:
        baseline = ensure_baseline(session)
    assert baseline is not None and baseline.scores == (1.0,)


def test_a_baseline_without_a_score_is_one_line_and_can_be_mended(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", train="import sys\nprint('no CUDA')\nsys.exit(3)\n")
    with session_of(lab) as session, pytest.raises(LabError, match="the baseline has no score") as caught:
        ensure_baseline(session)
    assert "\n" not in str(caught.value)
    (lab.root / "train.py").write_text(TRAIN.format(seconds=0.1))
    with session_of(lab) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None and (baseline.n, baseline.kept) == (1, True)


def test_runs_see_the_commit_not_the_users_uncommitted_files(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", train="import helper\nprint(f'val_bpb: {helper.VALUE}')\n")
    (lab.root / "helper.py").write_text("VALUE = 2.0\n")
    git(lab.root, "commit", "-qam", "value")
    (lab.root / "helper.py").write_text("VALUE = 1.0\n")
    with session_of(lab) as session:
        baseline = ensure_baseline(session)
    assert baseline is not None and baseline.score is not None and baseline.score.value == 2.0


def test_a_run_gets_none_of_the_users_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os\nprint(sorted(k for k in os.environ if 'KEY' in k or 'TOKEN' in k))\nprint('val_bpb: 1.0')\n"
    monkeypatch.setenv("SOME_API_KEY", "a dummy")
    monkeypatch.setenv("HF_TOKEN", "a dummy")
    lab = make_quick_lab(tmp_path / "lab", train=code)
    with session_of(lab) as session:
        ensure_baseline(session)
    assert lab.log_path(0, 0).read_text().startswith("[]\n")


def test_several_experiments_can_be_open_at_once(lab: Lab) -> None:
    with session_of(lab, slots=2) as session:
        ensure_baseline(session)
        checkout = session.open()
        opened = [session.submit(edited(checkout, "DEPTH = 8", f"DEPTH = {depth}")) for depth in (9, 10)]
        assert len(session.history.open) == 2 and not session.room
        decided: list[Experiment] = []
        while len(decided) < 2:
            decided += session.pump(timeout=1.0)
        assert {e.n for e in decided} == {e.n for e in opened}
        assert (
            session.history.champion is not None
            and "10" in session.repository.files(session.history.champion.commit, ["train.py"])["train.py"].decode()
        )


def test_the_loop_ends_after_as_many_experiments_as_asked_and_goes_on_later(lab: Lab) -> None:
    with session_of(lab) as session:
        assert run_loop(session, SearchProposer(), Limits(experiments=3)) == "done"
        assert len(session.history.experiments) == 4
    with session_of(lab) as session:
        assert run_loop(session, SearchProposer(), Limits(experiments=2)) == "done"
        assert len(session.history.experiments) == 6
        keys = [e.key for e in session.history.experiments]
    assert len(set(keys)) == len(keys)


def test_the_loop_starts_nothing_after_its_hours(lab: Lab) -> None:
    with session_of(lab) as session:
        assert run_loop(session, SearchProposer(), Limits(seconds=0.0)) == "done"
        assert len(session.history.experiments) == 1


class Silent:
    """A proposer with nothing to say."""

    name = "silent"

    def propose(self, checkout: Checkout, history: History) -> Proposal | None:
        return None


def test_the_loop_ends_when_nothing_is_left_to_propose(lab: Lab) -> None:
    with session_of(lab) as session:
        assert run_loop(session, Silent(), Limits()) == "nothing left to propose"
