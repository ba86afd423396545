"""The skill is what the format asks for, says only what the commands can do, and lands where agents look."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from research_loop import skill

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "skills" / "autoresearch" / "SKILL.md").read_text()
FRONT, BODY = TEXT.removeprefix("---\n").split("\n---\n", 1)
FIELDS = dict(line.split(": ", 1) for line in FRONT.splitlines())


def cli(*arguments: object, cwd: Path, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "research_loop", *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home or cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


# ------------------------------------------------------------------------------------------------------------ the text


def test_the_front_matter_is_what_the_format_allows() -> None:
    assert set(FIELDS) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
    assert FIELDS["name"] == skill.NAME == "autoresearch" and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", FIELDS["name"])
    quoted = FIELDS["description"]
    assert quoted[0] == quoted[-1] == '"' and '"' not in quoted[1:-1], "one line in quotes, and none inside"
    assert len(quoted) - 2 <= 1024 and "Use when" in quoted
    assert len(FIELDS["compatibility"]) <= 500 and FIELDS["license"] == "MIT"


def test_the_body_is_short_and_asks_for_nothing_dangerous() -> None:
    assert len(TEXT.splitlines()) < 500 and len(BODY) / 3 < 5000
    assert not re.search(r"curl|wget|rm -|reset --hard|sudo|forever|never stop|api.?key|password", BODY, re.IGNORECASE)


def used_commands() -> set[tuple[str, str]]:
    """(verb, rest) of every command of ours that the skill names."""
    found = re.findall(r"`research-loop ([a-z]+)([^`]*)`", BODY)
    return {(verb, " ".join(rest.split())) for verb, rest in found}


@pytest.mark.parametrize(("verb", "rest"), sorted(used_commands()))
def test_every_command_that_it_names_exists_with_these_options(verb: str, rest: str, tmp_path: Path) -> None:
    done = cli(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for option in re.findall(r"(?<!\S)--?[a-z]+", rest):
        assert re.search(rf"(?<!\S){option}\b", done.stdout), f"{verb} {option}"


def test_it_acts_through_our_commands_alone_and_names_those_that_matter() -> None:
    assert FIELDS["allowed-tools"].split()[0] == "Bash(research-loop:*)", "a word with a space in it would be two"
    assert {"status", "run", "brief", "try", "show", "restore", "audit", "report"} <= {
        verb for verb, _ in used_commands()
    }
    assert "uv run" not in BODY and "git " not in BODY


def test_the_numbers_for_small_machines_and_the_constants_are_those_of_our_script() -> None:
    source = (ROOT / "src" / "research_loop" / "labs" / "gpt" / "train.py").read_text()
    for name in re.findall(r"`([A-Z]+_?[A-Z_]*)`", BODY):
        assert re.search(rf"(?m)^{name} = ", source), name
    for fact in ("`DEPTH` 4", "`TOTAL_BATCH_SIZE` 2**14", "`DEVICE_BATCH_SIZE` 16", '`WINDOW_PATTERN` "L"'):
        assert fact in BODY


def test_manifests_point_at_the_skill_and_have_the_packages_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    plugin = json.loads((ROOT / ".claude-plugin" / "plugin.json").read_text())
    market = json.loads((ROOT / ".claude-plugin" / "marketplace.json").read_text())
    gemini = json.loads((ROOT / "gemini-extension.json").read_text())
    assert plugin["version"] == gemini["version"] == version
    assert {plugin["name"], gemini["name"], market["plugins"][0]["name"]} == {skill.NAME}
    assert all((ROOT / place / "SKILL.md").is_file() for place in plugin["skills"])
    assert (ROOT / market["plugins"][0]["source"] / ".claude-plugin" / "plugin.json").is_file()


# ------------------------------------------------------------------------------------------------------- installing it


def test_it_is_installed_where_every_agent_looks_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    done = cli("skill", "install", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count(": written") == 3
    for place in set(skill.PROJECT.values()):
        assert (tmp_path / place / "autoresearch" / "SKILL.md").read_text() == TEXT
    again = cli("skill", "install", cwd=tmp_path)
    assert again.stdout.count(": there already") == 3


def test_for_a_user_it_goes_below_the_home(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    assert (
        cli("skill", "install", "--user", "--for", "cursor", "--for", "claude-code", cwd=project, home=home).returncode
        == 0
    )
    written = sorted(str(path.relative_to(home)) for path in home.rglob("SKILL.md"))
    assert written == [".claude/skills/autoresearch/SKILL.md", ".cursor/skills/autoresearch/SKILL.md"]
    assert not list(project.iterdir())


def test_another_text_is_not_written_over_unless_forced_and_then_nothing_is_half_done(tmp_path: Path) -> None:
    cli("skill", "install", "--for", "claude-code", cwd=tmp_path)
    mine = tmp_path / ".claude" / "skills" / "autoresearch" / "SKILL.md"
    mine.write_text("my own words")
    refused = cli("skill", "install", cwd=tmp_path)
    assert refused.returncode == 1 and "--force writes over it" in refused.stderr and refused.stderr.count("\n") == 1
    assert mine.read_text() == "my own words" and not (tmp_path / ".agents").exists()
    assert cli("skill", "install", "--force", cwd=tmp_path).returncode == 0 and mine.read_text() == TEXT


def test_what_is_in_the_way_is_said_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / ".windsurf").write_text("a file")
    done = cli("skill", "install", cwd=tmp_path)
    assert done.returncode == 1 and ".windsurf: is not a folder" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / ".claude").exists()
    (tmp_path / ".claude/skills/autoresearch/SKILL.md").mkdir(parents=True)
    assert "is a folder where" in cli("skill", "install", "--for", "claude-code", "--force", cwd=tmp_path).stderr


def test_a_link_is_another_text_and_nothing_is_written_through_it(tmp_path: Path) -> None:
    place = tmp_path / ".claude" / "skills" / "autoresearch"
    place.mkdir(parents=True)
    (place / "SKILL.md").symlink_to(tmp_path / "elsewhere")
    assert "--force writes over it" in cli("skill", "install", "--for", "claude-code", cwd=tmp_path).stderr
    assert cli("skill", "install", "--for", "claude-code", "--force", cwd=tmp_path).returncode == 0
    assert (place / "SKILL.md").read_text() == TEXT and not (tmp_path / "elsewhere").exists()


def test_a_wrong_agent_or_folder_is_one_line(tmp_path: Path) -> None:
    for arguments, fact in (
        (("--for", "emacs"), "no such agent: one of claude-code"),
        ((tmp_path / "missing",), "no such folder"),
        (("--user", tmp_path), "leave out one of them"),
    ):
        done = cli("skill", "install", *arguments, cwd=tmp_path)
        assert done.returncode == 1 and fact in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_other_installers_are_told_where_it_lies(tmp_path: Path) -> None:
    place = Path(cli("skill", "path", cwd=tmp_path).stdout.strip())
    assert (place / "SKILL.md").read_text() == TEXT
