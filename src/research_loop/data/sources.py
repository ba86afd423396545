"""From `--data SOURCE` to a folder of parquet shards, the last of them pinned for validation.

    builtin                  written by research_loop.data.world, the same on every machine
    tinystories, climbmix    datasets on the Hugging Face Hub
    a path                   a folder of .parquet, .jsonl or .txt files, or one such file

`shards.json` marks a finished folder and `collecting.json` one that was begun; both say for which request, so that the
same request returns at once or goes on, and another one starts afresh.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from research_loop.data import hub, shards, texts
from research_loop.errors import ConfigError, DataError
from research_loop.files import replacing

FORMAT = 1
FINISHED = "shards.json"
BEGUN = "collecting.json"
SUFFIXES = (".parquet", ".jsonl", ".txt")
"""Kinds of files a folder may hold; where it holds several, the first of these is taken."""

Say = Callable[[str], None]
Record = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Shards:
    """Parquet files with one string column `text`; `source` says where they are from, with version or commit."""

    train: tuple[Path, ...]
    validation: Path
    source: str


def collect(source: str, folder: Path, *, num_shards: int | None = None, say: Say = print) -> Shards:
    """Have the shards of `source` in `folder`, at most `num_shards` of them for training.

    Returns at once, without network, where they are there already. Raises ConfigError for a source or a number that
    does not hold, DataError when the data cannot be had or is broken. `say` gets lines of progress, downloads' from
    their threads. Call it from a module that can be imported: `builtin` starts processes.
    """
    if num_shards is not None and num_shards < 1:
        raise ConfigError(f"--num-shards {num_shards}: at least one train shard is needed: give 1 or more")
    folder = folder.absolute()
    try:
        request = _request(source, folder, num_shards)
        return _finished(folder, request) or _collect(request, folder, say)
    except OSError as error:
        place = error.filename or folder
        raise DataError(f"{place}: {error.strerror or error}: check the space left and the permissions") from error


def intact(folder: Path) -> bool:
    """Whether all shards of a finished folder are as they were when it was finished, whatever they were made of."""
    record = _read(folder / FINISHED)
    return record is not None and all(_intact(folder, shard) for shard in record["shards"])


def _request(source: str, folder: Path, num_shards: int | None) -> Record:
    """All that decides what the shards hold and can be known without network, ready for JSON."""
    if source == "builtin":
        from research_loop.data import world

        return {"kind": "builtin", "version": world.VERSION, "num_shards": num_shards}
    if source in hub.DATASETS:
        dataset = hub.DATASETS[source]
        wanted = num_shards or dataset.default_shards
        return {"kind": "hub", "name": source, "repo": dataset.repo, "num_shards": wanted}
    path = Path(source).expanduser().resolve()
    files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in _local_files(path, source, folder)]
    return {"kind": "path", "path": str(path), "files": files, "num_shards": num_shards}


def _local_files(path: Path, source: str, folder: Path) -> list[Path]:
    if not path.exists():
        raise ConfigError(f"--data {source}: no such file or folder, and not one of builtin, {', '.join(hub.DATASETS)}")
    if folder.resolve() in (path, *path.parents):
        raise ConfigError(f"--data {source}: this is where the lab keeps its shards: name the folder they came from")
    if path.is_file() and path.suffix in SUFFIXES:
        return [path]
    for suffix in SUFFIXES:
        found = sorted(path.glob(f"[!.]*{suffix}"))
        if found:
            return found
    raise DataError(f"{source}: no {', '.join(SUFFIXES)} file: give a folder that holds one kind of them, or one file")


def _finished(folder: Path, request: Record) -> Shards | None:
    record = _read(folder / FINISHED)
    if record is None or record["request"] != request or not all(_intact(folder, shard) for shard in record["shards"]):
        return None
    *train, validation = [folder / shard["file"] for shard in record["shards"]]
    return Shards(tuple(train), validation, record["source"])


def _intact(folder: Path, shard: Record) -> bool:
    """Whether a shard is as it was finished; its content is read only where its time says that it may have changed."""
    try:
        seen = (folder / shard["file"]).stat()
    except FileNotFoundError:
        return False
    if seen.st_size != shard["bytes"]:
        return False
    return bool(seen.st_mtime_ns == shard["mtime_ns"] or shards.sha256(folder / shard["file"]) == shard["sha256"])


def _collect(request: Record, folder: Path, say: Say) -> Shards:
    started = time.monotonic()
    plan = _begin(request, folder, say)
    fill = {"builtin": _fill_builtin, "hub": _fill_from_hub, "path": _fill_from_path}[request["kind"]]
    fill(plan, folder, say)
    made = _finish(plan, folder)
    rows, size = sum(shard["rows"] for shard in made), sum(shard["bytes"] for shard in made) / 1e6
    seconds = time.monotonic() - started
    say(f"{plan['source']}: {len(made)} shards, {rows:,} documents, {size:.1f} MB, in {seconds:.1f} s")
    done = _finished(folder, request)
    if done is None:
        raise DataError(f"{folder}: its shards changed while they were written: let one command at a time prepare data")
    return done


def _begin(request: Record, folder: Path, say: Say) -> Record:
    """Take up what is there of this request, or clear the folder for it; a hub that is down leaves it as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    records = (_read(folder / name) for name in (FINISHED, BEGUN))
    same = next((record for record in records if record and record["request"] == request), None)
    if same is None:
        plan = _plan(request, say)
        _clear(folder)
    else:
        plan = {key: value for key, value in same.items() if key != "shards"}
        for shard in same.get("shards", ()):
            if not _intact(folder, shard):
                (folder / shard["file"]).unlink(missing_ok=True)
    for left_over in folder.glob(".*.tmp"):
        left_over.unlink()
    _write(folder / BEGUN, plan)
    (folder / FINISHED).unlink(missing_ok=True)
    return plan


