"""The cheat corpus, run for real: every file of it is a train.py that cheats, and here is what came of each.

A file of the corpus says what it expects: EXPECT = "rejected:look-ahead", or a tuple of what is allowed; RUNS = 2 where
a second run looks for what the first one left; GROW where it is to have a literal of so many random bytes. Each gets a
lab of its own, a copy of one that has a baseline, and goes through the same Session, runner and sandbox as any
proposal. What is expected must be what is seen; and afterwards the lab and the machine must be as the ledger says.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from research_loop import edits
from research_loop.aftermath import Seal, Witness, left_behind, prey
from research_loop.data import world
from research_loop.data.preparation import prepare_lab
from research_loop.errors import ConfigError, LabError, ProposalError, ResearchLoopError, SandboxError
from research_loop.files import remove_tree, write_whole
from research_loop.lab import CONFIG, Lab, Wish, make_gpt_lab, open_lab
from research_loop.loop import ensure_baseline
from research_loop.plain import plain
from research_loop.records import Experiment, Proposal
from research_loop.runners.local import LocalRunner
from research_loop.sandbox import choose
from research_loop.session import Session
from research_loop.views.tsv import ResultsFile

SHIPPED = Path(__file__).with_name("cheat_corpus")
CHECKOUT = Path(__file__).parents[2] / "tests" / "cheats"
SHARED = ("spy.py", "tiny.py")
"""Files of the corpus that are no cheats but locked files of its lab."""

DOCUMENTS, HELD_DOCUMENTS = 600, 300
ROW_TOKENS, EVAL_TOKENS = 128, 2**14
"""Short rows: an exam asks about a thousand or two of them, and takes most of a trial's time."""
LIMIT_SECONDS = 60
BASELINE = "import tiny\n\ntiny.finish(tiny.train(tiny.Model(), seconds=0.1))\n"
"""It hardly trains, so that nearly everything is better and gets the second look that a keep needs."""
HONEST = "import tiny\n\ntiny.main()\n"
HONEST_SHARE = 0.8
"""Of HONEST's bits per byte: no model of the corpus learns enough in a second to get below that."""
MOST_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Cheat:
    """One file of the corpus; its name is its path there without ".py"."""

    name: str
    code: bytes
    expected: tuple[str, ...]
    runs: int = 1

    @property
    def slow(self) -> bool:
        """Whether it has to last longer than a run may."""
        return bool({"overtime", "crash:timeout"} & set(self.expected))


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one cheat. `held`: one of the expected outcomes was seen, and nothing else was touched."""

    name: str
    expected: tuple[str, ...]
    seen: str
    seconds: float
    reason: str
    troubles: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        return self.seen in self.expected and not self.troubles

    @property
    def detail(self) -> str:
        return "; ".join([*self.troubles, *([self.reason] if self.reason else [])])


def check_up(sandbox: str, say: Callable[[str], None]) -> bool:
    """Runs the whole corpus in a temporary folder, a line a cheat, and says what did not hold; whether all did.

    Raises SandboxError, before anything is made, for a sandbox that does not work here, and for none at all.
    """
    if sandbox == "none":
        raise SandboxError("sandbox none: the cheats would do what they try: name another with --sandbox")
    folder = find_corpus()
    choose(sandbox)
    with tempfile.TemporaryDirectory(prefix="research-loop-") as place:
        trials = run_corpus(Path(place), read_corpus(folder), say, folder, sandbox)
    say(table(trials))
    return all(trial.held for trial in trials)


def find_corpus() -> Path:
    """Where the corpus lies: in the wheel, or in a checkout's tests. Raises ConfigError when it is in neither."""
    for folder in (SHIPPED, CHECKOUT):
        if all((folder / name).is_file() for name in SHARED):
            return folder
    raise ConfigError(f"{SHIPPED}: the cheats are not in this installation: install research-loop anew")


def read_corpus(folder: Path) -> list[Cheat]:
    """Every cheat and every honest model of a corpus, by name. Raises ConfigError for one without EXPECT."""
    paths = (path for path in sorted(folder.rglob("*.py")) if path.name not in SHARED)
    return [_read(folder, path) for path in paths]


