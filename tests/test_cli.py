"""The command line as a newcomer meets it: real processes, exit codes, one line for every fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from research_loop.lab import Lab, make_blank_lab
from research_loop.testing.labs import git, make_quick_lab


def cli(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from research_loop.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def one_line_error(*arguments: object, cwd: Path | None = None) -> str:
    done = cli(*arguments, cwd=cwd)
    assert done.returncode == 1, done
    assert done.stderr.startswith("research-loop: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def used_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with a baseline and four experiments; tests only read it."""
    lab = make_quick_lab(tmp_path_factory.mktemp("used") / "lab", seconds=0.1)
    done = cli("run", lab.root, "--experiments", 4)
    assert done.returncode == 0, done.stderr
    return lab


def test_help_names_every_verb() -> None:
    done = cli("--help")
    assert done.returncode == 0
    for verb in ("run", "init", "prepare", "try", "status", "wait", "brief", "show", "restore", "mcp", "skill"):
        assert f"  {verb} " in done.stdout


def test_an_unknown_verb_or_option_is_wrong_usage(lab: Lab) -> None:
    assert cli("rum").returncode == 2
    assert cli("run", lab.root, "--experimints", 3).returncode == 2
    assert cli("run", lab.root, "--experiments", -1).returncode == 2
    assert cli("run", lab.root, "--hours", "nan").returncode == 2


def test_the_lab_is_the_current_folder_or_lab_below_it(used_lab: Lab) -> None:
    from_inside = cli("status", cwd=used_lab.root)
    from_above = cli("status", cwd=used_lab.root.parent)
    assert from_inside.returncode == from_above.returncode == 0
    assert from_inside.stdout == from_above.stdout


def test_status_says_best_baseline_and_counts(used_lab: Lab) -> None:
    text = cli("status", used_lab.root).stdout
    facts = json.loads(cli("status", used_lab.root, "--json").stdout)
    assert f"best val_bpb {facts['champion']['score']:.6f}" in text and "unverified" in text
    assert facts["experiments"] == 5 == sum(facts["verdicts"].values())
    assert facts["baseline"]["n"] == 0 and facts["running"] == []
    assert facts["champion"]["score"] <= facts["baseline"]["score"]


def test_a_brief_has_what_was_tried_and_the_users_ideas_of_that_moment(used_lab: Lab) -> None:
    before = cli("brief", used_lab.root).stdout
    assert "Edit train.py so that val_bpb becomes lower" in before and "# Ideas" not in before
    for n in range(1, 5):
        assert f"\n* {n}: " in before
    (used_lab.root / "ideas.md").write_bytes(b"a deeper model\n\xff\n")
    try:
        assert "\n* a deeper model\n" in cli("brief", used_lab.root, "--tokens", 500).stdout
    finally:
        (used_lab.root / "ideas.md").unlink()
    assert cli("brief", used_lab.root, "--tokens", 3).returncode == 2


def test_show_has_proposal_diff_curve_verdict_and_log(used_lab: Lab) -> None:
    text = cli("show", 1, used_lab.root).stdout
    for part in (
        "experiment 1: ",
        "why: ",
        "risk: ",
        "verdict: ",
        "training loss: ",
        "\n-",
        "\n+",
        "end of the log ",
        "\n  | ---\n",
    ):
        assert part in text
    assert "val_bpb:" in text
    assert "there is none; the ledger has 0 to 4" in one_line_error("show", 99, used_lab.root)


def test_output_into_a_closed_pipe_is_no_traceback(used_lab: Lab) -> None:
    code = "from research_loop.cli import main; main()"
    script = f"'{sys.executable}' -c '{code}' show 1 '{used_lab.root}' | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def edit(lab: Lab, old: str, new: str) -> str:
    source = (lab.root / "train.py").read_text()
    assert old in source
    (lab.root / "train.py").write_text(source.replace(old, new))
    return source


