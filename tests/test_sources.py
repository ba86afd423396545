"""Sources of documents on this machine, against real files and real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from documents import (
    CORPUS_SMALL,
    RUN_COLLECT,
    failure,
    parquet,
    parquet_folder,
    quiet,
    stories,
    texts,
    wait_for,
    write_jsonl,
)
from research_loop.data import world
from research_loop.data.sources import collect
from research_loop.errors import ConfigError


def test_a_killed_builtin_leaves_no_process_and_goes_on_to_the_documents_of_the_world(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN_COLLECT, "builtin", str(tmp_path)], stdout=subprocess.DEVNULL)
    first = tmp_path / "shard_00000.parquet"
    wait_for(first.exists)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(psutil.wait_procs(children, timeout=5)[1]) == 0
    assert not (tmp_path / "shards.json").exists()
    (tmp_path / ".shard_00001.parquet.1.tmp").write_bytes(b"half a shard, as a kill leaves it")
    before = first.stat()
    made = collect("builtin", tmp_path, num_shards=2, say=quiet)
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert len(made.train) == 2
    assert texts(made.train[0]) == world.shard(0)
    assert texts(made.validation) == world.shard(world.SHARDS - 1)
    assert made.source == f"builtin {world.VERSION}"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".parquet") == ["shards.json"]


def test_a_number_of_shards_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--num-shards 0"):
        collect("builtin", tmp_path, num_shards=0, say=quiet)


def test_a_parquet_folder_is_linked_with_its_last_file_for_validation(tmp_path: Path) -> None:
    source = parquet_folder(tmp_path / "source", "b", "a", "c")
    made = collect(str(source), tmp_path / "lab", say=quiet)
    assert texts(*made.train) == stories("a") + stories("b")
    assert texts(made.validation) == stories("c")
    assert made.train[0].samefile(source / "a.parquet")
    assert [path.name for path in made.train] == ["shard_00000.parquet", "shard_00001.parquet"]


def test_num_shards_limits_the_train_shards_and_keeps_the_validation(tmp_path: Path) -> None:
    source = parquet_folder(tmp_path / "source", "a", "b", "c", "d")
    made = collect(str(source), tmp_path / "lab", num_shards=2, say=quiet)
    assert texts(*made.train) == stories("a") + stories("b")
    assert texts(made.validation) == stories("d")


def test_a_folder_is_known_as_finished_only_by_what_was_asked_and_what_is_there(tmp_path: Path) -> None:
    source, other = parquet_folder(tmp_path / "source", "a", "b"), parquet_folder(tmp_path / "other", "c", "d", "e")
    lab = tmp_path / "lab"
    first = collect(str(source), lab, say=quiet)
    said: list[str] = []
    assert collect(str(source), lab, say=said.append) == first
    assert said == []
    assert texts(*collect(str(other), lab, say=quiet).train) == stories("c") + stories("d")
    assert texts(*collect(str(source), lab, say=quiet).train) == stories("a")
    assert not (lab / "shard_00002.parquet").exists()
    (source / "a.parquet").write_bytes(parquet(stories("new")))
    assert texts(*collect(str(source), lab, say=quiet).train) == stories("new")


def test_a_copied_folder_is_still_finished_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    source, lab = write_jsonl(tmp_path / "a.jsonl", *[{"text": f"story {n}"} for n in range(9)]), tmp_path / "lab"
    train = collect(str(source), lab, say=quiet).train[0]
    os.utime(train)
    said: list[str] = []
    collect(str(source), lab, say=said.append)
    assert said == []
    whole = train.read_bytes()
    train.write_bytes(whole[:50] + b"?" + whole[51:])
    collect(str(source), lab, say=said.append)
    assert said
    assert train.read_bytes() == whole


def test_the_only_string_column_serves_and_null_documents_are_left_out(tmp_path: Path) -> None:
    source = parquet_folder(tmp_path / "source", "z")
    (source / "a.parquet").write_bytes(parquet(["one", None, "two"], "story", number=[1, 2, 3]))
    (source / "b.parquet").write_bytes(parquet(["three", None]))
    made = collect(str(source), tmp_path / "lab", say=quiet)
    assert texts(*made.train) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (parquet(stories("a"))[:-40], "not a sound parquet file"),
        (parquet(stories("a"))[:4] + b"\xff" * 40 + parquet(stories("a"))[44:], "not a sound parquet file"),
        (parquet(stories("a")).replace(b"story", b"st\xffry"), "not a sound parquet file"),
        (b"", "not a sound parquet file"),
        (parquet([]), "no documents"),
        (parquet([None]), "no documents"),
        (parquet(["a"], "title", story=["b"]), "no string column `text` (columns: title, story)"),
    ],
    ids=["truncated", "damaged", "not-utf-8", "empty", "no-rows", "only-nulls", "no-text-column"],
)
def test_a_parquet_file_that_will_not_do_is_named_in_one_line(tmp_path: Path, content: bytes, fact: str) -> None:
    source = parquet_folder(tmp_path / "source", "a", "z")
    (source / "b.parquet").write_bytes(content)
    line = failure(str(source), tmp_path / "lab")
    assert line.startswith(f"{source}/b.parquet: ")
    assert fact in line
    assert not (tmp_path / "lab" / "shards.json").exists()


def test_a_single_parquet_file_gives_its_last_hundredth_to_validation(tmp_path: Path) -> None:
    (tmp_path / "only.parquet").write_bytes(parquet(stories("a", 300)))
    for source in (tmp_path / "only.parquet", tmp_path):
        made = collect(str(source), tmp_path / "lab", say=quiet)
        assert texts(*made.train) == stories("a", 297)
        assert texts(made.validation) == stories("a", 300)[297:]


def test_validation_cut_from_a_file_has_at_most_ten_megabytes_and_at_least_one_document(tmp_path: Path) -> None:
    documents = ["x" * 30_000] * 197 + ["y" * 6_000_000] * 3
    (tmp_path / "only.parquet").write_bytes(parquet([*documents]))
    made = collect(str(tmp_path / "only.parquet"), tmp_path / "lab", say=quiet)
    assert texts(made.validation) == documents[-1:]
    (tmp_path / "one.parquet").write_bytes(parquet(["alone"]))
    assert "1 documents, too few" in failure(str(tmp_path / "one.parquet"), tmp_path / "lab")


def test_a_long_file_is_cut_into_shards_that_num_shards_can_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("research_loop.data.shards.SHARD_BYTES", 100)
    source = write_jsonl(tmp_path / "a.jsonl", *[{"text": "x" * 30} for _ in range(21)])
    assert len(collect(str(source), tmp_path / "lab", say=quiet).train) == 6
    limited = collect(str(source), tmp_path / "lab", num_shards=2, say=quiet)
    assert [len(texts(path)) for path in limited.train] == [4, 3]
    assert len(texts(limited.validation)) == 1


def test_jsonl_files_give_their_texts_and_the_last_file_validates(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write_jsonl(source / "a.jsonl", {"text": "eins\nzwei ä"}, {"text": None}, {"text": "drei", "id": 3})
    write_jsonl(source / "b.jsonl", {"text": "vier"})
    made = collect(str(source), tmp_path / "lab", say=quiet)
    assert texts(*made.train) == ["eins\nzwei ä", "drei"]
    assert texts(made.validation) == ["vier"]


@pytest.mark.parametrize(
    "line",
    [b'{"text": "cut', b'["text"]', b'{"title": "a"}', b'{"text": 3}', b'{"text": "\xff"}', b'{"text": "\\ud800"}'],
)
def test_a_bad_jsonl_line_is_named_by_file_and_number(tmp_path: Path, line: bytes) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b'{"text": "good"}\n\n' + line + b'\n{"text": "good"}\n')
    assert failure(str(source), tmp_path / "lab").startswith(f"{source}:3: ")


def test_text_is_cut_at_its_separator_lines(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(
        b"\xef\xbb\xbffirst\r\n\r\nstill first\r\n<|endoftext|>\r\nsecond\n<|endoftext|>\n\n<|endoftext|>\nthird"
    )
    made = collect(str(source), tmp_path / "lab", say=quiet)
    assert texts(*made.train) == ["first\n\nstill first", "second"]
    assert texts(made.validation) == ["third"]


def test_plain_text_is_gathered_into_documents_of_about_two_thousand_characters(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    paragraphs = [f"{number} " + "word " * 99 for number in range(60)]
    unbroken = "\n".join(["a line"] * 4_000)
    source.write_text("\n\n".join(paragraphs) + "\n\n" + unbroken, encoding="utf-8")
    made = collect(str(source), tmp_path / "lab", say=quiet)
    found = texts(*made.train, made.validation)
    assert all(1_990 <= len(text) <= 3_000 for text in found[:10])
    assert all(len(text) <= 8_100 for text in found)
    assert "".join("".join(found).split()) == "".join(source.read_text(encoding="utf-8").split())


def test_the_labs_own_folder_is_no_source(tmp_path: Path) -> None:
    collect(str(parquet_folder(tmp_path / "source", "a", "b")), tmp_path / "lab", say=quiet)
    for own in (tmp_path / "lab", tmp_path / "lab" / "shard_00000.parquet"):
        with pytest.raises(ConfigError, match="where the lab keeps its shards"):
            collect(str(own), tmp_path / "lab", say=quiet)
    assert (tmp_path / "lab" / "shard_00000.parquet").exists()


def test_a_source_that_is_not_there_or_holds_nothing_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder, and not one of builtin, tinystories, climbmix"):
        collect("bultin", tmp_path / "lab", say=quiet)
    (tmp_path / "empty").mkdir()
    assert "no .parquet, .jsonl, .txt file" in failure(str(tmp_path / "empty"), tmp_path / "lab")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    source = parquet_folder(tmp_path / "source", "a", "b")
    (tmp_path / "lab").write_text("not a folder")
    assert failure(str(source), tmp_path / "lab" / "shards").startswith(f"{tmp_path}/lab/shards")


def test_real_shards_are_taken_as_they_are(tmp_path: Path) -> None:
    if not CORPUS_SMALL.is_dir():
        pytest.skip("corpus-small is not on this machine")
    made = collect(str(CORPUS_SMALL), tmp_path, say=quiet)
    originals = sorted(CORPUS_SMALL.glob("*.parquet"))
    assert texts(*made.train, made.validation) == texts(*originals)
    assert all(shard.samefile(path) for shard, path in zip((*made.train, made.validation), originals, strict=True))


def test_importing_the_module_loads_no_heavy_library() -> None:
    heavy = "{'pyarrow', 'huggingface_hub', 'rich', 'httpx', 'numpy'}"
    code = f"import sys, research_loop.data.sources, research_loop.testing.hub; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"set()"
