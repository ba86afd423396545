"""Shards from datasets on the Hugging Face Hub.

Files go through huggingface_hub's cache, which resumes and keeps what is whole; each is then compared with the
checksum the hub lists and read to its end before it becomes a shard. `HF_ENDPOINT` names another hub, as it does for
the library.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

from research_loop.data import shards
from research_loop.errors import DataError

AT_ONCE = 4
"""Files downloaded at the same time."""

WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""Back-off between the five tries at a request."""

LISTING_SECONDS = 60.0
"""Longest silence of the hub while it lists a dataset."""

PATIENCE_SECONDS = 0.5
"""How long each thread gets to end when the others are not needed any more."""

CURE = "use --data builtin, or --data FOLDER"

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of parquet files. `last` is the validation file by name, or None for the last one there is."""

    name: str
    repo: str
    last: str | None = None
    default_shards: int | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file as the hub lists it: bytes, and the SHA-256 of its content where the hub keeps one."""

    path: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The files to fetch, the validation file last, and the commit they are taken from."""

    commit: str
    files: tuple[File, ...]

    def to_json(self) -> dict[str, Any]:
        return {"commit": self.commit, "files": [asdict(file) for file in self.files]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Listing:
        return cls(value["commit"], tuple(File(**file) for file in value["files"]))


DATASETS = {
    "tinystories": Dataset("tinystories", "karpathy/tinystories-gpt4-clean"),
    "climbmix": Dataset("climbmix", "karpathy/climbmix-400b-shuffle", "shard_06542.parquet", default_shards=10),
}


def list_files(dataset: Dataset, num_shards: int | None, say: Say) -> Listing:
    """Ask the hub for the newest commit and its parquet files, cut to `num_shards` train files.

    Raises DataError when the hub cannot be reached, refuses, or has no such files.
    """
    from huggingface_hub import HfApi

    def ask() -> Any:
        try:
            return HfApi(_endpoint()).dataset_info(dataset.repo, files_metadata=True, timeout=LISTING_SECONDS)
        except (KeyError, TypeError):
            raise ValueError("its answer does not describe a dataset") from None

    info = _insist(ask, dataset, dataset.repo, say, threading.Event())
    files = {s.rfilename: File(s.rfilename, s.size, s.lfs.sha256 if s.lfs else None) for s in info.siblings or ()}
    names = sorted(name for name in files if name.endswith(".parquet"))
    last = dataset.last or max(names, default="")
    if last not in files or not info.sha:
        raise DataError(f"{dataset.name}: {dataset.repo} has no {last or 'parquet file'} any more: {CURE}")
    train = [name for name in names if name < last][:num_shards]
    return Listing(info.sha, tuple(files[name] for name in (*train, last)))


def collect(dataset: Dataset, listing: Listing, folder: Path, num_shards: int | None, say: Say) -> None:
    """Download the listed files, several at a time, into shards; those already there stay.

    Raises DataError when a file cannot be had, or is broken twice in a row.
    """
    if len(listing.files) == 1:
        _collect_only(dataset, listing, folder, num_shards, say)
        return
    paths = [shards.shard_path(folder, index) for index in range(len(listing.files))]
    missing = [(file, path) for file, path in zip(listing.files, paths, strict=True) if not path.exists()]
    say(f"{dataset.name}: {len(missing)} of {len(paths)} files to fetch from {dataset.repo}")
    with _transfer(dataset, listing.commit, [file for file, _ in missing], say) as transfer:
        _at_once([partial(transfer.shard, file, path) for file, path in missing], transfer.stop)


def _collect_only(dataset: Dataset, listing: Listing, folder: Path, num_shards: int | None, say: Say) -> None:
    (file,) = listing.files
    say(f"{dataset.name}: {file.path} to fetch from {dataset.repo}")
    with _transfer(dataset, listing.commit, [file], say) as transfer:
        path = transfer.whole(file)
    read = partial(shards.documents, path, f"{dataset.name}: {file.path}")
    shards.split(read, folder, num_shards, dataset.name, at_least=200, at_most_bytes=None)


def _at_once(jobs: list[Callable[[], None]], stop: threading.Event) -> None:
    """Do jobs, AT_ONCE at a time; the first error, or Ctrl-C, sets `stop` and is raised.

    The threads are daemons, unlike an executor's: one that waits for a silent hub must not hold the exit up.
    """
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    for job in jobs:
        waiting.put(job)
    threads = [threading.Thread(target=_work, args=(waiting, ended, stop), daemon=True) for _ in jobs[:AT_ONCE]]
    try:
        for thread in threads:
            thread.start()
        for _ in jobs:
            error = ended.get()
            if error is not None:
                raise error
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def _work(
    waiting: SimpleQueue[Callable[[], None]], ended: SimpleQueue[BaseException | None], stop: threading.Event
) -> None:
    while not stop.is_set():
        try:
            job = waiting.get_nowait()
        except Empty:
            return
        try:
            job()
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)


class _Stopped(Exception):
    """Another file failed, or the user stopped: this one is not needed any more."""


@dataclass(slots=True)
class _Transfer:
    """Files of one commit on their way; `moved` counts the bytes of each that have come."""

    dataset: Dataset
    commit: str
    say: Say
    show: Callable[[int], None] | None
    total: int
    moved: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def shard(self, file: File, shard: Path) -> None:
        shards.place(self.whole(file), shard, f"{self.dataset.name}: {file.path}")

    def whole(self, file: File) -> Path:
        """The file in the cache, compared with what the hub lists; a broken one is downloaded again, once."""
        fault = ""
        for again in (False, True):
            path = self._download(file, again)
            fault = _fault(path, file)
            if not fault:
                self._finish(file, path)
                return path
            if not again:
                self.say(f"{self.dataset.name}: {file.path} is broken ({fault}): downloading it again")
        raise DataError(f"{self.dataset.name}: {file.path} came broken twice ({fault}): try again later, or {CURE}")

    def _download(self, file: File, again: bool) -> Path:
        from huggingface_hub import hf_hub_download

        options: dict[str, Any] = {"endpoint": _endpoint(), "force_download": again}
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # newer than the oldest release we allow
            options["tqdm_class"] = _bar(partial(self._move, file))
        get = partial(
            hf_hub_download, self.dataset.repo, file.path, repo_type="dataset", revision=self.commit, **options
        )
        return Path(_insist(get, self.dataset, file.path, self.say, self.stop))

    def _move(self, file: File, count: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        with self.lock:
            self.moved[file.path] = count
            if self.show:
                self.show(sum(self.moved.values()))

    def _finish(self, file: File, path: Path) -> None:
        size = path.stat().st_size
        self._move(file, size)
        with self.lock:
            self.finished += 1
            if not self.show:
                self.say(f"{self.dataset.name}: {self.finished} of {self.total}: {file.path}, {size / 1e6:.1f} MB")


@contextmanager
def _transfer(dataset: Dataset, commit: str, files: list[File], say: Say) -> Iterator[_Transfer]:
    """A transfer with a bar of bytes where stderr is a terminal, else with a line a file; the library stays silent."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its warnings on retries and logins would break the bar; ours name the cure
    try:
        if sys.stderr.isatty():
            with _terminal_bar(dataset, files) as show:
                yield _Transfer(dataset, commit, say, show, len(files))
        else:
            yield _Transfer(dataset, commit, say, None, len(files))
    finally:
        logger.setLevel(level)


