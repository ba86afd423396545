"""The ledger: one SQLite file that holds every experiment. Everything else is a view of it.

Append-only: rows are inserted and never changed (triggers refuse it), one transaction each, WAL with
synchronous=FULL, so that what a caller was told is recorded survives kill -9 and power loss. One process writes (the
holder of the lab's lock); any number may read meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

from research_loop import drafts
from research_loop.drafts import Asked, Spent
from research_loop.errors import LedgerError
from research_loop.records import Audit, Draft, Experiment, History, Point, Result, Run, Score, Usage, Verdict

SCHEMA_VERSION = 7
ADDED = {
    3: [("results", "waited_share REAL"), ("results", "braked_share REAL")],
    4: [("experiments", "draft INTEGER REFERENCES drafts")],
    5: [("results", "machine TEXT"), ("audits", "machine TEXT")],
    6: [("results", "gpu TEXT")],
}
"""Columns that a format has more than the one before it, by the number of that."""
TABLES = {
    "meta": "key TEXT PRIMARY KEY, value TEXT NOT NULL",
    "experiments": """n INTEGER PRIMARY KEY, what TEXT NOT NULL, why TEXT NOT NULL, risk TEXT NOT NULL,
        proposer TEXT NOT NULL, parent INTEGER REFERENCES experiments, commit_id TEXT NOT NULL, code_key TEXT NOT NULL,
        created_at REAL NOT NULL, draft INTEGER REFERENCES drafts""",
    "drafts": """id INTEGER PRIMARY KEY, proposer TEXT NOT NULL, parent INTEGER NOT NULL REFERENCES experiments,
        started_at REAL NOT NULL, seconds REAL NOT NULL, tokens_in INTEGER, tokens_out INTEGER, usd REAL,
        cost TEXT NOT NULL, session TEXT NOT NULL, detail TEXT NOT NULL, proposal TEXT NOT NULL""",
    "begun": """id INTEGER PRIMARY KEY, proposer TEXT NOT NULL, parent INTEGER NOT NULL REFERENCES experiments,
        started_at REAL NOT NULL""",
    "runs": """n INTEGER NOT NULL REFERENCES experiments, k INTEGER NOT NULL, seed INTEGER NOT NULL,
        started_at REAL NOT NULL, keeper_pid INTEGER, keeper_create_time REAL, PRIMARY KEY (n, k)""",
    "results": """n INTEGER NOT NULL, k INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
        detail TEXT NOT NULL, score REAL, verified TEXT, exact REAL, exit_code INTEGER, seconds REAL NOT NULL,
        startup_seconds REAL, ready_seconds REAL, committed_seconds REAL, exam_seconds REAL, training_seconds REAL,
        steps_per_second REAL, peak_vram_mb REAL, peak_ram_mb REAL, hopeless_at REAL, summary TEXT NOT NULL,
        waited_share REAL, braked_share REAL, machine TEXT, gpu TEXT,
        PRIMARY KEY (n, k), FOREIGN KEY (n, k) REFERENCES runs (n, k)""",
    "traces": """n INTEGER NOT NULL, k INTEGER NOT NULL, curve TEXT NOT NULL, log_tail TEXT NOT NULL,
        held_nats BLOB NOT NULL,
        PRIMARY KEY (n, k), FOREIGN KEY (n, k) REFERENCES runs (n, k)""",
    "verdicts": """n INTEGER NOT NULL REFERENCES experiments, revision INTEGER NOT NULL, kind TEXT NOT NULL,
        reason TEXT NOT NULL, detail TEXT NOT NULL, decided_at REAL NOT NULL, PRIMARY KEY (n, revision)""",
    "audits": """id INTEGER PRIMARY KEY, n INTEGER NOT NULL REFERENCES experiments, seed INTEGER NOT NULL,
        started_at REAL NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, score REAL,
        verified TEXT, exact REAL, seconds REAL NOT NULL, machine TEXT""",
}
RESULT_COLUMNS = [
    *("outcome", "reason", "detail", "score", "verified", "exact", "exit_code", "seconds", "startup_seconds"),
    *("ready_seconds", "committed_seconds", "exam_seconds", "training_seconds", "steps_per_second", "peak_vram_mb"),
    *("peak_ram_mb", "hopeless_at", "waited_share", "braked_share", "machine", "gpu"),
]
"""Of a result in `history`; the run's summary, curve and log stay in the file."""
EXPERIMENT_FIELDS = ("n", "what", "why", "risk", "proposer", "parent", "commit", "key", "created_at", "draft")
"""In the order of the columns."""


