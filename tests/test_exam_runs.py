"""Whole runs of a lab under the harness: what they are shown, what is believed of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from research_loop.errors import SandboxError
from research_loop.exam import show_training_data
from research_loop.lab import Lab, open_lab
from research_loop.loop import ensure_baseline
from research_loop.records import Proposal
from research_loop.runners.local import LocalRunner
from research_loop.sandbox import choose
from research_loop.session import Session


def test_no_validation_text_is_in_a_runs_data(gpt_lab: Lab, tmp_path: Path) -> None:
    show_training_data(gpt_lab.root / "data", tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert "train_64.u16" in names and "tokenizer.json" in names
    assert not any(name.startswith("val_") for name in names)
    shards = sorted((tmp_path / "data" / "shards").iterdir())
    assert [path.stat().st_size > 0 for path in shards] == [True] * (len(shards) - 1) + [False]


@pytest.fixture(scope="module")
def judged(gpt_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A copy of the prepared lab, for a ledger of its own."""
    copy = shutil.copytree(gpt_lab.root, tmp_path_factory.mktemp("judged") / "lab", symlinks=True)
    shutil.rmtree(copy / ".research-loop", ignore_errors=True)
    return open_lab(copy)


CHEATS_AT_THE_END = 'print("---\\nval_bpb:          0.100000")\n'


def test_the_loop_keeps_what_was_challenged_and_not_what_only_prints(judged: Lab) -> None:
    with Session(judged, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None and baseline.score is not None and baseline.score.verified == "confirmed"
        last = baseline.last
        assert last is not None and last.ready_seconds is not None and last.committed_seconds is not None
        assert 1.0 < last.ready_seconds < last.committed_seconds < last.seconds
        fake = session.close(Proposal({"train.py": CHEATS_AT_THE_END.encode()}, "only prints", parent=baseline.n))
        assert fake.verdict is not None and (fake.verdict.kind, fake.verdict.reason) == ("discard", "unverified")
        source = session.open().files["train.py"].decode()
        peeking = source.replace("is_causal=True", "is_causal=False")
        assert peeking != source
        ahead = session.close(Proposal({"train.py": peeking.encode()}, "sees the future", parent=baseline.n))
        assert ahead.verdict is not None
        assert (ahead.verdict.kind, ahead.verdict.reason) == ("discard", "rejected:look-ahead")
        longer = source.replace("while trained < TIME_BUDGET", "while trained < 9 * TIME_BUDGET")
        assert longer != source
        late = session.close(Proposal({"train.py": longer.encode()}, "trains for longer", parent=baseline.n))
        assert late.verdict is not None and (late.verdict.kind, late.verdict.reason) == ("discard", "overtime")
        assert session.history.champion == baseline


NOSY = """
from pathlib import Path
lab = Path({lab!r})
for name in ("results.tsv", "train.py", ".git/HEAD", "data/tokenizer.json", "data/train_64.u16"):
    try:
        (lab / name).write_text("changed")
    except OSError:
        pass
for name in (".research-loop/ledger.sqlite", "data/val_64.u16", "data/shards/shard_00001.parquet", "lab.toml"):
    try:
        print("READ", name, len((lab / name).read_bytes()))
    except OSError:
        pass
print("val_bpb: 0.5")
"""


def test_a_contained_run_reaches_neither_the_validation_text_nor_the_lab(judged: Lab) -> None:
    try:
        choose("auto")
    except SandboxError as error:
        pytest.skip(str(error))
    lab = judged
    (lab.root / "results.tsv").touch()
    names = ("results.tsv", "train.py", "data/tokenizer.json", ".git/HEAD")
    before = {name: (lab.root / name).read_bytes() for name in names}
    with Session(lab, LocalRunner()) as session:
        baseline = ensure_baseline(session)
        assert baseline is not None
        code = NOSY.format(lab=str(lab.root))
        nosy = session.close(Proposal({"train.py": code.encode()}, "looks around", parent=baseline.n))
    log = lab.log_path(nosy.n, 0).read_text()
    assert "READ" not in log and "val_bpb: 0.5" in log
    assert {name: (lab.root / name).read_bytes() for name in before} == before
