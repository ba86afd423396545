"""The harness's end of the score: it holds the validation rows, asks, and does the arithmetic.

A run that trained answers over a socket (its standard input; the other end is `answer_harness` in the lab's
prepare.py). First it commits: the nats of every position of the validation rows, by its own fast path. Only then does
the harness choose rows and places, and replaces all text after each place by other text. Asked again, the fast path
must give the same nats before the place, where nothing changed; and full logits at the place, from a call without
targets, must give the nats that were committed. Log-softmax, byte counts and the comparisons are done here. A model
that looked ahead, used the targets or does not sum to one answers differently; one without logits is unverified.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research_loop.records import Exam, Marks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHALLENGES = 128
"""Rows that are challenged, each at one place."""

PREFIX_TOLERANCE_NATS = 0.01
"""Of one position before the place, with the true and with another future: one graph, one prefix."""

LOSS_TOLERANCE_NATS = 0.005
LOSS_STANDARD_ERRORS = 5.0
"""Of the mean difference between committed nats and those of the logits, whose rounding is another graph's."""

LONGEST_HEADER = 4096


class Broken(Exception):
    """The run ended, stalled or said something else than the protocol."""


class Channel:
    """Messages over a stream socket: a line of JSON, and as many raw bytes as it says."""

    def __init__(self, end: socket.socket, timeout_seconds: float) -> None:
        end.settimeout(timeout_seconds)
        self._end, self._held = end, b""

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            self._end.sendall(json.dumps({**header, "bytes": len(payload)}).encode() + b"\n" + payload)
        except OSError as error:
            raise Broken(f"the run stopped listening ({error})") from error

    def receive(self, most_bytes: int = 0) -> tuple[dict[str, Any], bytes]:
        """The next message; Broken when it is none, or holds more than `most_bytes`."""
        while b"\n" not in self._held:
            if len(self._held) > LONGEST_HEADER:
                raise Broken("the run sent something else than an answer")
            self._held += self._some()
        line, self._held = self._held.split(b"\n", 1)
        try:
            header = json.loads(line)
            size = int(header.get("bytes", 0))
        except (ValueError, AttributeError, TypeError) as error:
            raise Broken("the run sent something else than an answer") from error
        if not 0 <= size <= most_bytes:
            raise Broken(f"the run sent {size} bytes where {most_bytes} at most were asked for")
        parts, missing = [self._held[:size]], size - len(self._held[:size])
        self._held = self._held[size:]
        while missing:
            parts.append(self._some(missing))
            missing -= len(parts[-1])
        return header, b"".join(parts)

    def _some(self, most: int = 65536) -> bytes:
        try:
            data = self._end.recv(min(most, 2**20))
        except OSError as error:
            raise Broken(f"the run did not answer in time ({error})") from error
        if not data:
            raise Broken("the run ended before it had answered")
        return data


class Examiner:
    """Examines one run in a thread of its own, while the harness goes on reading what the run prints."""

    def __init__(self, exam: Exam, limit_seconds: float) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._marks: list[Marks] = []
        arguments = (exam, time.monotonic(), limit_seconds + 60)
        self._thread = threading.Thread(target=self._examine, args=arguments, daemon=True)
        self._thread.start()

    def _examine(self, exam: Exam, spawned: float, timeout_seconds: float) -> None:
        self._marks.append(examine(self._ours, exam, spawned, timeout_seconds))

    def marks(self) -> Marks:
        """After the run's end: its half of the socket is closed then, which ends an exam that was not finished."""
        self.theirs.close()
        self._thread.join(timeout=10)
        self._ours.close()
        return self._marks[0] if self._marks else Marks(detail="the exam was not finished when the run ended")


def examine(end: socket.socket, exam: Exam, spawned: float, timeout_seconds: float) -> Marks:
    """Wait until the run is ready, and score it; blocking. `spawned` is on time.monotonic's clock.

    Never raises for what the run does: a broken answer is marks without a value.
    """
    channel = Channel(end, timeout_seconds)
    ready = None
    try:
        channel.receive()
        ready = time.monotonic()
        marks = _score(channel, exam)
        channel.send({"score": marks.value})
        seconds = time.monotonic() - ready
    except Broken as error:
        return Marks(detail=str(error), ready_seconds=None if ready is None else ready - spawned)
    return Marks(marks.value, marks.verified, marks.rejected, marks.detail, ready - spawned, seconds)


def _score(channel: Channel, exam: Exam) -> Marks:
    import numpy as np

    rows = _load(exam.validation, exam.row_tokens)[: exam.rows].astype(np.uint16)
    nats = _ask(channel, "nats", rows, np.zeros(0, np.int32), (len(rows), exam.row_tokens))
    if nats.size == 0:
        raise Broken("the model could not give its loss on validation text; the log says why")
    sizes = np.load(exam.token_bytes)[rows[:, 1:]]
    if not np.isfinite(nats).all():
        return Marks(rejected="nan", detail="the model's loss is not finite on validation text")
    value = float((nats * (sizes > 0)).sum(dtype=np.float64) / (math.log(2) * sizes.sum()))
    return _challenge(channel, exam, rows, nats, sizes, value)


