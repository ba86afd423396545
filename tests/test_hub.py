"""Data sets on a hub, against a real HTTP server on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from documents import (
    CLIMBMIX,
    COLLECT,
    RUN_COLLECT,
    TINYSTORIES,
    failure,
    noise,
    parquet,
    quiet,
    start,
    stories,
    texts,
    wait_for,
)
from research_loop.data import hub
from research_loop.data.sources import collect
from research_loop.testing.hub import Fault, LoopbackHub


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
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored below a shell's `&`
    script = (
        heed
        + COLLECT
        + "\ntry: collect(sys.argv[1], pathlib.Path(sys.argv[2]))\nexcept KeyboardInterrupt: sys.exit(130)"
    )
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
