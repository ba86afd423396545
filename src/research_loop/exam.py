"""The harness's end of the score: it holds the validation rows, asks, and does the arithmetic.

A run that trained answers over a socket (its standard input; the other end is `answer_harness` in the lab's
prepare.py). First it commits: the nats of every position of the scored rows, by its own fast path. Only then does
the harness choose rows and places, and replaces all text after each place by other text. Asked again, the fast path
must give the same nats up to the place; and full logits there, from a call without targets, must give the nats that
were committed. Log-softmax, byte counts and the comparisons are done here. A model that looked ahead, used the targets
or does not sum to one answers differently; one without logits is unverified.

A score that would be kept gets a second look: the same with many more places, and prefixes of rows that were never
sent, one place a row and round, so that a model that remembers rows has nothing to remember. docs/trust.md tells what
each catches. The procedure follows the project's own study of public cheats (karpathy/nanochat#844 and others).
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research_loop.channel import Broken, Channel
from research_loop.tasks import Exam, Marks, Rival

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from research_loop.challenge import Look

ROWS_A_MESSAGE = 64
"""Of logits: 40 places of 8192 float32 each are 84 MB, and twice that while their softmax is taken."""

NO_LOGITS = "the model gives no logits without targets: its word on its loss stands unchallenged"


class Examiner:
    """Examines one run in a thread of its own, while the harness goes on reading what the run prints."""

    def __init__(self, exam: Exam, limit_seconds: float) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._marks: list[Marks] = []
        self.committed = threading.Event()
        arguments = (exam, time.monotonic(), limit_seconds)
        self._thread = threading.Thread(target=self._examine, args=arguments, daemon=True)
        self._thread.start()

    def _examine(self, exam: Exam, spawned: float, timeout_seconds: float) -> None:
        try:
            marks = examine(self._ours, exam, spawned, timeout_seconds, self.committed.set)
        except (OSError, ValueError, KeyError) as error:
            marks = Marks(detail=f"the harness could not read what it scores with ({error}): `research-loop prepare`")
        except Exception as error:  # of whatever kind: nobody would see a thread end, and the run waits for more
            marks = Marks(detail=f"the harness could not finish the exam ({error!r}), so nothing of it counts")
        self._marks.append(marks)
        with contextlib.suppress(OSError):  # it has hung up itself
            self._ours.shutdown(socket.SHUT_RDWR)

    def marks(self) -> Marks:
        """After the run's end: its half of the socket is closed then, which ends an exam that was not finished."""
        self.theirs.close()
        self._thread.join(timeout=30)
        self._ours.close()
        return self._marks[0] if self._marks else Marks(detail="the exam was not finished when the run ended")


def examine(
    end: socket.socket,
    exam: Exam,
    spawned: float,
    timeout_seconds: float,
    on_commit: Callable[[], None] = lambda: None,
) -> Marks:
    """Wait until the run is ready, and score it; blocking. `spawned` is on time.monotonic's clock, the timeout is of
    one answer; `on_commit` is called when the score can no longer change.

    Never raises for what the run does: a broken answer is marks without a value.
    """
    channel = Channel(end, timeout_seconds)
    ready = None
    try:
        channel.receive()
        ready = time.monotonic()
        examination = Examination(channel, exam)
        examination.commit()
        committed = time.monotonic()
        on_commit()
        marks = examination.marks()
        channel.send({"score": marks.value})
    except Broken as error:
        return Marks(detail=str(error), ready_seconds=None if ready is None else ready - spawned)
    seconds = ready - spawned, committed - spawned, time.monotonic() - ready
    return replace(marks, ready_seconds=seconds[0], committed_seconds=seconds[1], exam_seconds=seconds[2])