def _challenge(
    channel: Channel, exam: Exam, rows: NDArray[Any], nats: NDArray[Any], sizes: NDArray[Any], value: float
) -> Marks:
    import numpy as np

    random = np.random.default_rng(exam.seed)
    row, place = _choose(random, sizes)
    changed, futures = rows[row], _load(exam.training, exam.row_tokens)
    for i, t in enumerate(place):
        changed[i, t + 1 :] = futures[random.integers(len(futures)), t + 1 :]
    again = _ask(channel, "nats", changed, np.zeros(0, np.int32), (len(changed), exam.row_tokens))
    before = np.arange(exam.row_tokens) < place[:, None]
    moved = np.abs(again - nats[row])[before] if again.size else np.full(1, np.inf)
    if not moved.max() <= PREFIX_TOLERANCE_NATS:
        count = int((~(moved <= PREFIX_TOLERANCE_NATS)).sum())
        fact = f"{count} of {moved.size} predictions change with the text after them, by {moved.max():.3f} nats at most"
        return Marks(value, rejected="look-ahead", detail=fact)
    logits = _ask(channel, "logits", changed, place.astype(np.int32), (len(changed), len(np.load(exam.token_bytes))))
    if logits.size == 0:
        return Marks(
            value, detail="the model gives no logits without targets: its word on its loss stands unchallenged"
        )
    return _compare(value, nats[row, place].astype(np.float64), _nats(logits, rows[row, place + 1]))


def _choose(random: np.random.Generator, sizes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and positions whose target counts; the last position has no future to replace."""
    import numpy as np

    places = np.argwhere(sizes[:, :-1] > 0)
    chosen = places[random.choice(len(places), size=min(CHALLENGES, len(places)), replace=False)]
    return chosen[:, 0], chosen[:, 1]


def _compare(value: float, committed: NDArray[np.float64], own: NDArray[np.float64]) -> Marks:
    """Marks from the nats of each challenged place: as committed, and by the model's own logits."""
    import numpy as np

    if not np.isfinite(own).all():
        return Marks(value, rejected="loss", detail="the model's logits are not finite where its loss is")
    difference = committed - own
    allowed = LOSS_TOLERANCE_NATS + LOSS_STANDARD_ERRORS * difference.std() / math.sqrt(len(difference))
    if abs(difference.mean()) > allowed:
        fact = f"the loss it reported is {difference.mean():+.4f} nats off its own logits on average"
        return Marks(value, rejected="loss", detail=f"{fact}, where {allowed:.4f} is rounding")
    return Marks(value, "challenged")


def _ask(
    channel: Channel, what: str, rows: NDArray[Any], places: NDArray[Any], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """float32 of `shape` for uint16 `rows`; an empty array when the model cannot answer."""
    import numpy as np

    header = {"ask": what, "rows": len(rows), "places": places.tolist()}
    channel.send(header, np.ascontiguousarray(rows).tobytes())
    answer, payload = channel.receive(most_bytes=4 * shape[0] * shape[1])
    if "error" in answer:
        return np.zeros(0, np.float32)
    if len(payload) != 4 * shape[0] * shape[1]:
        raise Broken(f"the run answered {len(payload)} bytes to {what}")
    return np.frombuffer(payload, np.float32).reshape(shape)


def _nats(logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """-log softmax(logits)[target] of each row, in float64."""
    import numpy as np

    logits = logits.astype(np.float64)
    peak = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
    return np.asarray(total - logits[np.arange(len(logits)), targets], dtype=np.float64)


def _load(path: Path, row_tokens: int) -> NDArray[np.uint16]:
    import numpy as np

    return np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, row_tokens + 1)


# ------------------------------------------------------------------------------------------------------------ setting


def set_exam(data: Path, seed: int) -> Exam | None:
    """The exam of a lab whose prepare.py packed validation rows; None where it did not."""
    try:
        made_of = json.loads((data / "prepared.json").read_text())["of"]
        tokens = int(made_of["T"])
        rows = int(made_of["eval"]) // tokens
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    names = (data / f"val_{tokens}.u16", data / f"train_{tokens}.u16", data / "token_bytes.npy")
    return Exam(*names, row_tokens=tokens, rows=rows, seed=seed) if all(path.exists() for path in names) else None


def show_training_data(data: Path, target: Path) -> None:
    """Links a lab's data into a run's folder without the validation rows and text.

    The validation shard's name is there and empty, so that the last shard by name stays the one not trained on.
    """
    (target / "shards").mkdir(parents=True)
    for path in data.iterdir():
        if path.is_file() and not path.name.startswith("val_"):
            (target / path.name).symlink_to(path)
    shards = sorted((data / "shards").glob("shard_*.parquet"))
    for path in shards[:-1]:
        (target / "shards" / path.name).symlink_to(path)
    for path in shards[-1:]:
        (target / "shards" / path.name).touch()