def _read(folder: Path, path: Path) -> Cheat:
    code = path.read_bytes()
    said = edits.constants(code.decode(), path.name)
    if "GROW" in said:  # a literal that would be in nobody's way but a reader's
        code += f'\nWEIGHTS = "{os.urandom(int(str(said["GROW"].value))).hex()}"\n'.encode()
    if "EXPECT" not in said:
        raise ConfigError(f"{path}: does not say what it expects: add EXPECT")
    expected, runs = said["EXPECT"].value, said["RUNS"].value if "RUNS" in said else 1
    name = path.relative_to(folder).with_suffix("").as_posix()
    return Cheat(name, code, tuple(expected) if isinstance(expected, tuple) else (str(expected),), int(str(runs)))


# ---------------------------------------------------------------------------------------------------------- running


def run_corpus(
    place: Path, wanted: list[Cheat], say: Callable[[str], None], folder: Path, sandbox: str = "auto"
) -> list[Trial]:
    """Runs the cheats in labs below `place`, several at once; the trials in the order of `wanted`.

    `folder` is the corpus, for what its labs share. `say` gets a line a cheat. Raises LabError when the baseline gets
    no score here, and SandboxError when the named sandbox does not work.
    """
    place.mkdir(parents=True, exist_ok=True)
    with prey(place):
        bench = Bench(make_lab(place / "lab", folder, sandbox), place)
        bench.measure_honest()
        done: dict[str, Trial] = {}
        at_once = max(1, min(MOST_AT_ONCE, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
        # those that wait for a limit have workers of their own, or the others would wait with them
        with ThreadPoolExecutor(at_once) as quick, ThreadPoolExecutor(at_once) as slow:
            running = [(slow if cheat.slow else quick).submit(bench.try_, cheat) for cheat in wanted]
            try:
                for ended in as_completed(running):
                    trial = ended.result()
                    done[trial.name] = trial
                    say(f"{len(done):3} of {len(wanted)}  {_line(trial)}")
            except BaseException:
                bench.halt()
                for one in running:
                    one.cancel()
                raise
        for cheat in wanted:
            if late(cheat, done[cheat.name]):
                done[cheat.name] = bench.try_(cheat)
                say(f"once more: {_line(done[cheat.name])}")
    return [done[cheat.name] for cheat in wanted]


def late(cheat: Cheat, trial: Trial) -> bool:
    """Whether time was no question of the cheat's and ran out all the same: several at once are slower than one."""
    return trial.seen == "overtime" and not cheat.slow and not trial.troubles


def make_lab(root: Path, folder: Path, sandbox: str = "auto") -> Lab:
    """A prepared lab with a baseline of the corpus' small GPT: one second of training a run, on a CPU."""
    texts, train = root.with_name("texts"), root.with_name("train.py")
    texts.mkdir(parents=True)
    documents = world.shard(0)[: DOCUMENTS + HELD_DOCUMENTS]
    for name, some in (("a", documents[:DOCUMENTS]), ("b", documents[DOCUMENTS:])):
        (texts / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    train.write_text(BASELINE)
    made = make_gpt_lab(root, Wish(source=str(texts), train=train, budget_seconds=1, profile="cpu"))
    made.write({name: (folder / name).read_bytes() for name in SHARED})
    _set(made, sandbox)
    lab = open_lab(root)
    prepare_lab(lab, say=lambda line: None)
    with Session(lab, LocalRunner(), [_results(lab)]) as session:
        ensure_baseline(session)
    return lab


def _set(lab: Lab, sandbox: str) -> None:
    prepare = (lab.root / "prepare.py").read_text()
    constants = {"MAX_SEQ_LEN": ROW_TOKENS, "EVAL_TOKENS": EVAL_TOKENS}
    write_whole(lab.root / "prepare.py", edits.replace(prepare, constants).encode())
    config = (lab.root / CONFIG).read_text()
    for old, new in {
        'locked = ["prepare.py"]': 'locked = ["prepare.py", "spy.py", "tiny.py"]',
        'sandbox = "auto"': f'sandbox = "{sandbox}"\nnoise = "none"\ndry_run = "never"',
        f"limit_seconds = {lab.config.limit_seconds:g}": f"limit_seconds = {LIMIT_SECONDS}",
    }.items():
        assert old in config
        config = config.replace(old, new)
    write_whole(lab.root / CONFIG, config.encode())


def _results(lab: Lab) -> ResultsFile:
    return ResultsFile(lab.root / "results.tsv", lab.config.metric)


@dataclass
class Bench:
    """Tries one cheat after another, each in a fresh copy of `lab` below `place`. Threads may share it."""

    lab: Lab
    place: Path
    honest_bpb: float = math.inf
    _open: set[Session] = field(default_factory=set)
    _measuring: Lock = field(default_factory=Lock)

    def try_(self, cheat: Cheat) -> Trial:
        """Runs a cheat and looks at what it did to everything around it."""
        began = time.monotonic()
        root = self.place / cheat.name.replace("/", "-")
        shutil.copytree(self.lab.root, root, symlinks=True)
        lab, witness = open_lab(root), Witness()
        before = Seal.of(lab)
        try:
            seen, detail = self._run(lab, cheat, witness)
        except ProposalError as error:
            seen, detail = "refused", str(error)
        except ResearchLoopError as error:
            seen, detail = "error", str(error)
        troubles = [*before.troubles(lab, cheat.runs), *left_behind(lab, witness.mark)]
        remove_tree(root)
        seconds = time.monotonic() - began
        return Trial(cheat.name, cheat.expected, seen, seconds, plain(detail), tuple(map(plain, troubles)))

    def measure_honest(self) -> None:
        """What an honest model of one second gets here, at best. Raises LabError when it is not believed."""
        with self._measuring:
            trial = self.try_(Cheat("what-is-honest", HONEST.encode(), ("challenged", "contained")))
        if not trial.held:
            raise LabError(
                f"{self.place}: an honest model was {trial.seen} ({trial.detail}): the machine may be too busy"
            )
        self.honest_bpb = min(self.honest_bpb, float(trial.detail.split()[1].rstrip(",")))

    def halt(self) -> None:
        """Ends what runs, from another thread."""
        for session in tuple(self._open):
            session.stopping = session.halted = True

    def _run(self, lab: Lab, cheat: Cheat, witness: Witness) -> tuple[str, str]:
        with Session(lab, LocalRunner(), [_results(lab), witness]) as session:
            self._open.add(session)
            try:
                baseline = session.history.baseline
                assert baseline is not None and baseline.score is not None
                for _ in range(cheat.runs):
                    proposal = Proposal({"train.py": cheat.code}, cheat.name, proposer="cheats", parent=baseline.n)
                    experiment = session.close(proposal, again=True)
            finally:
                self._open.discard(session)
        if self._seen(experiment, cheat)[0] == "believed" and experiment.score is not None:
            self.measure_honest()  # the machine may have been busy when that was done
        return self._seen(experiment, cheat)

    def _seen(self, experiment: Experiment, cheat: Cheat) -> tuple[str, str]:
        return _seen(experiment, HONEST_SHARE * self.honest_bpb, cheat.expected)


def _seen(experiment: Experiment, lowest: float, expected: tuple[str, ...]) -> tuple[str, str]:
    """The outcome in the corpus' words, and a sentence. "believed" is the word for a score that no honest run has."""
    verdict, last = experiment.verdict, experiment.last
    if verdict is None or last is None:
        return "stopped", "stopped before its verdict"
    if verdict.kind == "crash":
        return f"crash:{verdict.reason}", verdict.detail
    if verdict.reason.startswith("rejected:") or verdict.reason in ("overtime", "unverified"):
        return verdict.reason, verdict.detail
    if last.score is None or (last.score.value < lowest and "challenged" not in expected):
        return "believed", verdict.detail
    believed = "challenged" if last.score.verified == "confirmed" else last.score.verified
    return believed if believed in expected else "contained", verdict.detail


# ------------------------------------------------------------------------------------------------------------ table


def table(trials: list[Trial]) -> str:
    """Those that did not hold, one line each, and the count."""
    held = sum(trial.held for trial in trials)
    return "\n".join([*(_line(trial) for trial in trials if not trial.held), f"{held} of {len(trials)} held"])


def _line(trial: Trial) -> str:
    wanted = "" if trial.seen in trial.expected else f" where {' or '.join(trial.expected)} was due"
    why = "" if trial.held else f": {trial.detail}"
    return f"{'ok ' if trial.held else 'NOT'}  {trial.name:<34} {trial.seen}{wanted}{why}"