class Examination:
    """One run that is ready, and what it is asked."""

    def __init__(self, channel: Channel, exam: Exam) -> None:
        import numpy as np

        self.channel, self.exam = channel, exam
        self.random = np.random.default_rng(exam.seed)
        self.rows = _load(exam.validation, exam.row_tokens)
        self.futures = _load(exam.training, exam.row_tokens)
        self.scored = np.asarray(self.rows[slice(*exam.scored)], dtype=np.uint16)
        self.inputs, self.targets = self.scored[:, :-1], self.scored[:, 1:]
        self.sizes = np.load(exam.token_bytes)
        self.nats = np.zeros(0, np.float32)

    def commit(self) -> None:
        """Has the model say its nats of every scored position. Raises Broken when it cannot."""
        self.nats = self._ask_nats(self.inputs, self.targets)
        if self.nats.size == 0:
            raise Broken("the model could not give its loss on validation text; the log says why")

    def marks(self) -> Marks:
        """The score, and what came of the looks at it."""
        from research_loop import challenge

        check, fact = challenge.impossible(self.nats)
        if check:
            return Marks(rejected=check, detail=fact)
        marks = Marks(*self._scores())
        found = self._look(challenge.first_look())
        if found or marks.value is None or marks.value > self.exam.look_below:
            return replace(marks, **(found or {"verified": "challenged"}))
        return replace(marks, **self._second_look(marks))

    def _scores(self) -> tuple[float, float]:
        """Bits per byte: by the table of byte counts, and by the true bytes of each token."""
        import numpy as np

        table = self.sizes[self.targets]
        true = _true_bytes(self.exam.tokenizer, len(self.sizes))[self.targets]
        bits = float((self.nats * (table > 0)).sum(dtype=np.float64)) / math.log(2)
        return bits / float(table.sum(dtype=np.int64)), bits / float(true.sum(dtype=np.int64))

    def _second_look(self, marks: Marks) -> dict[str, Any]:
        """What to write into the marks; where too few rows are held back, a score stays challenged."""
        from research_loop import challenge

        if found := self._look(challenge.second_look(len(self.inputs))):
            return found
        if self.exam.held[1] - self.exam.held[0] < challenge.FEWEST_HELD_ROWS:
            return {"verified": "challenged"}
        held = self._held(challenge.HELD_PLACES)
        if held.size == 0:
            return {"detail": NO_LOGITS}
        for other in (self.exam.rival or Rival(math.inf), *([self.exam.baseline] if self.exam.baseline else [])):
            theirs, value = _unpacked(other.held_nats, held.shape), other.held_value
            scored = self._mean_nats(other.value if value is None else value)
            fact = challenge.remembers(held, self._mean_nats(marks.value), theirs, scored)
            if fact:
                return {"rejected": "memory", "detail": fact}
        return {"verified": "confirmed", "held_nats": held.astype("<f4").tobytes()}

    def _mean_nats(self, value: float | None) -> float:
        return _nats_a_token(math.inf if value is None else value, self.sizes[self.targets])

    # --------------------------------------------------------------------------------------------------- one look

    def _look(self, look: Look) -> dict[str, Any]:
        """What to write into the marks of a model that does not bear it; nothing when it does."""
        import numpy as np

        from research_loop import challenge

        row, place = challenge.choose(self.random, len(self.inputs), self.exam.row_tokens, look.changed_rows)
        changed, targets = challenge.with_other_future(self.random, self.scored[row], place, self.futures)
        again, guessed = self._ask_again(changed, targets, look.random_rows)
        if again.size == 0:
            raise Broken("the model could not give its loss on validation text a second time; the log says why")
        if fact := challenge.looks_ahead(self.nats[row], again, place):
            return {"rejected": "look-ahead", "detail": fact}
        row, place, changed = row[: look.logit_rows], place[: look.logit_rows], changed[: look.logit_rows]
        places = challenge.places_before(self.random, place, look.logit_places)
        own = self._own_nats(changed, places, np.take_along_axis(self.targets[row], places, axis=1))
        if own.size and (fact := challenge.misreports(np.take_along_axis(self.nats[row], places, axis=1), own)):
            return {"rejected": "loss", "detail": fact}
        if fact := challenge.foresees(guessed, len(self.sizes)):
            return {"rejected": "look-ahead", "detail": fact}
        return {} if own.size else {"detail": NO_LOGITS}

    def _ask_again(
        self, changed: NDArray[np.uint16], given: NDArray[np.uint16], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Nats [n, T] of changed inputs and the targets given, and [count, T] of random rows among them."""
        import numpy as np

        from research_loop import challenge

        starts = self.inputs[self.random.integers(len(self.inputs), size=count), 0]
        inputs, targets = challenge.random_rows(self.random, starts, self.exam.row_tokens, len(self.sizes))
        mixed = self.random.permutation(len(changed) + count)
        asked = np.concatenate([changed, inputs])[mixed], np.concatenate([given, targets])[mixed]
        answer = self._ask_nats(*asked)
        if answer.size == 0:
            return answer, answer
        back = np.argsort(mixed)
        return answer[back[: len(changed)]], answer[back[len(changed) :]]

    def _held(self, count: int) -> NDArray[np.float64]:
        """[rows, rounds] nats on prefixes of held rows, about `count` of them, the same ones for every run of a lab.

        One place a row in each round, further on in each: when it is asked for, its target was never sent.
        """
        import numpy as np

        from research_loop import challenge

        rows = np.asarray(self.rows[slice(*self.exam.held)], dtype=np.uint16)
        random = np.random.default_rng(self.exam.held_seed)
        few, rounds = held_shape(self.exam, count)
        drawn = [np.sort(random.choice(self.exam.row_tokens - 1, rounds, replace=False)) for _ in range(few)]
        answers = []
        for place in np.array(drawn).T:
            shown, _ = challenge.with_other_future(self.random, rows[: len(place)], place, self.futures)
            wanted = rows[np.arange(len(place)), place + 1][:, None]
            answers.append(self._own_nats(shown, place[:, None], wanted))
            if answers[-1].size == 0:
                return answers[-1]
        return np.concatenate(answers, axis=1)

    # ------------------------------------------------------------------------------------------------------ asking

    def _own_nats(
        self, inputs: NDArray[np.uint16], places: NDArray[Any], targets: NDArray[np.uint16]
    ) -> NDArray[np.float64]:
        """[n, k]: by the model's logits, a few rows at a time, in random order; empty when it gives none."""
        import numpy as np

        from research_loop import challenge

        vocabulary = len(self.sizes)
        nats = np.zeros(places.shape)
        for some in np.array_split(self.random.permutation(len(inputs)), math.ceil(len(inputs) / ROWS_A_MESSAGE)):
            header = {"ask": "logits", "rows": len(some), "places": places[some].tolist(), "vocabulary": vocabulary}
            logits = self._ask(header, inputs[some].tobytes(), (*places[some].shape, vocabulary))
            if logits.size == 0:
                return np.zeros(0)
            nats[some] = challenge.nats_of(logits, targets[some])
        return nats

    def _ask_nats(self, inputs: NDArray[np.uint16], targets: NDArray[np.uint16]) -> NDArray[np.float32]:
        """[n, T] by the model's own fast path; empty when it gives none."""
        header = {"ask": "nats", "rows": len(inputs)}
        return self._ask(header, inputs.tobytes() + targets.tobytes(), inputs.shape)

    def _ask(self, header: dict[str, Any], payload: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
        import numpy as np

        self.channel.send(header, payload)
        wanted = 4 * math.prod(shape)
        answer, data = self.channel.receive(most_bytes=wanted)
        if "error" in answer:
            return np.zeros(0, np.float32)
        if len(data) != wanted:
            raise Broken(f"the run answered {len(data)} bytes to {header['ask']}")
        return np.frombuffer(data, np.float32).reshape(shape)


def held_shape(exam: Exam, count: int) -> tuple[int, int]:
    """Rows and rounds of about `count` prefixes of held rows."""
    rows = exam.held[1] - exam.held[0]
    return min(rows, count), min(exam.row_tokens - 1, math.ceil(count / rows))


def mean_nats(exam: Exam, value: float) -> float:
    """Nats of a token that counts, from bits per byte of the scored rows, which are the same for all."""
    import numpy as np

    targets = _load(exam.validation, exam.row_tokens)[slice(*exam.scored), 1:]
    return _nats_a_token(value, np.load(exam.token_bytes)[targets])


def _nats_a_token(value: float, sizes: NDArray[Any]) -> float:
    """From bits per byte, where `sizes` are the bytes of each token."""
    return value * math.log(2) * float(sizes.sum()) / float((sizes > 0).sum())


def _load(path: Path, row_tokens: int) -> NDArray[np.uint16]:
    import numpy as np

    return np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, row_tokens + 1)


def _unpacked(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """float32 of `shape`; None where the bytes are not that many."""
    import numpy as np

    return np.frombuffer(data, "<f4").reshape(shape) if len(data) == 4 * math.prod(shape) else None


def _true_bytes(tokenizer: Path, vocabulary: int) -> NDArray[np.int64]:
    """[vocab]: bytes of each token as they are, also where they are part of a character; 0 for specials."""
    import numpy as np

    sizes = [len(base64.b64decode(token)) for token in json.loads(tokenizer.read_text())["tokens"]]
    return np.array([*sizes, *[0] * (vocabulary - len(sizes))], dtype=np.int64)


# ------------------------------------------------------------------------------------------------------------ setting


def set_exam(
    data: Path,
    seed: int,
    held_seed: int = 0,
    rival: Rival | None = None,
    baseline: Rival | None = None,
    *,
    audit: bool = False,
) -> Exam | None:
    """The exam of a lab whose prepare.py packed validation rows; None where it did not.

    An `audit` is scored on rows that nothing else is.
    """
    names = ("audit" if audit else "score", "confirm")
    try:
        report = json.loads((data / "prepared.json").read_text())
        tokens = int(report["of"]["T"])
        scored, held = ((int(first), int(end)) for first, end in map(report["cuts"].get, names))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    rows = (data / f"val_{tokens}.u16", data / f"train_{tokens}.u16")
    tables = (data / "token_bytes.npy", data / "tokenizer.json")
    there = scored[0] < scored[1] and all(path.exists() for path in (*rows, *tables))
    return Exam(*rows, *tables, tokens, scored, held, seed, held_seed, rival, baseline) if there else None


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