@contextmanager
def _terminal_bar(dataset: Dataset, files: list[File]) -> Iterator[Callable[[int], None]]:
    from rich import progress
    from rich.console import Console

    words = (progress.TextColumn("{task.description}"), progress.BarColumn())
    figures = (progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    console = Console(stderr=True)
    with progress.Progress(*words, *figures, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
        sizes = [file.size for file in files]
        total = sum(size for size in sizes if size) if all(sizes) else None
        task = bar.add_task(dataset.name, total=total)
        yield lambda count: bar.update(task, completed=count)


def _bar(move: Callable[[int], None]) -> type:
    """The part of tqdm that huggingface_hub uses of a bar; `move` gets the bytes of the file so far."""

    class Bar:
        def __init__(self, *_: object, initial: int = 0, total: int | None = None, **__: object) -> None:
            self.n, self.total = initial, total

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: int = 1) -> None:
            self.n += count
            move(self.n)

        def update_transfer(self, _: int) -> None:
            """Bytes on the wire, which Xet counts apart from those of the file."""

        def set_postfix_str(self, *_: object, **__: object) -> None:
            pass

        set_transfer_postfix_str = set_postfix_str

    return Bar


def _fault(path: Path, file: File) -> str:
    """Why a downloaded file is not the one listed, or nothing."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes instead of {file.size}"
    if file.sha256:
        return "" if shards.sha256(path) == file.sha256 else "its checksum is not the listed one"
    try:
        shards.scan(path, file.path)
    except DataError as error:
        return str(error)
    return ""


def _insist(act: Callable[[], T], dataset: Dataset, what: str, say: Say, stop: threading.Event) -> T:
    """Do a request, five times at most; raises DataError for what trying again would not mend, or did not."""
    import httpx

    for wait in (*WAITS_SECONDS, None):
        try:
            return act()
        # RuntimeError: the library closes its client under other threads when one of them cannot connect.
        # ValueError: an answer that is not JSON, such as a login page of the network.
        except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
            message, passing = _explain(error, dataset, what)
            if not passing or wait is None:
                raise DataError(f"{dataset.name}: {message}") from error
            say(f"{dataset.name}: {what}: {_why(error)}; trying again in {wait:g} s")
            if stop.wait(wait):
                raise _Stopped from error
    raise AssertionError("the last try returns or raises")


def _explain(error: Exception, dataset: Dataset, what: str) -> tuple[str, bool]:
    """An error as one line with its cure, and whether it may pass by itself."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    tried = isinstance(error, LocalEntryNotFoundError)  # raised after the library's own six tries
    root = _root(error)
    status = getattr(getattr(root, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub refused {what} (HTTP {status}): log in with `hf auth login`, or {CURE}", False
    if status == 404:
        return f"the hub has no {what} (HTTP 404): it was moved or removed; {CURE}", False
    if isinstance(root, OSError) and root.errno and not isinstance(root, ConnectionError):
        return f"{root.filename or what}: {root.strerror}: make room or set HF_HOME to another folder", False
    passing = not tried and (status is None or status >= 500 or status in (408, 429))
    if isinstance(root, OSError) and status is None and not isinstance(root, ConnectionError):
        return f"the hub did not deliver {what} ({_why(error)}): try again later, or {CURE}", passing
    return f"the hub could not be reached ({_why(error)}): check the network, or {CURE}", passing


def _why(error: Exception) -> str:
    root = _root(error)
    status = getattr(getattr(root, "response", None), "status_code", None)
    return f"HTTP {status}" if status else shards.first_line(root)


def _root(error: BaseException) -> BaseException:
    """What lies under the errors by which the library says only that it gave up."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wraps = isinstance(error, LocalEntryNotFoundError | ValueError)
    return error.__cause__ if wraps and error.__cause__ else error


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
