"""Parquet shards: files with one string column `text`, a row a document, none of them null.

A shard takes its name only when it is whole and on disk, so one that is there can be trusted. Each `name` argument is
what an error calls the file by.
"""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from research_loop.errors import DataError
from research_loop.files import replacing

COLUMN = "text"
SHARD_BYTES = 100_000_000
"""Text of a train shard, at most, where documents are not already cut into files."""

ROW_GROUP_BYTES = 16_000_000
BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Scan:
    """A whole read of a parquet file: documents, and whether it can serve as a shard as it is."""

    documents: int
    exact: bool


def scan(path: Path, name: str) -> Scan:
    """Read every document once: a footer alone does not show that the pages before it are sound.

    Raises DataError when the file is not a sound parquet file or has no column of documents.
    """
    documents = nulls = 0
    with _opened(path, name) as file:
        column = _column(file.schema_arrow, name)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
            batch.validate(full=True)
            nulls += batch.column(0).null_count
            documents += batch.num_rows - batch.column(0).null_count
        exact = file.schema_arrow.remove_metadata().equals(_schema()) and nulls == 0
    return Scan(documents, exact)


def documents(path: Path, name: str) -> Iterator[str]:
    """The documents of a parquet file, in order, nulls left out."""
    with _opened(path, name) as file:
        column = _column(file.schema_arrow, name)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
            yield from (text for text in batch.column(0).to_pylist() if text is not None)


def write(path: Path, texts: Iterable[str], name: str) -> None:
    """Write documents as a shard, a row group at a time. Raises DataError when there are none, and leaves no file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, _schema(), compression="zstd") as writer:
        for group in chunks(texts, ROW_GROUP_BYTES):
            table = pa.table({COLUMN: list(group)}, _schema())
            writer.write_table(table)
            rows += table.num_rows
        if rows == 0:
            raise _empty(name)


def chunks(texts: Iterable[str], size: int) -> Iterator[Iterator[str]]:
    """Cut a stream of documents into streams of about `size` bytes of UTF-8; use each up before the next."""
    seen = 0

    def number(text: str) -> int:
        nonlocal seen
        before, seen = seen, seen + len(text.encode())
        return before // size

    for _, group in groupby(texts, number):
        yield group


def place(source: Path, shard: Path, name: str) -> None:
    """Make `shard` out of a parquet file: a link where its content is already what a shard holds, else rewritten.

    Raises DataError when the file is broken or holds no document.
    """
    found = scan(source, name)
    if found.documents == 0:
        raise _empty(name)
    if found.exact:
        _link(source.resolve(), shard)
    else:
        write(shard, documents(source, name), name)


def tail(texts: Iterable[str], *, at_least: int, at_most_bytes: int | None, name: str) -> int:
    """How many documents come before the last 1 %, which become validation.

    `at_least` documents are taken, and no more text than `at_most_bytes` (UTF-8) unless the last document alone has
    more. Raises DataError when nothing would be left to train on.
    """
    sizes = array("Q", (len(text.encode()) for text in texts))
    taken = max(at_least, len(sizes) // 100)
    if len(sizes) <= taken:
        raise DataError(
            f"{name}: {len(sizes)} documents, too few to train on and hold {taken} back for validation: add documents"
        )
    size = sum(sizes[-taken:])
    while at_most_bytes is not None and size > at_most_bytes and taken > 1:
        size -= sizes[-taken]
        taken -= 1
    return len(sizes) - taken


def split(
    read: Callable[[], Iterable[str]],
    folder: Path,
    num_shards: int | None,
    name: str,
    *,
    at_least: int = 1,
    at_most_bytes: int | None = 10_000_000,
) -> None:
    """Lay one stream of documents out, its end (see `tail`) as validation; each `read()` starts it anew."""
    count = tail(read(), at_least=at_least, at_most_bytes=at_most_bytes, name=name)
    lay_out(islice(read(), count), islice(read(), count, None), folder, num_shards, name)


def lay_out(train: Iterable[str], validation: Iterable[str], folder: Path, num_shards: int | None, name: str) -> None:
    """Write train shards of about SHARD_BYTES, `num_shards` at most, and the validation shard after them."""
    count = 0
    for group in islice(chunks(train, SHARD_BYTES), num_shards):
        write(shard_path(folder, count), group, name)
        count += 1
    if count == 0:
        raise _empty(name)
    write(shard_path(folder, count), validation, name)


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard_{index:05d}.parquet"


def sha256(path: Path) -> str:
    """Checksum of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _empty(name: str) -> DataError:
    return DataError(f"{name}: no documents in it: check the file, or use another --data")


def _link(source: Path, shard: Path) -> None:
    shard.unlink(missing_ok=True)
    for make in (shard.hardlink_to, shard.symlink_to):
        try:
            return make(source)
        except OSError:
            continue  # another device, or a file system without links: the next way
    with replacing(shard) as temporary:
        shutil.copyfile(source, temporary)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([(COLUMN, pa.string())])


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (FileNotFoundError, PermissionError) as error:
        raise DataError(f"{name}: cannot be read ({first_line(error)}): check the path and who may read it") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{name}: not a sound parquet file ({first_line(error)}): write or download it again"
        ) from error


def _column(schema: Any, name: str) -> str:
    import pyarrow.types as types

    strings = [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]
    if COLUMN in strings:
        return COLUMN
    if len(strings) == 1:
        return str(strings[0])
    columns = ", ".join(schema.names) or "none"
    raise DataError(f"{name}: no string column `{COLUMN}` (columns: {columns}): rename the column of documents")


def first_line(error: BaseException) -> str:
    """What an error says, on one line and not too long; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
