"""Every source of documents, against real files, real processes and a real HTTP server on loopback."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.utils import close_session

from research_loop.data import hub, world
from research_loop.data.sources import collect
from research_loop.errors import ConfigError, DataError
from research_loop.testing.hub import Fault, LoopbackHub

TINYSTORIES, CLIMBMIX = hub.DATASETS["tinystories"].repo, hub.DATASETS["climbmix"].repo
CORPUS_SMALL = Path(__file__).parents[2] / "shared" / "data" / "corpus-small"
COLLECT = "import sys, pathlib; from research_loop.data.sources import collect; "
RUN_COLLECT = COLLECT + "collect(sys.argv[1], pathlib.Path(sys.argv[2]), num_shards=2)"


def parquet(texts: list[str | None], column: str = "text", **more: list[object]) -> bytes:
    """A parquet file as bytes; without compression, so that a test can change a letter in it."""
    buffer = io.BytesIO()
    table = pa.table({column: pa.array(texts, pa.string()), **more})
    pq.write_table(table, buffer, compression="none", use_dictionary=False)
    return buffer.getvalue()


def stories(name: str, count: int = 3) -> list[str | None]:
    return [f"{name} story {number}" for number in range(count)]


def noise(name: str, size: int) -> list[str | None]:
    """Documents that do not compress, so that a file of them has about twice as many bytes as asked for."""
    return [name, os.urandom(size).hex()]


def texts(*paths: Path) -> list[str]:
    tables = [pq.read_table(path) for path in paths]
    assert all(table.schema.equals(pa.schema([("text", pa.string())])) for table in tables)
    return [text for table in tables for text in table.column("text").to_pylist()]


def quiet(_: str) -> None:
    pass


def write_jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def parquet_folder(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.parquet").write_bytes(parquet(stories(name)))
    return folder


@pytest.fixture
def hub_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A cache of our own, no proxy, no login, short waits and small blocks."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 16 * 1024)
    monkeypatch.setattr(hub, "WAITS_SECONDS", (0.01, 0.01, 0.01, 0.01))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    close_session()
    yield monkeypatch
    close_session()


@pytest.fixture
def serve(hub_settings: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub with three files of stories and a card, which is no parquet file."""
    files = {f"data/{name}.parquet": parquet(stories(name)) for name in "abc"}
    with LoopbackHub({TINYSTORIES: files | {"README.md": b"# stories"}}) as server:
        hub_settings.setenv("HF_ENDPOINT", server.url)
        yield server


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


def test_a_dataset_on_the_hub_becomes_shards_and_a_second_call_asks_nothing(serve: LoopbackHub, tmp_path: Path) -> None:
    said: list[str] = []
    made = collect("tinystories", tmp_path / "lab", say=said.append)
    assert texts(*made.train) == stories("a") + stories("b")
    assert texts(made.validation) == stories("c")
    assert made.source == f"{TINYSTORIES}@{serve.commit(TINYSTORIES)}"
    assert sum("data/" in line and "of 3:" in line for line in said) == 3
    asked = len(serve.requests)
    assert collect("tinystories", tmp_path / "lab", say=said.append) == made
    assert len(serve.requests) == asked


def test_files_come_several_at_a_time(serve: LoopbackHub, tmp_path: Path) -> None:
    serve.meet = 3
    collect("tinystories", tmp_path / "lab", say=quiet)
    assert serve.peak == 3


