"""lab.toml: read strictly, each fault one line with place, fact and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from research_loop.config import LabConfig, read_config, render_config
from research_loop.errors import ConfigError


def config_of(tmp_path: Path, text: str) -> LabConfig:
    (tmp_path / "lab.toml").write_text(text)
    return read_config(tmp_path / "lab.toml")


def test_an_empty_file_means_the_defaults_with_a_limit_of_twice_the_budget(tmp_path: Path) -> None:
    assert config_of(tmp_path, "") == LabConfig()
    assert config_of(tmp_path, "[budget]\nseconds = 60").limit_seconds == 120


def test_what_is_rendered_reads_back(tmp_path: Path) -> None:
    tables = {
        "task": {"command": ["a b", 'c"d'], "metric": "m"},
        "search": {"proposer": "é"},
        "data": {"num_shards": None, "source": "x\\y"},
    }
    config = config_of(tmp_path, render_config(tables))
    assert (config.command, config.proposer, config.source) == (("a b", 'c"d'), "é", "x\\y")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("[task]\nmetrics = 'x'", r"\[task\] unknown key metrics: did you mean metric\?"),
        ("[tusk]\n", r"unknown section tusk: did you mean task\?"),
        ("[task]\ncommand = 'python train.py'", r"command = 'python train.py': must be a list of words"),
        ("[task]\ncommand = []", "command"),
        ("[task]\neditable = ['../x.py']", "editable"),
        ("[task]\neditable = ['/etc/passwd']", "editable"),
        ("[task]\ndirection = 'down'", 'must be "lower" or "higher"'),
        ("[budget]\nseconds = 'long'", "must be a number of seconds above 0"),
        ("[budget]\nseconds = true", "must be a number of seconds above 0"),
        ("[budget]\nseconds = 0", "must be a number of seconds above 0"),
        ("[budget]\nseconds = 60\nlimit_seconds = 10", "must not be below seconds"),
        ("[data]\nnum_shards = 1.5", "must be a whole number above 0"),
        ("task = 1", r"task is a section"),
        ("[task\n", "is not TOML"),
        ("[task]\nlocked = ['train.py']", "train.py is in editable and in locked"),
    ],
)
def test_a_fault_is_one_line_with_place_and_cure(tmp_path: Path, text: str, fact: str) -> None:
    with pytest.raises(ConfigError, match=fact) as caught:
        config_of(tmp_path, text)
    assert str(tmp_path / "lab.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_not_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init"):
        read_config(tmp_path / "lab.toml")
    (tmp_path / "lab.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_config(tmp_path / "lab.toml")


def test_only_what_changes_the_meaning_of_scores_changes_the_task_digest(tmp_path: Path) -> None:
    plain = config_of(tmp_path, "[budget]\nseconds = 60")
    assert config_of(tmp_path, "[budget]\nseconds = 60\nlimit_seconds = 200").task_digest == plain.task_digest
    assert config_of(tmp_path, "[budget]\nseconds = 61").task_digest != plain.task_digest
    assert config_of(tmp_path, "[budget]\nseconds = 60\n[task]\nmetric = 'x'").task_digest != plain.task_digest
