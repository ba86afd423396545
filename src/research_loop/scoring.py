"""The harness side of the score: what a finished run's words and end come to.

A run's summary is a block of `key: value` lines after `---`. Its metric counts when it stands there exactly
once and is a finite number; comparisons are never written so that a NaN could pass them.
"""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from research_loop.plain import plain
from research_loop.records import Result, Score
from research_loop.tasks import Marks

SUMMARY_KEYS = (
    "val_bpb",
    "training_seconds",
    "total_seconds",
    "peak_vram_mb",
    "mfu_percent",
    "total_tokens_M",
    "num_steps",
    "num_params_M",
    "depth",
)

DIVERGED_LOSS = 100.0
"""A training loss above this many nats is no longer training; karpathy/autoresearch stops there too."""

MOST_SAID = 200
"""Characters of a run's own words in a detail."""

_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE)
_OOM = re.compile(
    r"out of memory|OutOfMemoryError|\bMemoryError\b|CUBLAS_STATUS_ALLOC_FAILED"
    r"|can(?:'t|not) allocate memory|bad_alloc",
    re.IGNORECASE,
)
_NAN = re.compile(r"^\s*FAIL\b|\bFAIL\s*$|(?i:\bloss\b[^|]{0,20}\b(?:nan|inf)\b|\b(?:nan|inf)\b[^|]{0,20}\bloss\b)")
_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a summary gives no score: `reason` is `nan` or `no-score`, `detail` a sentence."""

    reason: Literal["nan", "no-score"]
    detail: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run's processes ended. `code` is the exit code, or minus the signal's number.

    `cause`: it ended by itself; at the hard limit; when it had taken most of the machine's memory; when it could not
    win any more; when its loss stayed NaN or infinite; the harness stopped it; its keeper was killed; or it never
    started, with `error` as the reason.
    """

    cause: Literal["end", "limit", "memory", "curve", "nan", "stop", "lost", "unstarted"]
    code: int | None = None
    error: str = ""


def metric_line(metric: str) -> re.Pattern[str]:
    """A line that states the metric; its group is the value as written."""
    return re.compile(rf"{re.escape(metric)}:\s+(\S+)\s*")


def read_summary(lines: Iterable[str], metric: str, *more: str) -> dict[str, float]:
    """Finite numbers of the summary: SUMMARY_KEYS, the metric and `more` keys; the last line of a key counts."""
    keys = {*SUMMARY_KEYS, metric, *more}
    found: dict[str, float] = {}
    for line in lines:
        key, colon, text = line.partition(":")
        value = _number(text.strip()) if colon and key in keys else None
        if value is not None and math.isfinite(value):
            found[key] = value
    return found


def score(lines: Iterable[str], metric: str) -> Score | Rejection:
    """The run's own word on its metric, or why it does not count."""
    pattern = metric_line(metric)
    stated = [match[1] for line in lines if (match := pattern.fullmatch(line))]
    if len(stated) != 1:
        fact = f"prints '{metric}:' more than once" if stated else f"ended without a line '{metric}: VALUE'"
        return Rejection("no-score", f"the run {fact}")
    value = _number(stated[0])
    if value is None:
        return Rejection("no-score", f"{metric} is not a number: {said(stated[0], 40)}")
    if not math.isfinite(value):
        return Rejection("nan", f"{metric} is {value}")
    if metric == "val_bpb" and value <= 0:
        return Rejection("no-score", f"val_bpb is {value}: no model reaches that")
    return Score(value)


def steps_per_second(summary: Mapping[str, float]) -> float | None:
    """How fast it trained, by its own word; None where it does not say."""
    steps, seconds = summary.get("num_steps"), summary.get("training_seconds")
    return steps / seconds if steps and seconds and steps > 0 and seconds > 0 else None


