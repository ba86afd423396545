"""Documents out of `.jsonl` and `.txt` files, one at a time, so a file may be larger than memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from research_loop.data import shards
from research_loop.errors import DataError

SEPARATOR = "<|endoftext|>"
GATHERED_CHARACTERS = 2_000
"""Paragraphs of plain text are gathered into documents of about this length."""

LONGEST_CHARACTERS = 4 * GATHERED_CHARACTERS
"""A document gathered from text without blank lines ends at the first line end past this."""


def documents(path: Path) -> Iterator[str]:
    """The documents of a file, by its suffix. Raises DataError with file and line where it does not hold."""
    return _objects(path) if path.suffix == ".jsonl" else _plain(path)


def collect(paths: list[Path], folder: Path, num_shards: int | None) -> None:
    """Lay files out as shards: the last file is validation, or the last 1 % of an only file.

    Raises DataError when a file is broken, or nothing is left to train on or to validate with.
    """
    *train, last = paths
    if train:
        streams = chain.from_iterable(documents(path) for path in train)
        shards.lay_out(streams, documents(last), folder, num_shards, str(last.parent))
    else:
        shards.split(lambda: documents(last), folder, num_shards, str(last))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1; decoded one by one so that an error knows its line."""
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode().replace("\r\n", "\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}): convert the file to UTF-8") from error
            yield number, line.removeprefix("\ufeff") if number == 1 else line


def _objects(path: Path) -> Iterator[str]:
    for number, line in _lines(path):
        text = _text(line, f"{path}:{number}") if line.strip() else None
        if text is not None:
            yield text


def _text(line: str, place: str) -> str | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({shards.first_line(error)}): mend or remove the line") from error
    if not isinstance(record, dict) or not isinstance(record.get(shards.COLUMN, 0), str | None):
        raise DataError(f'{place}: not an object with a string "{shards.COLUMN}": mend or remove the line')
    text: str | None = record[shards.COLUMN]
    if text is not None and not _encodes(text):
        raise DataError(f"{place}: half of a surrogate pair, which no UTF-8 text can hold: mend or remove the line")
    return text


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(path: Path) -> Iterator[str]:
    separated = any(line.strip() == SEPARATOR for _, line in _lines(path))
    lines = (line for _, line in _lines(path))
    pieces = _separated(lines) if separated else _gathered(lines)
    return (text for text in map(str.strip, pieces) if text)


def _separated(lines: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip() == SEPARATOR:
            yield "".join(held)
            held = []
        else:
            held.append(line)
    yield "".join(held)


def _gathered(lines: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    length = 0
    for line in lines:
        held.append(line)
        length += len(line)
        if length >= LONGEST_CHARACTERS or (length >= GATHERED_CHARACTERS and not line.strip()):
            yield "".join(held)
            held, length = [], 0
    yield "".join(held)