def _plan(request: Record, say: Say) -> Record:
    plan: Record = {"format": FORMAT, "request": request}
    if request["kind"] == "builtin":
        return plan | {"source": f"builtin {request['version']}"}
    if request["kind"] == "path":
        return plan | {"source": request["path"]}
    listing = hub.list_files(hub.DATASETS[request["name"]], request["num_shards"], say)
    return plan | {"source": f"{request['repo']}@{listing.commit}", "listing": listing.to_json()}


def _clear(folder: Path) -> None:
    for name in (FINISHED, BEGUN):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("shard_*.parquet"):
        path.unlink()


def _fill_builtin(plan: Record, folder: Path, say: Say) -> None:
    from research_loop.data import world

    indices = [*range(world.SHARDS - 1)[: plan["request"]["num_shards"]], world.SHARDS - 1]
    missing = [(i, path) for i, path in _numbered(indices, folder) if not path.exists()]
    processes = max(1, min(_cores(), len(missing)))
    say(f"builtin: writing {len(missing)} shards in {processes} processes")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_start_worker) as pool:
        futures = [pool.submit(_write_builtin, index, path) for index, path in missing]
        try:
            for count, future in enumerate(as_completed(futures), 1):
                future.result()
                if count % 4 == 0:
                    say(f"builtin: {count} of {len(missing)} shards")
        except BrokenExecutor as error:
            raise DataError("builtin: a process that writes shards was killed (out of memory?): start again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _numbered(items: Sequence[T], folder: Path) -> list[tuple[T, Path]]:
    return [(item, shards.shard_path(folder, index)) for index, item in enumerate(items)]


def _write_builtin(index: int, path: Path) -> None:
    from research_loop.data import world

    shards.write(path, world.shard(index), f"builtin shard {index}")


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: a worker of a killed parent would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fill_from_hub(plan: Record, folder: Path, say: Say) -> None:
    request, listing = plan["request"], hub.Listing.from_json(plan["listing"])
    hub.collect(hub.DATASETS[request["name"]], listing, folder, request["num_shards"], say)


def _fill_from_path(plan: Record, folder: Path, say: Say) -> None:
    path, limit = Path(plan["request"]["path"]), plan["request"]["num_shards"]
    files = [path] if path.is_file() else [path / name for name, *_ in plan["request"]["files"]]
    say(f"{path}: {len(files)} {files[0].suffix} file{'s' * (len(files) > 1)}")
    if files[0].suffix != ".parquet":
        texts.collect(files, folder, limit)
    elif len(files) == 1:
        shards.split(partial(shards.documents, files[0], str(files[0])), folder, limit, str(files[0]))
    else:
        wanted = _numbered([*files[:-1][:limit], files[-1]], folder)
        with ThreadPoolExecutor(_cores()) as pool:
            list(pool.map(lambda pair: shards.place(pair[0], pair[1], str(pair[0])), wanted))


def _finish(plan: Record, folder: Path) -> list[Record]:
    """Describe the shards as they lie there, and mark the folder as finished."""
    with ThreadPoolExecutor(_cores()) as pool:
        made = list(pool.map(_describe, sorted(folder.glob("shard_*.parquet"))))
    _write(folder / FINISHED, plan | {"shards": made})
    (folder / BEGUN).unlink()
    return made


def _describe(path: Path) -> Record:
    from pyarrow.parquet import read_metadata

    seen = path.stat()
    return {
        "file": path.name,
        "rows": read_metadata(path).num_rows,
        "bytes": seen.st_size,
        "mtime_ns": seen.st_mtime_ns,
        "sha256": shards.sha256(path),
    }


def _write(path: Path, record: Record) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> Record | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    whole = isinstance(record, dict) and record.get("format") == FORMAT and "request" in record
    return record if whole else None
