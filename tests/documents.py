"""Documents, folders and processes for the tests of data sources."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from research_loop.data import hub
from research_loop.data.sources import collect
from research_loop.errors import DataError

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