class Ledger:
    """Open ledger; `history` is its replay, kept up to date by this object's own appends."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or, unless `read_only`, creates the file. Raises LedgerError when it cannot be used."""
        self.path = path
        with self._errors():
            if read_only:
                self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
            else:
                self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
                self._prepare()
            self._check_version()
            self._experiments = {e.n: e for e in self._replay()}

    @property
    def history(self) -> History:
        return History(tuple(self._experiments.values()))

    def experiment(self, n: int) -> Experiment:
        """Raises LedgerError when there is no experiment `n`."""
        if n not in self._experiments:
            last = max(self._experiments, default=None)
            known = "the ledger is empty" if last is None else f"the ledger has 0 to {last}"
            raise LedgerError(f"experiment {n}: there is none; {known}")
        return self._experiments[n]

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------------------------------------------------ append

    def propose(self, experiment: Experiment) -> Experiment:
        """Appends a new experiment under the next number, which it gets in place of its own."""
        row = replace(experiment, n=max(self._experiments, default=-1) + 1, runs=(), verdict=None)
        self._insert("experiments", tuple(getattr(row, name) for name in EXPERIMENT_FIELDS))
        return self._remember(row)

    def start_run(self, run: Run) -> Experiment:
        self._insert("runs", (run.n, run.k, run.seed, run.started_at, run.keeper_pid, run.keeper_create_time))
        experiment = self.experiment(run.n)
        return self._remember(replace(experiment, runs=(*experiment.runs, run)))

    def finish_run(self, n: int, k: int, result: Result) -> Experiment:
        """Appends the result of run `k`, its curve and the end of its log."""
        score = astuple(result.score) if result.score else (None, None, None)
        facts = [*(result.outcome, result.reason, result.detail), *score]
        facts += [getattr(result, name) for name in RESULT_COLUMNS[len(facts) :]]
        facts = [n, k, *facts, json.dumps(dict(result.summary))]
        curve = json.dumps([list(asdict(point).values()) for point in result.curve])
        with self._transaction():
            self._append("results", facts, ["n", "k", *RESULT_COLUMNS, "summary"])
            self._append("traces", (n, k, curve, result.log_tail, result.held_nats))
        first = result.curve[0].loss if result.curve else None
        light = replace(result, first_loss=first, curve=(), log_tail="", held_nats=b"", summary={})
        experiment = self.experiment(n)
        runs = tuple(replace(run, result=light) if run.k == k else run for run in experiment.runs)
        return self._remember(replace(experiment, runs=runs))

    def decide(self, n: int, verdict: Verdict) -> Experiment:
        """Appends its verdict; a second one is a LedgerError."""
        return self._decide(n, 0, verdict)

    def revise(self, n: int, verdict: Verdict) -> Experiment:
        """Appends another verdict, which counts from now on. The former ones stay in the file."""
        with self._errors():
            (revision,) = self._db.execute("SELECT count(*) FROM verdicts WHERE n = ?", (n,)).fetchone()
        return self._decide(n, revision, verdict)

    def _decide(self, n: int, revision: int, verdict: Verdict) -> Experiment:
        self._insert("verdicts", (n, revision, verdict.kind, verdict.reason, verdict.detail, verdict.decided_at))
        return self._remember(replace(self.experiment(n), verdict=verdict))

    def record_audit(self, audit: Audit) -> None:
        result = audit.result
        score = astuple(result.score) if result.score else (None, None, None)
        facts = (result.outcome, result.reason, result.detail, *score, result.seconds, result.machine)
        self._insert("audits", (None, audit.n, audit.seed, audit.started_at, *facts))

    def begin_draft(self, proposer: str, parent: int, started_at: float) -> int:
        """Appends that a draft is asked for, which may cost something from now on; its number."""
        with self._transaction():
            (last,) = self._db.execute(
                "SELECT max(id) FROM (SELECT id FROM begun UNION ALL SELECT id FROM drafts)"
            ).fetchone()
            self._append("begun", (number := (last or 0) + 1, proposer, parent, started_at))
        return number

    def record_draft(self, asked: Asked) -> Asked:
        """Appends what came of a draft, by its number."""
        draft, usage = asked.draft, asked.draft.usage
        facts = (asked.id, asked.proposer, asked.parent, asked.started_at, asked.seconds, *astuple(usage))
        self._insert("drafts", (*facts, draft.session, draft.detail, drafts.to_text(draft.proposal)))
        proposal = replace(draft.proposal, draft=asked.id) if draft.proposal else None
        return replace(asked, draft=replace(draft, proposal=proposal))

    def note(self, key: str, value: str) -> None:
        """Writes down a fact about the lab, once; a second value for a key is a LedgerError."""
        self._insert("meta", (key, value))

    def note_once(self, key: str, make: Callable[[], str]) -> str:
        """The fact under a key; made and written down where there is none yet."""
        if (known := self.noted(key)) is None:
            self.note(key, known := make())
        return known

    # -------------------------------------------------------------------------------------------------------- read

    def noted(self, key: str) -> str | None:
        with self._errors():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def trace(self, n: int, k: int) -> tuple[tuple[Point, ...], str]:
        """Curve and log tail of a finished run; kept out of `history`, which stays small for long ledgers."""
        with self._errors():
            row = self._db.execute("SELECT curve, log_tail FROM traces WHERE n = ? AND k = ?", (n, k)).fetchone()
        if row is None:
            return (), ""
        return tuple(Point(*point) for point in json.loads(row[0])), str(row[1])

    def summary(self, n: int, k: int) -> dict[str, float]:
        """What a finished run printed at its end, by key: its own word; empty when it printed none."""
        with self._errors():
            row = self._db.execute("SELECT summary FROM results WHERE n = ? AND k = ?", (n, k)).fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def audits(self) -> tuple[Audit, ...]:
        """All of them, the oldest first."""
        with self._errors():
            rows = self._db.execute("SELECT * FROM audits ORDER BY id").fetchall()
        return tuple(_audit(*row) for row in rows)

    def drafts(self, which: str = "TRUE", *values: object) -> tuple[Asked, ...]:
        """Those for which the SQL expression `which` holds, the oldest first."""
        with self._errors():
            rows = self._db.execute(f"SELECT * FROM drafts WHERE {which} ORDER BY id", values).fetchall()
        return tuple(_asked(*row) for row in rows)

    def draft(self, number: int | None) -> Asked | None:
        """The one with that number."""
        return next(iter(self.drafts("id = ?", number)), None)

    def waiting_drafts(self) -> tuple[Asked, ...]:
        """Those whose proposal was neither run nor given up (a note under drafts.GIVEN_UP says so)."""
        run = "SELECT draft FROM experiments WHERE draft IS NOT NULL"
        given_up = f"SELECT key FROM meta WHERE key = '{drafts.GIVEN_UP}' || id"
        return self.drafts(f"proposal <> '' AND id NOT IN ({run}) AND NOT EXISTS ({given_up})")

    def lost_drafts(self) -> tuple[Asked, ...]:
        """Those that were begun and of which nothing was recorded: the harness was killed."""
        with self._errors():
            rows = self._db.execute("SELECT * FROM begun WHERE id NOT IN (SELECT id FROM drafts)").fetchall()
        lost = Draft(None, "the harness ended while it was made")
        return tuple(Asked(proposer, parent, at, 0.0, lost, id) for id, proposer, parent, at in rows)

    def dearest_drafts(self) -> dict[str, float]:
        """In USD, by proposer; of those that ever said a cost."""
        with self._errors():
            rows = self._db.execute("SELECT proposer, max(usd) FROM drafts WHERE usd > 0 GROUP BY proposer").fetchall()
        return dict(rows)

    def spent(self) -> Spent:
        """Sums over all drafts."""
        tokens = "coalesce(sum(coalesce(tokens_in, 0) + coalesce(tokens_out, 0)), 0)"
        sums = f"count(*), coalesce(sum(proposal <> ''), 0), {tokens}, coalesce(sum(usd), 0.0)"
        doubts = "coalesce(sum(usd IS NULL), 0), coalesce(max(cost = 'estimated' AND usd > 0), 0)"
        with self._errors():
            row = self._db.execute(f"SELECT {sums}, {doubts} FROM drafts").fetchone()
        count, proposals, read_and_written, usd, unknown, estimated = row
        return Spent(count, proposals, read_and_written, usd, unknown, bool(estimated))

    def held_nats(self, n: int) -> tuple[float, bytes] | None:
        """Score and nats on the held rows, each the mean over the runs of `n` that were asked for them."""
        query = """SELECT score, held_nats FROM traces JOIN results USING (n, k)
            WHERE n = ? AND held_nats <> x'' AND score IS NOT NULL ORDER BY k"""
        with self._errors():
            rows = self._db.execute(query, (n,)).fetchall()
        if not rows:
            return None
        import numpy as np

        alike = [np.frombuffer(nats, "<f4") for _, nats in rows if len(nats) == len(rows[-1][1])]
        scores = [score for score, nats in rows if len(nats) == len(rows[-1][1])]
        return sum(scores) / len(scores), np.mean(alike, axis=0).astype("<f4").tobytes()

    # ---------------------------------------------------------------------------------------------------- internal

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version:
            self._bring_up_to_date(version)
            return
        with self._transaction():
            self._make_tables()
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _make_tables(self) -> None:
        for table, columns in TABLES.items():
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}) STRICT")
            for change in ("UPDATE", "DELETE"):
                self._db.execute(
                    f"CREATE TRIGGER IF NOT EXISTS no_{change.lower()}_{table} BEFORE {change} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                )

    def _bring_up_to_date(self, version: int) -> None:
        """Adds what a file of an older format lacks."""
        while version in ADDED:
            with self._transaction():
                self._make_tables()
                for table, column in ADDED[version]:
                    self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
                version += 1
                self._db.execute(f"PRAGMA user_version = {version}")

    def _check_version(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            cure = "`research-loop run` brings it up to date" if version in ADDED else "use that version, or a new lab"
            raise LedgerError(
                f"{self.path}: written by another version of research-loop (format {version}, this one reads "
                f"{SCHEMA_VERSION}): {cure}"
            )

    def _replay(self) -> Iterator[Experiment]:
        """Without the summaries: with the texts shared, an experiment is a third of what it would be."""
        began = {
            row[:2]: row[2]
            for row in self._select("traces", ["json_extract(iif(json_valid(curve), curve, '[]'), '$[0][2]')"])
        }
        results = {
            row[:2]: replace(_result(row[2:]), first_loss=began.get(row[:2]))
            for row in self._select("results", RESULT_COLUMNS)
        }
        runs: dict[int, list[Run]] = {}
        for row in self._select("runs", ["seed", "started_at", "keeper_pid", "keeper_create_time"]):
            runs.setdefault(row[0], []).append(replace(Run(*row), result=results.get(row[:2])))
        newest = self._db.execute("SELECT * FROM verdicts ORDER BY n, revision")
        verdicts = {n: Verdict(*_shared(rest)) for n, _, *rest in newest}
        for row in self._db.execute("SELECT * FROM experiments ORDER BY n"):
            *facts, draft = _shared(row)
            bare = Experiment(*facts)
            yield replace(bare, runs=tuple(runs.get(row[0], ())), verdict=verdicts.get(row[0]), draft=draft)

    def _select(self, table: str, columns: list[str]) -> Iterator[tuple[Any, ...]]:
        return iter(self._db.execute(f"SELECT n, k, {', '.join(columns)} FROM {table} ORDER BY n, k"))

    def _remember(self, experiment: Experiment) -> Experiment:
        self._experiments[experiment.n] = experiment
        return experiment

    def _insert(self, table: str, row: tuple[Any, ...]) -> None:
        with self._transaction():
            self._append(table, row)

    def _append(self, table: str, row: Sequence[Any], columns: Sequence[str] = ()) -> None:
        named = f"({', '.join(columns)})" if columns else ""
        self._db.execute(f"INSERT INTO {table} {named} VALUES ({', '.join('?' * len(row))})", row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raised = LedgerError(f"{self.path}: {error}: {_cure(str(error))}")
            raised.full = "disk is full" in str(error)
            raise raised from error


def _result(row: tuple[Any, ...]) -> Result:
    values = dict(zip(RESULT_COLUMNS, _shared(row), strict=True))
    value, *rest = (values.pop(name) for name in ("score", "verified", "exact"))
    return Result(**values, score=None if value is None else Score(value, *rest))


def _shared(values: Iterable[Any]) -> list[Any]:
    """Equal texts as one object: kinds, reasons and risks are few."""
    return [sys.intern(value) if isinstance(value, str) else value for value in values]


def _audit(_id: int, n: int, seed: int, started_at: float, *row: Any) -> Audit:
    outcome, reason, detail, value, verified, exact, seconds, machine = row
    score = None if value is None else Score(value, verified, exact)
    return Audit(n, seed, started_at, Result(outcome, reason, detail, score, seconds=seconds, machine=machine))


def _asked(id: int, proposer: str, parent: int, *row: Any) -> Asked:
    started_at, seconds, *usage, session, detail, text = row
    proposal = drafts.from_text(text, proposer, parent)
    proposal = replace(proposal, draft=id) if proposal else None
    return Asked(proposer, parent, started_at, seconds, Draft(proposal, detail, Usage(*usage), session), id)


def _cure(fact: str) -> str:
    if "full" in fact:
        return "free some space and start again; what was recorded is safe"
    if "locked" in fact:
        return "another program holds the file; end it and start again"
    if "unable to open" in fact:
        return "no ledger here yet, or no right to open it: `research-loop run` makes one"
    return "if the file is damaged, `sqlite3 ledger.sqlite .recover` gets its rows back"


def now() -> float:
    """Seconds since 1970, for the rows."""
    return time.time()


def is_decided(path: Path, n: int) -> bool:
    """Whether an experiment has a verdict: one look, without the replay that opening a Ledger is."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute("SELECT 1 FROM verdicts WHERE n = ? LIMIT 1", (n,)).fetchone() is not None
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}: {_cure(str(error))}") from error