def conclude(
    ending: Ending,
    summary: Sequence[str],
    tail: Sequence[str],
    metric: str,
    last_loss: float | None = None,
    near_memory_limit: bool = False,
    marks: Marks | None = None,
) -> Result:
    """Outcome, reason, detail, score and exit code of a run; what was measured is for the runner to add.

    `summary` holds its lines with a known key, `tail` its last useful lines, `last_loss` the newest training
    loss in nats, `marks` what came of the harness's exam. `near_memory_limit` tells a SIGKILL by the kernel for want
    of memory from any other.
    """
    if ending.cause == "stop":
        return Result("stopped", detail="stopped by the user", exit_code=ending.code)
    if ending.cause == "curve":
        return Result(
            "cut", "curve", "its loss was too far above the champion's to end below it", exit_code=ending.code
        )
    if ending.cause == "end" and ending.code == 0:
        if marks is not None and marks.rejected:
            return Result("rejected", f"rejected:{marks.rejected}", marks.detail, exit_code=0)
        if marks is not None and marks.value is not None:
            believed = Score(marks.value, marks.verified, marks.exact)
            return Result("scored", detail=marks.detail, score=believed, exit_code=0)
        verdict = score(summary, metric)
        if isinstance(verdict, Score):
            return Result("scored", detail=marks.detail if marks else "", score=verdict, exit_code=0)
        in_exam = f"; in its exam {marks.detail}" if marks and marks.detail else ""
        return Result("crash", verdict.reason, verdict.detail + in_exam, exit_code=0)
    reason, detail = _why(ending, tail, last_loss, near_memory_limit)
    if marks is not None and marks.ready_seconds is not None and marks.detail:
        detail = f"{detail}; in its exam {marks.detail}"
    return Result("crash", reason, detail, exit_code=ending.code)


def _why(ending: Ending, tail: Sequence[str], last_loss: float | None, near_memory_limit: bool) -> tuple[str, str]:
    """Reason and detail of a run that did not end well, the most telling first."""
    if ending.cause == "unstarted":
        return "exit", f"could not start {ending.error}"
    if ending.cause == "limit":
        return "timeout", "still running at its hard limit, so it was killed"
    if ending.cause == "memory":
        return "oom", "ended before it had taken all of the machine's memory"
    if ending.cause == "nan":
        return "nan", "its training loss stayed NaN or infinite, so it was ended"
    if ending.cause == "lost":
        return "signal", "its keeper process was killed from outside, so the run was ended with it"
    if line := _last(_OOM, tail):
        return "oom", said(line)
    name = _signal_name(ending.code)
    if name == "SIGKILL" and near_memory_limit:
        return "oom", "killed by SIGKILL while it held most of the memory: the kernel ran out"
    if line := _last(_NAN, tail):
        return "nan", said(line)
    if last_loss is not None and not (math.isfinite(last_loss) and last_loss <= DIVERGED_LOSS):
        return "nan", f"its last training loss was {last_loss:g}"
    telling = _telling_line(tail)
    if name:
        return "signal", f"killed by {name}" + (f"; {said(telling)}" if telling else "")
    return "exit", f"exit code {ending.code}" + (f"; {said(telling)}" if telling else ", and it printed nothing")


def said(line: str, most: int = MOST_SAID) -> str:
    """A run's own words, marked as such: whoever reads a detail must not take them for the harness's."""
    words = plain(line).replace('"', "'")
    return f'the run said "{words[:most]}{"..." if len(words) > most else ""}"'


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _last(pattern: re.Pattern[str], lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if pattern.search(line)), "")


def _telling_line(tail: Sequence[str]) -> str:
    """The exception of the last Python traceback; without one, the last line that names an error or is there at all."""
    starts = [at for at, line in enumerate(tail) if _TRACEBACK in line]
    after = tail[starts[-1] + 1 :] if starts else ()
    exception = next((line for line in after if line[:1].strip() not in ("", "|", "+")), "")
    named = next((line for line in reversed(tail) if _EXCEPTION.match(line)), "")
    return exception or named or (tail[-1].strip() if tail else "")


def _signal_name(code: int | None) -> str:
    """Name of the signal that ended a run; a shell or sandbox in between gives 128 + its number as exit code."""
    number = 0 if code is None else -code if code < 0 else code - 128
    return signal.Signals(number).name if number in {int(known) for known in signal.Signals} else ""