def test_try_keeps_a_better_file_and_puts_back_a_worse_one_that_restore_can_fetch(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=0.1)
    assert "has no baseline yet" in one_line_error("try", lab.root, "-m", "too early")
    assert cli("run", lab.root, "--experiments", 1).returncode == 0
    source = edit(lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.5\nDEPTH_NOTE = 1")
    worse = cli("try", lab.root, "-m", "a note", "--why", "none", "--risk", "none")
    assert worse.returncode == 0 and "experiment 2: discard: " in worse.stdout
    assert (lab.root / "train.py").read_text() == source
    assert "champion's code unchanged" in one_line_error("try", lab.root, "-m", "nothing")
    assert "as in experiment 2" in cli("restore", 2, lab.root).stdout
    assert "DEPTH_NOTE" in (lab.root / "train.py").read_text()
    edit(lab, "DEPTH = 8", "DEPTH = 10")
    better = cli("try", lab.root, "-m", "DEPTH 8 -> 10")
    assert "experiment 3: keep: " in better.stdout
    assert "DEPTH = 10" in (lab.root / "train.py").read_text()


def test_try_leaves_a_file_that_does_not_parse_as_it_is(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=0.1)
    cli("run", lab.root, "--experiments", 1)
    edit(lab, "DEPTH = 8", "DEPTH = = 8")
    broken = (lab.root / "train.py").read_text()
    assert "train.py:8" in one_line_error("try", lab.root, "-m", "broken")
    assert (lab.root / "train.py").read_text() == broken


def test_restore_keeps_a_copy_of_what_it_overwrites(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=0.1)
    cli("run", lab.root, "--experiments", 1)
    (lab.root / "train.py").write_text("# a day's work\n")
    done = cli("restore", 0, lab.root)
    saved = done.stdout.strip().rsplit("before: ", 1)[1]
    assert (Path(saved) / "train.py").read_text() == "# a day's work\n"


def test_control_characters_reach_neither_terminal_nor_table(tmp_path: Path) -> None:
    lab = make_quick_lab(tmp_path / "lab", seconds=0.1)
    cli("run", lab.root, "--experiments", 1)
    edit(lab, "DEPTH = 8", "DEPTH = 10  # \x1b[31mred")
    done = cli("try", lab.root, "-m", "a\x1b]0;title\x07b\tc\nd\udcff")
    assert done.returncode == 0, done.stderr
    shown = cli("show", 2, lab.root).stdout
    for text in (done.stdout, shown, cli("status", lab.root).stdout, (lab.root / "results.tsv").read_text()):
        assert "\x1b" not in text and "\x07" not in text
    assert (lab.root / "results.tsv").read_text().splitlines()[-1].split("\t")[4].startswith("ab")


def test_text_that_the_terminal_cannot_show_is_no_traceback(used_lab: Lab) -> None:
    code = "from research_loop.cli import main; main()"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "1", used_lab.root], env=environment, capture_output=True
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["--data", "nowhere"], "no such folder or file"),
        (["--profile", "tpu"], "known are"),
        (["--train", "nowhere.py"], "nowhere.py: cannot be read"),
    ],
)
def test_a_bad_wish_leaves_no_half_lab(tmp_path: Path, options: list[str], fact: str) -> None:
    profile = [] if "--profile" in options else ["--profile", "cpu"]
    assert fact in one_line_error("run", *options, *profile, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["lab"])


def test_an_open_quote_in_a_command_is_one_line(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert "close the quote" in one_line_error("init", "--blank", "--command", "'", tmp_path)


def test_a_folder_that_is_no_lab_is_one_line(tmp_path: Path) -> None:
    assert "is not a lab" in one_line_error("status", tmp_path)
    assert "is not a lab" in one_line_error("try", tmp_path, "-m", "x")


def test_a_lab_that_never_ran_says_so(lab: Lab) -> None:
    assert "nothing has been run here yet" in one_line_error("status", lab.root)
    assert "nothing has been run here yet" in one_line_error("restore", 0, lab.root)


def test_a_fault_in_lab_toml_is_one_line(lab: Lab) -> None:
    (lab.root / "lab.toml").write_text("[task]\nmetrik = 'x'\n")
    assert "unknown key metrik: did you mean metric?" in one_line_error("run", lab.root)


def test_an_unknown_proposer_names_the_known_ones(lab: Lab) -> None:
    assert "search" in one_line_error("run", lab.root, "--proposer", "oracle", "--experiments", 1)


def test_asking_for_another_lab_in_the_same_folder_is_refused(lab: Lab) -> None:
    assert "is a lab already" in one_line_error("run", lab.root, "--data", "tinystories")
    assert "is a lab already" in one_line_error("run", lab.root, "--budget", 7)
    assert cli("run", lab.root, "--budget", 5, "--experiments", 1).returncode == 0


def test_blank_makes_a_lab_of_any_task_in_the_users_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "bench.py").write_text("SPEED = 3\nprint(f'score: {SPEED}')\n")
    options = ["--command", "python bench.py", "--edit", "bench.py", "--metric", "score", "--higher", "--budget", 5]
    made = cli("init", "--blank", *options, cwd=tmp_path)
    assert made.returncode == 0 and "unverified" in made.stdout
    assert cli("run", "--experiments", 2, cwd=tmp_path).returncode == 0
    facts = json.loads(cli("status", "--json", cwd=tmp_path).stdout)
    assert facts["metric"] == "score" and facts["champion"]["score"] > 3
    status = git(tmp_path, "status", "--porcelain")
    assert "results.tsv" not in status and ".research-loop" not in status and "run.log" not in status


def test_blank_outside_git_or_without_its_file_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    assert "is not in a git repository" in one_line_error("init", "--blank", tmp_path)
    git(tmp_path, "init", "--quiet")
    assert "train.py: cannot be read" in one_line_error("init", "--blank", tmp_path)
    assert not (tmp_path / "lab.toml").exists()


def test_a_blank_lab_in_a_subfolder_runs_in_its_own_place(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "top.py").write_text("VALUE = 1.5\n")
    sub = tmp_path / "sub"
    sub.mkdir()
    code = "import sys\nsys.path.append('..')\nimport top\nDEPTH = 1\nprint('val_bpb:', top.VALUE / DEPTH)\n"
    (sub / "train.py").write_text(code)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "work")
    make_blank_lab(sub, {"command": ["python", "train.py"], "editable": ["train.py"]}, 5.0)
    assert cli("run", sub, "--experiments", 1).returncode == 0
    assert (sub / "results.tsv").read_text().count("\n") == 3


def test_more_gpus_than_there_are_is_one_line_and_leaves_no_lab(tmp_path: Path) -> None:
    done = cli("run", tmp_path / "lab", "--gpus", 99)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("research-loop: --gpus 99: ") and "ask for fewer" in done.stderr
    assert not (tmp_path / "lab").exists()
