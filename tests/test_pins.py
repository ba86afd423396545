"""What scores depend on is compared with the baseline's before each run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from research_loop.errors import PinError
from research_loop.history import Repository
from research_loop.lab import Lab, open_lab, repository_of
from research_loop.ledger import Ledger
from research_loop.pins import _digest_of_files, check_pins, file_digests, package_digests, pin
from research_loop.records import Experiment, Verdict


@pytest.fixture
def pinned(gpt_lab: Lab, tmp_path: Path) -> Iterator[tuple[Lab, Ledger, Repository]]:
    """A copy of a prepared lab with a baseline in its ledger."""
    lab = open_lab(Path(shutil.copytree(gpt_lab.root, tmp_path / "lab", symlinks=True)))
    shutil.rmtree(lab.state, ignore_errors=True)
    lab.state.mkdir()
    repository = repository_of(lab)
    commit = repository.commit(repository.head(), lab.read(["prepare.py", "train.py"]), "baseline")
    ledger = Ledger(lab.ledger_path)
    baseline = ledger.propose(Experiment(-1, "baseline", "", "", "user", None, commit, "key", 0.0))
    ledger.decide(0, Verdict("keep", "baseline", "", 0.0))
    pin(ledger, lab, baseline)
    yield lab, ledger, repository
    ledger.close()


def test_nothing_changed_is_nothing_said(pinned: tuple[Lab, Ledger, Repository]) -> None:
    lab, ledger, repository = pinned
    check_pins(ledger, lab, repository)
    (lab.root / "data" / "prepared.json").touch()
    check_pins(ledger, lab, repository)


@pytest.mark.parametrize("name", ["token_bytes.npy", "tokenizer.json", "val_64.u16", "shards/shard_00000.parquet"])
def test_one_byte_of_the_data_is_noticed_though_size_and_time_are_the_same(
    pinned: tuple[Lab, Ledger, Repository], name: str
) -> None:
    lab, ledger, repository = pinned
    path = lab.root / "data" / name
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(PinError, match="changed since the baseline") as caught:
        check_pins(ledger, lab, repository)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    data[-9] ^= 1
    path.write_bytes(data)
    check_pins(ledger, lab, repository)


@pytest.mark.parametrize("cut", ["score", "confirm", "audit"])
def test_other_rows_to_be_scored_are_noticed(pinned: tuple[Lab, Ledger, Repository], cut: str) -> None:
    lab, ledger, repository = pinned
    report = lab.root / "data" / "prepared.json"
    before = report.read_text()
    said = json.loads(before)
    said["cuts"][cut][1] -= 1
    report.write_text(json.dumps(said))
    with pytest.raises(PinError, match=r"prepared\.json: which rows are scored: changed") as caught:
        check_pins(ledger, lab, repository)
    assert "`research-loop prepare` makes it again" in str(caught.value)
    report.write_text(before)
    check_pins(ledger, lab, repository)


def test_a_lab_whose_prepare_says_nothing_of_cuts_is_pinned_like_any(
    pinned: tuple[Lab, Ledger, Repository], tmp_path: Path
) -> None:
    lab, known, repository = pinned
    report = lab.root / "data" / "prepared.json"
    said = json.loads(report.read_text())
    cuts = said.pop("cuts")
    report.write_text(json.dumps(said))
    ledger = Ledger(tmp_path / "other.sqlite")
    ledger.propose(known.experiment(0))
    baseline = ledger.decide(0, Verdict("keep", "baseline", "", 0.0))
    pin(ledger, lab, baseline)
    check_pins(ledger, lab, repository)
    report.write_text(json.dumps({**said, "cuts": cuts}))
    with pytest.raises(PinError, match="which rows are scored"):
        check_pins(ledger, lab, repository)
    ledger.close()


def test_a_file_more_or_less_is_noticed(pinned: tuple[Lab, Ledger, Repository]) -> None:
    lab, ledger, repository = pinned
    extra = lab.root / "data" / "weights.bin"
    extra.write_bytes(b"x")
    with pytest.raises(PinError, match=r"weights\.bin"):
        check_pins(ledger, lab, repository)
    extra.unlink()
    (lab.root / "data" / "tokenizer.json").unlink()
    with pytest.raises(PinError, match=r"tokenizer\.json"):
        check_pins(ledger, lab, repository)


def test_another_version_of_a_package_is_noticed_and_named_with_the_old_one(
    pinned: tuple[Lab, Ledger, Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, ledger, repository = pinned
    version = package_digests(lab)["rustbpe"].split()[0]
    other = tmp_path / "site" / "rustbpe-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: rustbpe\nVersion: 99.0\n")
    (other / "RECORD").write_text("")
    monkeypatch.setattr(sys, "path", [str(other.parent), *sys.path])
    with pytest.raises(PinError, match=rf"package rustbpe: changed .* install rustbpe=={version} again"):
        check_pins(ledger, lab, repository)


def test_the_same_package_in_another_environment_is_the_same_and_another_file_is_not() -> None:
    record = "../../../bin/tool,sha256=aa,1\nmade.py,sha256=bb,2\nmade-1.dist-info/INSTALLER,sha256=cc,3\n"
    elsewhere = "made.py,sha256=bb,2\n../../../bin/tool,sha256=dd,1\nmade-1.dist-info/INSTALLER,sha256=ee,3\n"
    assert _digest_of_files(record) == _digest_of_files(elsewhere + "__pycache__/made.cpython-311.pyc,,\n")
    assert _digest_of_files(record) != _digest_of_files(record.replace("bb", "ff"))


def test_what_was_read_once_is_not_read_again(pinned: tuple[Lab, Ledger, Repository]) -> None:
    lab, _, _ = pinned
    before = file_digests(lab)
    forged = (lab.state / "digests.json").read_text().replace(before["data/tokenizer.json"], "0" * 64)
    (lab.state / "digests.json").write_text(forged)
    assert file_digests(lab)["data/tokenizer.json"] == "0" * 64
    (lab.state / "digests.json").write_text("half a f")
    assert file_digests(lab) == before


def test_a_task_of_the_users_own_pins_no_packages(lab: Lab) -> None:
    assert package_digests(lab) == {} and file_digests(lab) == {}
