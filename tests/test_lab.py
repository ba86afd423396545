"""`init` lays out a lab that git, uv and the loop can work with."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from research_loop import edits, wiring
from research_loop.errors import ConfigError, LabError, ProposalError
from research_loop.lab import Machine, Wish, check_same_lab, fitting, make_gpt_lab, open_lab, probe_machine, profiles
from research_loop.testing.labs import git


def constant(path: Path, name: str) -> object:
    return edits.constants(path.read_text())[name].value


@pytest.mark.parametrize("profile", profiles(), ids=lambda p: str(p["name"]))
def test_a_profile_sets_the_constants_of_both_files(tmp_path: Path, profile: dict[str, object]) -> None:
    lab = make_gpt_lab(tmp_path / "lab", Wish(profile=str(profile["name"])))
    prepare, train = profile["prepare"], profile["train"]
    assert isinstance(prepare, dict) and isinstance(train, dict)
    for name, value in prepare.items():
        assert constant(lab.root / "prepare.py", name) == value
    for name, value in train.items():
        assert constant(lab.root / "train.py", name) == value
    rows = int(train["DEVICE_BATCH_SIZE"]) * int(prepare["MAX_SEQ_LEN"])
    assert int(train["TOTAL_BATCH_SIZE"]) % rows == 0
    assert lab.config.budget_seconds == prepare["TIME_BUDGET"]


@pytest.mark.parametrize(
    ("memory_gb", "tflops", "name"),
    [
        (139.8, 700, "gpu-141gb"),
        (79.2, 680, "gpu-80gb"),
        (79.2, 190, "gpu-48gb"),  # an A100: the memory of the larger, half of its speed
        (44.4, 120, "gpu-48gb"),
        (23.6, 65, "gpu-24gb"),
        (22.0, 12, "gpu-8gb"),  # much memory, and an old chip
        (44.4, 700, "gpu-48gb"),  # a large one, half held by somebody else
        (15.8, 45, "gpu-16gb"),
        (13.9, 45, "gpu-16gb"),  # of 16 GB, with a desktop on it
        (11.6, 25, "gpu-12gb"),
        (7.6, 22, "gpu-8gb"),
        (6.3, 22, "gpu-8gb"),  # of 8 GB, with a desktop on it
        (14.6, 4, "gpu-small"),  # multiplies no bf16
        (3.9, 3, "gpu-small"),
    ],
)
def test_a_gpu_gets_what_its_memory_and_its_speed_can_do(memory_gb: float, tflops: float, name: str) -> None:
    profile = fitting(Machine("cuda", memory_gb, "GPU", tflops))
    assert profile["name"] == name
    train, prepare = profile["train"], profile["prepare"]
    tokens = train["DEVICE_BATCH_SIZE"] * prepare["MAX_SEQ_LEN"]
    needed = tokens * (29 * 64 * train["DEPTH"] ** 2 + 50_000) / 2**30  # what 128 rows took on an H100: 45 GB
    assert needed < 0.75 * memory_gb


def test_a_gpu_that_somebody_else_has_filled_is_one_line_with_its_cure() -> None:
    with pytest.raises(LabError, match=r"^H100: 1\.5 GB of its memory are free, too few to train in: .*`nvidia-smi`"):
        fitting(Machine("cuda", 1.5, "H100", 700))


TORCH = """
class Matrix:
    def __matmul__(self, other): return self
class H100:
    major, name, total_memory = 9, "H100", 80 * 2**30
class cuda:
    is_available = lambda: True
    get_device_properties = lambda device: H100
    mem_get_info = lambda device: (30 * 2**30, 80 * 2**30)
    synchronize = lambda: None
bfloat16, randn = "bfloat16", lambda *size, **more: Matrix()
"""


def probed(monkeypatch: pytest.MonkeyPatch, folder: Path, torch: str) -> Machine:
    """What is said of the machine by this torch, on which no GPU's faults have to be waited for."""
    (folder / "torch.py").write_text(torch)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return probe_machine()


def test_only_the_memory_that_is_free_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = probed(monkeypatch, tmp_path, TORCH)
    assert (found.device, found.memory_gb, found.name) == ("cuda", 30.0, "H100") and found.tflops > 0


