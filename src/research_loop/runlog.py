"""What a run prints: kept in a capped file, and read as it passes by for progress, summary and last lines.

A run may print anything at any rate: a gigabyte, one line without end, bytes that are no UTF-8. Reading is
exact while output is of a size that somebody could read; once the file's first part is full and big chunks
come, only their ends are looked at, and every place where the metric's name stands.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from research_loop.plain import plain
from research_loop.records import Point
from research_loop.scoring import SUMMARY_KEYS, metric_line

HEAD_BYTES = TAIL_BYTES = 512 * 1024
LINE_BYTES = 4_000
BULK_BYTES = 32 * 1024
REFRESH_SECONDS = 1.0
CURVE_POINTS = 200
TAIL_LINES, TAIL_CHARACTERS = 40, 300

_STEP = re.compile(rb"\s*step\s+(\d+)\s*\(\s*(\d+(?:\.\d+)?)\s*%\)\s*\|\s*loss:\s*([-+.\w]+)\s*(?:\||$)")
_EPOCH = re.compile(rb"\|\s*epoch:\s*(\d{1,9})\b")
_LONG_LINE = re.compile(rb"([^\n]{%d})[^\n]+" % LINE_BYTES)


class CappedFile:
    """A log file of about a megabyte at most: the first and last 512 KB, and a line that says what lies between.

    The first part is written as it comes, the last part again every second. A disk that is full ends the
    writing, and `trouble` says so; nothing is raised.
    """

    def __init__(self, path: Path) -> None:
        self.trouble = ""
        self.head_is_full = False
        self._head = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped = 0
        self._dirty = False
        self._refreshed = -math.inf
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            self.trouble = f"the log could not be opened: {error.strerror}"

    def write(self, data: bytes) -> None:
        """Add whole lines."""
        if not self.head_is_full:
            data = self._write_head(_valid(data))
        if data:
            self._keep_tail(data)

    def refresh(self, now: float) -> None:
        """Bring the last part to the disk when a second has passed since the last time; `now` in seconds."""
        if self._dirty and now - self._refreshed >= REFRESH_SECONDS:
            self._write_tail()
            self._refreshed = now

    def close(self) -> None:
        if self._dirty:
            self._write_tail()
        if self.trouble:
            return
        try:
            self._file.close()
        except OSError as error:  # a network disk may say only now that it is full
            self.trouble = f"the log stopped: {error.strerror}"

    def _write_head(self, data: bytes) -> bytes:
        """Write what has room; the rest is returned."""
        room = HEAD_BYTES - self._head
        cut = len(data) if len(data) <= room else data.rfind(b"\n", 0, room) + 1
        self.head_is_full = cut < len(data)
        self._head += cut
        self._put(data[:cut])
        return data[cut:]

    def _keep_tail(self, data: bytes) -> None:
        self._tail.append(data)
        self._tail_bytes += len(data)
        self._dirty = True
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES:
            gone = len(self._tail.popleft())
            self._tail_bytes -= gone
            self._dropped += gone

    def _write_tail(self) -> None:
        joined = b"".join(self._tail)
        text = _LONG_LINE.sub(rb"\1", _valid(joined).replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        over = len(text) - TAIL_BYTES
        start = text.find(b"\n", over) + 1 if over > 0 else 0
        left_out = self._dropped + max(0, len(joined) - (len(text) - start))
        note = b"[... %d bytes left out ...]\n" % left_out if left_out else b""
        self._put(note + text[start:], at=self._head)
        self._dirty = False

    def _put(self, data: bytes, at: int | None = None) -> None:
        """Write all of it, or note the trouble; with `at`, the file ends behind it."""
        if self.trouble:
            return
        try:
            if at is not None:
                self._file.seek(at)
            rest = memoryview(data)
            while rest:  # a nearly full disk takes a part of it without an error
                rest = rest[self._file.write(rest) or 0 :]
            if at is not None:
                self._file.truncate()
        except OSError as error:
            self.trouble = f"the log stopped: {error.strerror}"
            self._file.close()


class Curve:
    """At most 200 points spread over a run of any length: when it is full, every second one goes."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._last: Point | None = None
        self._stride = 1
        self._seen = 0

    def add(self, point: Point) -> None:
        self._last = point
        if self._seen % self._stride == 0:
            self._points.append(point)
        self._seen += 1
        if len(self._points) == CURVE_POINTS:
            del self._points[1::2]
            self._stride *= 2

    def points(self) -> tuple[Point, ...]:
        """The points kept and the newest."""
        if self._last is None or self._points[-1] is self._last:
            return tuple(self._points)
        return (*self._points, self._last)