def test_climbmix_pins_its_validation_shard_and_fetches_only_what_is_asked_for(
    hub_settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    numbers = [*range(12), 6542, 6543]
    files = {f"shard_{number:05d}.parquet": parquet(stories(str(number))) for number in numbers}
    with LoopbackHub({CLIMBMIX: files}) as server:
        hub_settings.setenv("HF_ENDPOINT", server.url)
        assert texts(collect("climbmix", tmp_path / "ten", say=quiet).train[-1]) == stories("9")
        made = collect("climbmix", tmp_path / "two", num_shards=2, say=quiet)
        assert texts(*made.train, made.validation) == stories("0") + stories("1") + stories("6542")
        assert not server.fetches("shard_06543.parquet")
        assert not server.fetches("shard_00010.parquet")
        assert len(server.fetches("shard_06542.parquet")) == 1


def test_a_dataset_of_one_file_gives_at_least_two_hundred_documents_to_validation(
    hub_settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with LoopbackHub({TINYSTORIES: {"all.parquet": parquet(stories("a", 500), "story")}}) as server:
        hub_settings.setenv("HF_ENDPOINT", server.url)
        made = collect("tinystories", tmp_path / "lab", say=quiet)
    assert texts(*made.train) == stories("a", 500)[:300]
    assert texts(made.validation) == stories("a", 500)[300:]


def test_a_cut_connection_is_resumed_where_it_broke(hub_settings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"a.parquet": parquet(noise("a", 100_000)), "b.parquet": parquet(stories("b"))}
    with LoopbackHub({TINYSTORIES: files}) as server:
        hub_settings.setenv("HF_ENDPOINT", server.url)
        server.fail("a.parquet", Fault("cut", after=50_000))
        made = collect("tinystories", tmp_path / "lab", say=quiet)
        first, second = server.fetches("a.parquet")
    assert first.range is None
    assert second.range is not None and 0 < int(second.range.removeprefix("bytes=").rstrip("-")) <= 50_000
    assert made.train[0].read_bytes() == files["a.parquet"]


def test_a_reset_connection_and_a_hub_out_of_order_are_tried_again(serve: LoopbackHub, tmp_path: Path) -> None:
    serve.fail("data/a.parquet", Fault("reset", after=100), Fault("status", status=503))
    said: list[str] = []
    made = collect("tinystories", tmp_path / "lab", say=said.append)
    assert texts(*made.train) == stories("a") + stories("b")
    assert len(serve.fetches("data/a.parquet")) == 3
    assert sum("data/a.parquet: " in line and "trying again in" in line for line in said) == 2


def test_garbage_under_the_right_headers_is_fetched_again_once(serve: LoopbackHub, tmp_path: Path) -> None:
    garbage = os.urandom(len(parquet(stories("a"))))
    serve.fail("data/a.parquet", Fault("instead", content=garbage))
    made = collect("tinystories", tmp_path / "lab", say=quiet)
    assert texts(*made.train) == stories("a") + stories("b")
    assert len(serve.fetches("data/a.parquet")) == 2


def test_a_changed_letter_under_the_right_headers_twice_is_an_error_and_no_shard(
    serve: LoopbackHub, tmp_path: Path
) -> None:
    changed = parquet(stories("a")).replace(b"story", b"stony")
    serve.fail("data/a.parquet", *[Fault("instead", content=changed)] * 2)
    line = failure("tinystories", tmp_path / "lab")
    assert line.startswith("tinystories: data/a.parquet came broken twice")
    assert not (tmp_path / "lab" / "shard_00000.parquet").exists()
    assert not (tmp_path / "lab" / "shards.json").exists()
    assert texts(*collect("tinystories", tmp_path / "lab", say=quiet).train) == stories("a") + stories("b")


def test_a_truncated_file_is_never_taken_for_whole(serve: LoopbackHub, tmp_path: Path) -> None:
    serve.fail("data/a.parquet", *[Fault("instead", content=parquet(stories("a"))[:-100])] * 5)
    assert failure("tinystories", tmp_path / "lab").startswith("tinystories: the hub did not deliver data/a.parquet (")
    assert len(serve.fetches("data/a.parquet")) == 5
    assert not (tmp_path / "lab" / "shard_00000.parquet").exists()


def test_a_file_that_spoiled_in_the_cache_is_downloaded_again(serve: LoopbackHub, tmp_path: Path) -> None:
    collect("tinystories", tmp_path / "first", say=quiet)
    (spoiled,) = (tmp_path / "cache").rglob("snapshots/*/data/a.parquet")
    blob = spoiled.resolve()
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(content[:-1])
    made = collect("tinystories", tmp_path / "second", say=quiet)
    assert texts(*made.train) == stories("a") + stories("b")
    assert [len(serve.fetches(f"data/{name}.parquet")) for name in "abc"] == [2, 1, 1]


def test_an_interrupted_download_goes_on_with_what_is_missing(
    serve: LoopbackHub, hub_settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub_settings.setattr(hub, "AT_ONCE", 1)  # one after the other, so that only the last is missing
    serve.fail("data/c.parquet", Fault("status", status=404))
    assert "HTTP 404" in failure("tinystories", tmp_path / "lab")
    assert (tmp_path / "lab" / "collecting.json").exists()
    shutil.rmtree(tmp_path / "cache")
    made = collect("tinystories", tmp_path / "lab", say=quiet)
    assert texts(made.validation) == stories("c")
    assert [len(serve.fetches(f"data/{name}.parquet")) for name in "abc"] == [1, 1, 2]
    listings = [request for request in serve.requests if request.path.startswith("/api/")]
    assert len(listings) == 1
    assert not (tmp_path / "lab" / "collecting.json").exists()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_one_line_at_once(serve: LoopbackHub, tmp_path: Path, status: int) -> None:
    serve.refuse = status
    line = failure("tinystories", tmp_path / "lab")
    assert f"{TINYSTORIES} (HTTP {status})" in line
    assert len(serve.requests) == 1


def test_a_hub_that_is_down_is_one_line_after_five_tries_and_leaves_the_shards(
    serve: LoopbackHub, tmp_path: Path
) -> None:
    before = collect("tinystories", tmp_path / "lab", say=quiet)
    serve.close()
    said: list[str] = []
    line = failure("climbmix", tmp_path / "lab", said)
    assert line.startswith("climbmix: the hub could not be reached (")
    assert line.endswith("): check the network, or use --data builtin, or --data FOLDER")
    assert len(said) == 4
    assert collect("tinystories", tmp_path / "lab", say=quiet) == before


@pytest.mark.parametrize("answer", [["log in"], {"error": "log in"}])
def test_an_answer_that_is_no_dataset_is_one_line(
    serve: LoopbackHub, hub_settings: pytest.MonkeyPatch, tmp_path: Path, answer: object
) -> None:
    hub_settings.setattr(serve, "describe", lambda repo: answer)
    line = failure("tinystories", tmp_path / "lab")
    assert "the hub could not be reached (its answer does not describe a dataset)" in line


def test_a_login_page_in_place_of_the_hub_is_one_line(serve: LoopbackHub, tmp_path: Path) -> None:
    serve.refuse = 200
    assert "the hub could not be reached (" in failure("tinystories", tmp_path / "lab")


def test_ctrl_c_ends_a_stalled_download_at_once(serve: LoopbackHub, tmp_path: Path) -> None:
    serve.fail("data/a.parquet", Fault("stall", after=100))
    script = COLLECT + "\ntry: collect(sys.argv[1], pathlib.Path(sys.argv[2]))\nexcept KeyboardInterrupt: sys.exit(130)"
    process = start(script, tmp_path, stdout=subprocess.PIPE)
    wait_for(lambda: (tmp_path / "lab" / "shard_00002.parquet").exists() and bool(serve.fetches("data/a.parquet")))
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert time.monotonic() - started < 4
    assert process.communicate()[0].count(b"Traceback") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_bar_of_bytes(serve: LoopbackHub, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = start(RUN_COLLECT, tmp_path, stdout=subprocess.PIPE, stderr=theirs)
    out, _ = process.communicate(timeout=20)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0
    total = sum(len(parquet(stories(name))) for name in "abc") / 1e3
    assert f"{total:.1f}/{total:.1f} kB" in shown
    assert b"of 3: data/" not in out


def test_importing_the_module_loads_no_heavy_library() -> None:
    heavy = "{'pyarrow', 'huggingface_hub', 'rich', 'httpx', 'numpy'}"
    code = f"import sys, research_loop.data.sources, research_loop.testing.hub; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"set()"


def failure(source: str, folder: Path, said: list[str] | None = None) -> str:
    """The one line of the DataError that collecting ends in."""
    with pytest.raises(DataError) as caught:
        collect(source, folder, say=quiet if said is None else said.append)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def start(script: str, tmp_path: Path, **pipes: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "TERM": "xterm", "COLUMNS": "120"}
    arguments = [sys.executable, "-c", script, "tinystories", str(tmp_path / "lab")]
    return subprocess.Popen(arguments, env=environment, **pipes)


def wait_for(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