def test_a_fault_of_the_gpu_is_told_as_such_and_one_of_torch_as_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = "def randn(*size, **more):\n    raise RuntimeError('CUDA error: out of memory\\nCompile with DSA')"
    with pytest.raises(LabError, match=r"GPU cannot be used \(RuntimeError: CUDA error: out of memory\): see .*-smi`"):
        probed(monkeypatch, tmp_path, TORCH + fault)
    for chatter in ("", "print('hello')\n"):
        with pytest.raises(LabError, match=r"torch cannot be loaded by .* \(OSError: libcudart\): install"):
            probed(monkeypatch, tmp_path, chatter + "raise OSError('libcudart')")


def test_what_torch_says_beside_the_facts_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = "import atexit\natexit.register(print, 'bye')\nprint('hello')\n"
    assert probed(monkeypatch, tmp_path, last + TORCH).name == "H100"
    with pytest.raises(LabError, match=r"^torch cannot be loaded by .* \(no output\): install"):
        probed(monkeypatch, tmp_path, "import os\nos._exit(0)")


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("gpu-80gb", "profile gpu-80gb (measured on NVIDIA H200), "),
        ("gpu-24gb", "profile gpu-24gb (not measured on this GPU), "),
        ("cpu", "profile cpu, "),
    ],
)
def test_a_new_lab_says_which_gpus_its_constants_were_tried_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: str, said: str
) -> None:
    wiring.make(tmp_path / "lab", Wish(profile=profile))
    assert said in capsys.readouterr().out


def test_without_a_gpu_the_device_decides() -> None:
    assert [fitting(Machine(device, 0.0, "", 0.0))["name"] for device in ("cpu", "mps")] == ["cpu", "mps"]


def test_a_new_lab_is_a_clean_repository_of_its_own(tmp_path: Path) -> None:
    lab = make_gpt_lab(tmp_path / "lab", Wish(profile="cpu"))
    assert git(lab.root, "status", "--porcelain") == ""
    tracked = git(lab.root, "ls-files").split()
    assert {"prepare.py", "train.py", "program.md", "lab.toml", "pyproject.toml"} <= set(tracked)
    for name in ("results.tsv", "run.log", "data/shards/x.parquet", ".research-loop/ledger.sqlite"):
        (lab.root / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.root / name).touch()
    assert git(lab.root, "status", "--porcelain") == ""