class RunLog:
    """Reads the output of one run, chunk by chunk. All times are seconds since the run was spawned.

    A line ended by a carriage return is a progress line that is about to be overwritten: it is kept when it
    was the last of its kind, and once a second. `summary` collects the lines that decide the score: the
    first two of the metric (a second one settles it) and the newest of every other key.
    """

    def __init__(self, path: Path, metric: str, *more_keys: str) -> None:
        self.startup_seconds: float | None = None
        self.share: float | None = None
        self.loss: float | None = None
        self.epoch = 1
        self.steps_lost, self.lost_at = 0, 0.0  # in a row, up to now, whose loss was not finite, and since when
        self.news = 0  # counts lines, so that a caller sees whether there is anything new
        self._file = CappedFile(path)
        self._curve = Curve()
        self._rest = b""
        self._held = b""
        self._kept_at = -math.inf
        self._step = b""
        self._last: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._last_is_progress = False
        self._metric = metric.encode()
        self._metric_line = metric_line(metric)
        self._metric_lines: list[str] = []
        self._was_near_metric = False
        self._keys = {key.encode() for key in (*SUMMARY_KEYS, *more_keys)} - {self._metric}
        self._other_lines: dict[bytes, str] = {}

    @property
    def trouble(self) -> str:
        """Why the log file is not whole, or ""."""
        return self._file.trouble

    @property
    def curve(self) -> tuple[Point, ...]:
        return self._curve.points()

    @property
    def summary(self) -> list[str]:
        return [*self._metric_lines, *self._other_lines.values()]

    @property
    def line(self) -> str:
        """The newest useful line, for people."""
        return _plain(self._last[-1]) if self._last else ""

    def tail(self) -> list[str]:
        """The last useful lines: at most 40 of 300 characters, without control characters."""
        return [text for line in self._last if (text := _plain(line))]

    def feed(self, data: bytes, now: float) -> None:
        """Take what one read gave."""
        whole, self._rest = _cut(self._rest + data)
        if len(whole) > BULK_BYTES and whole.count(b"\r") > 2 * whole.count(b"\n"):
            whole = _without_overwritten(whole)
        if len(whole) > BULK_BYTES and self._file.head_is_full and not self._near_metric(whole):
            self._take_bulk(whole, now)
        elif whole:
            self._take_lines(whole, now)
        if self._rest.count(b"|") > 1:  # a progress line is whole before the next one's carriage return ends it
            self._read_progress(self._rest, now)
        self._file.refresh(now)

    def tick(self, now: float) -> None:
        """Call about once a second: brings what is pending to the disk."""
        self._file.refresh(now)

    def finish(self, now: float) -> None:
        """The run is over: take what had no line end, and close the file."""
        rest, self._rest = self._rest, b""
        if rest:
            self._take_lines(rest.rstrip(b"\r") + b"\n", now)
        self._file.close()

    def _near_metric(self, whole: bytes) -> bool:
        """Whether to read closely: the metric's line is in this chunk, or was in the one before (its block goes on)."""
        key = self._metric + b":"
        stated = whole.startswith(key) or b"\n" + key in whole or b"\r" + key in whole
        near = stated and len(self._metric_lines) < 2
        before, self._was_near_metric = self._was_near_metric, near
        return near or before

    def _take_bulk(self, whole: bytes, now: float) -> None:
        """Keep a big chunk as it is and read its last lines only."""
        self._file.write(whole)
        end = whole[-TAIL_LINES * TAIL_CHARACTERS :]
        for line in end.splitlines()[-TAIL_LINES:]:
            self._read(line[:LINE_BYTES], False, now)

    def _take_lines(self, whole: bytes, now: float) -> None:
        kept: list[bytes] = []
        for line in whole.splitlines(keepends=True):
            overwritten = line.endswith(b"\r")
            text = line.rstrip(b"\r\n")[:LINE_BYTES]
            progress = self._read(text, overwritten, now)
            if overwritten:
                kept.extend(self._hold(text, now))
                continue
            if self._held and not progress:
                kept.append(self._held)
            self._held = b""
            kept.append(text)
        if kept:
            self._file.write(b"\n".join(kept) + b"\n")

    def _hold(self, text: bytes, now: float) -> Iterable[bytes]:
        """Keep an overwritten line once a second; between, remember the newest."""
        if not text.strip():
            return ()
        if now - self._kept_at < REFRESH_SECONDS:
            self._held = text
            return ()
        self._held, self._kept_at = b"", now
        return (text,)

    def _read(self, text: bytes, overwritten: bool, now: float) -> bool:
        """Take progress, summary and last lines from one line; whether it is a progress line."""
        if not text.strip():
            return overwritten
        key, colon, _ = text.partition(b":")
        if colon:
            self._read_summary(key, text)
        progress = self._read_progress(text, now) or overwritten
        if progress and self._last_is_progress and self._last:
            self._last[-1] = text
        else:
            self._last.append(text)
        self._last_is_progress = progress
        self.news += 1
        return progress

    def _read_summary(self, key: bytes, text: bytes) -> None:
        if key == self._metric:
            line = text.decode("utf-8", "replace")
            if len(self._metric_lines) < 2 and self._metric_line.fullmatch(line):
                self._metric_lines.append(line)
        elif key in self._keys:
            self._other_lines[key] = text.decode("utf-8", "replace")

    def _read_progress(self, text: bytes, now: float) -> bool:
        match = _STEP.match(text) if b"step" in text[:40] else None
        loss = _as_float(match[3]) if match else None
        if match is None or loss is None:
            return False
        if match[1] == self._step:
            return True
        self._step, self.loss = match[1], loss
        self.epoch = int(found[1]) if (found := _EPOCH.search(text)) else self.epoch
        self.share = min(1.0, float(match[2]) / 100)
        self.startup_seconds = now if self.startup_seconds is None else self.startup_seconds
        self.news += 1
        if math.isfinite(loss):
            self.steps_lost = 0
            self._curve.add(Point(self.share, now, loss))
        else:
            self.lost_at = self.lost_at if self.steps_lost else now
            self.steps_lost += 1
        return True


def _cut(text: bytes) -> tuple[bytes, bytes]:
    """Whole lines and the rest, capped. A carriage return at the very end waits: a newline may follow it."""
    end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1
    rest = text[end:]
    if len(rest) > LINE_BYTES:
        rest = rest[:LINE_BYTES] + (b"\r" if rest.endswith(b"\r") else b"")
    return text[:end], rest


def _without_overwritten(whole: bytes) -> bytes:
    """A flood of carriage returns: of each line, what was overwritten last and what stood at its end."""
    lines = whole.replace(b"\r\n", b"\n").split(b"\n")
    return b"\n".join([line[line.rfind(b"\r", 0, max(0, line.rfind(b"\r"))) + 1 :] for line in lines])


def _valid(data: bytes) -> bytes:
    """The same as valid UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode()
    return data


def _as_float(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _plain(line: bytes) -> str:
    """One line for people and models: no escapes, control or invisible characters."""
    return plain(line.decode("utf-8", "replace"))[:TAIL_CHARACTERS].rstrip()