def test_a_lab_below_a_project_uses_that_project_for_uv_run(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\ndependencies = ['research-loop']\n")
    assert not (make_gpt_lab(tmp_path / "lab", Wish(profile="cpu")).root / "pyproject.toml").exists()


@pytest.mark.parametrize("profile", profiles(), ids=lambda p: str(p["name"]))
def test_short_windows_are_shorter_than_the_rows_of_every_profile(profile: dict[str, object], tmp_path: Path) -> None:
    lab = make_gpt_lab(tmp_path / "lab", Wish(profile=str(profile["name"])))
    text = "".join((lab.root / name).read_text() for name in ("prepare.py", "train.py"))
    window, rows = (edits.constants(text)[name].value for name in ("SHORT_WINDOW", "MAX_SEQ_LEN"))
    assert isinstance(window, int) and isinstance(rows, int) and window < rows


def test_a_budget_below_the_profiles_start_up_gets_a_longer_limit_than_twice_itself(tmp_path: Path) -> None:
    assert make_gpt_lab(tmp_path / "a", Wish(profile="gpu-80gb")).config.limit_seconds == 600
    assert make_gpt_lab(tmp_path / "b", Wish(profile="gpu-80gb", budget_seconds=60)).config.limit_seconds == 300
    assert constant(tmp_path / "b" / "prepare.py", "TIME_BUDGET") == 60


def test_data_by_path_means_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    lab = make_gpt_lab(tmp_path / "lab", Wish(profile="cpu", source="texts", num_shards=3))
    assert (lab.config.source, lab.config.num_shards) == (str(tmp_path / "texts"), 3)


@pytest.mark.parametrize(
    ("wish", "count"),
    [
        (Wish(profile="gpu-141gb"), 36),
        (Wish(profile="gpu-80gb"), 36),
        (Wish(profile="gpu-48gb"), 24),
        (Wish(profile="gpu-24gb"), None),
        (Wish(profile="gpu-80gb", source="climbmix"), 36),
        (Wish(profile="gpu-80gb", num_shards=3), 3),
        (Wish(profile="gpu-80gb", source="tinystories"), None),
    ],
)
def test_lab_toml_says_how_many_shards_a_profile_takes_of_its_own_source(
    tmp_path: Path, wish: Wish, count: int | None
) -> None:
    lab = make_gpt_lab(tmp_path / "lab", wish)
    assert lab.config.num_shards == count
    assert (f"num_shards = {count}\n" in (lab.root / "lab.toml").read_text()) == (count is not None)
    for again in (wish, Wish(num_shards=count), Wish()):
        check_same_lab(lab, again)


def test_the_users_own_train_py_is_taken_byte_for_byte(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_bytes(b"DEPTH = 3\r\nprint('val_bpb: 1.0')  # \xc3\xa9\r\n")
    lab = make_gpt_lab(tmp_path / "lab", Wish(profile="cpu", train=mine))
    assert (lab.root / "train.py").read_bytes() == mine.read_bytes()
    mine.write_text("DEPTH = = 3")
    with pytest.raises(ProposalError, match=r"mine\.py:1"):
        make_gpt_lab(tmp_path / "other", Wish(profile="cpu", train=mine))
    with pytest.raises(LabError, match="no Python file"):
        make_gpt_lab(tmp_path / "other", Wish(profile="cpu", train=mine.rename(tmp_path / "README.md")))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("wish", [Wish(profile="cpu", source="nowhere"), Wish(profile="cpu", source="")])
def test_data_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path, wish: Wish) -> None:
    with pytest.raises(ConfigError, match="no such folder or file"):
        make_gpt_lab(tmp_path / "lab", wish)
    assert list(tmp_path.iterdir()) == []


def test_a_lab_below_somebody_elses_project_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert (make_gpt_lab(tmp_path / "lab", Wish(profile="cpu")).root / "pyproject.toml").exists()


def test_a_lab_in_the_users_repository_keeps_its_files_out_of_git_status(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    make_gpt_lab(tmp_path, Wish(profile="cpu"))
    (tmp_path / "results.tsv").touch()
    assert "results.tsv" not in git(tmp_path, "status", "--porcelain")
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n"


def test_an_empty_folder_becomes_a_lab_whole_and_leftovers_of_a_kill_go(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / ".lab.123.part").mkdir()
    assert (make_gpt_lab(tmp_path / "lab", Wish(profile="cpu")).root / ".git").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("mine")
    with pytest.raises(LabError, match=r"train\.py: is there already"):
        make_gpt_lab(tmp_path, Wish(profile="cpu"))
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


def test_an_unknown_profile_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cpu"):
        make_gpt_lab(tmp_path / "lab", Wish(profile="tpu"))
    assert not (tmp_path / "lab").exists()


def test_a_file_in_the_way_of_the_lab_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is not a lab"):
        open_lab(tmp_path / "nowhere")


def test_the_lab_keeps_the_constant_names_that_others_rely_on(tmp_path: Path) -> None:
    lab = make_gpt_lab(tmp_path / "lab", Wish(profile="cpu"))
    train = edits.constants((lab.root / "train.py").read_text())
    wanted = "DEPTH ASPECT_RATIO HEAD_DIM WINDOW_PATTERN TOTAL_BATCH_SIZE DEVICE_BATCH_SIZE EMBEDDING_LR UNEMBEDDING_LR"
    wanted += " MATRIX_LR SCALAR_LR WEIGHT_DECAY ADAM_BETAS WARMUP_RATIO WARMDOWN_RATIO FINAL_LR_FRAC"
    assert set(wanted.split()) <= set(train)
    tree = ast.parse((lab.root / "prepare.py").read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {"Tokenizer", "get_token_bytes", "make_dataloader", "evaluate_bpb"} <= names
