"""What the verbs of the command line share: finding, opening and making labs, and the parts of a session."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research_loop.errors import ConfigError, LabError
from research_loop.plain import plain

if TYPE_CHECKING:
    from research_loop.config import LabConfig
    from research_loop.data.preparation import CountModels
    from research_loop.desk import Desk
    from research_loop.gpus import Gpu
    from research_loop.lab import Lab, Wish
    from research_loop.ledger import Ledger
    from research_loop.proposers import Proposer
    from research_loop.session import Session


def folder_of(lab: Path | None) -> Path:
    """The folder named, else the current one if it is a lab, else ./lab."""
    if lab is not None:
        return lab
    return Path() if Path("lab.toml").exists() else Path("lab")


def compare_counts(counts: CountModels) -> str:
    """What models reach that only count, on the same validation bytes."""
    scores = f"bigram counts {counts.bigram_bpb:.6f}, unigram counts {counts.unigram_bpb:.6f}"
    return f"for comparison, in bits per byte: {scores}"


def words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--command {command}: {error}: close the quote") from error


def command_for(verb: str, root: Path) -> str:
    """What to type for a lab; the default folder goes without saying."""
    return f"research-loop {verb}" if str(root) in ("lab", ".") else f"research-loop {verb} {shlex.quote(str(root))}"


def open_(root: Path) -> Lab:
    from research_loop.lab import open_lab

    return open_lab(root)


def read(root: Path) -> tuple[Lab, Ledger]:
    from research_loop.ledger import Ledger

    opened = open_(root)
    if not opened.ledger_path.exists():
        raise LabError(f"{opened.root}: nothing has been run here yet: `{command_for('run', root)}` starts")
    return opened, Ledger(opened.ledger_path, read_only=True)


@contextmanager
def reading(root: Path) -> Iterator[tuple[Lab, Ledger]]:
    """`read`, for as long as it is needed: a server opens the ledger a thousand times."""
    lab, ledger = read(root)
    try:
        yield lab, ledger
    finally:
        ledger.close()


def wish_of(
    data: str | None, num_shards: int | None, train: Path | None, budget: int | None, profile: str | None
) -> Wish:
    from research_loop.lab import Wish

    return Wish(data, num_shards, train, budget, profile)


def make(root: Path, wish: Wish) -> None:
    from research_loop.lab import choose_profile, make_gpt_lab

    made = make_gpt_lab(root, wish)
    chosen = choose_profile(made.config.profile)
    facts = f"profile {chosen['name']}{measured(chosen)}, data {plain(made.config.source or 'none')}"
    facts += f", {made.config.budget_seconds:g} s a run"
    print(f"{plain(str(made.root))}: a new lab, {facts}; see its program.md")


def measured(profile: Mapping[str, Any]) -> str:
    """On which GPUs a profile was tried; of one for CPUs nothing."""
    names = profile.get("measured")
    if names is None:
        return ""
    return f" (measured on {', '.join(names)})" if names else " (not measured on this GPU)"


def prepare(session: Session) -> None:
    """Data in the lab, and its packages compiled, while its lock is held and after its locked files were compared with
    the baseline's."""
    from research_loop.data.preparation import prepare_lab

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its processes are ended, too
    try:
        counts = prepare_lab(session.lab, pinned=session.data_pin, say=session.note)
        session.check_pins()
        session.jobs.compile_packages()
    finally:
        signal.signal(signal.SIGTERM, before)
    if counts is not None:
        session.note(compare_counts(counts))


def view_of(lab: Lab) -> Any:
    from research_loop.views.terminal import PlainLines, Terminal

    kind = Terminal if sys.stdout and sys.stdout.isatty() else PlainLines
    return kind(lab.config.metric, lab.config.budget_seconds)


def gpus_of(count: int) -> list[Gpu]:
    """Those that runs are spread over, where that is more than one."""
    from research_loop.gpus import choose

    return choose(count) if count > 1 else []


def session_of(lab: Lab, view: Any, unsafe: bool = False, gpus: Sequence[Gpu] = ()) -> Session:
    from research_loop import runners
    from research_loop.session import Session
    from research_loop.views.live import LiveFile
    from research_loop.views.tsv import ResultsFile

    files = [ResultsFile(lab.root / "results.tsv", lab.config.metric), LiveFile(lab.state, lab.config.budget_seconds)]
    make_runner = runners.load(lab.config.runner)
    try:
        runner = make_runner(slots=len(gpus)) if gpus else make_runner()
    except TypeError as error:
        raise ConfigError(f"--gpus {len(gpus)}: runner {lab.config.runner!r} takes no slots ({error})") from error
    return Session(lab, runner, [*files, view], unsafe=unsafe, gpus=gpus)


def editors_of(config: LabConfig, names: list[str], usd: float | None) -> tuple[Proposer, Callable[[Session], Desk]]:
    """Who proposes at once, and the desk of those who draft; lab.toml's proposers where none are named."""
    from research_loop import proposers
    from research_loop.desk import Desk

    saved = config.proposer
    found, drafters, shared = proposers.choose(names or ([saved] if isinstance(saved, str) else saved), config.seed)
    if usd is not None and not math.isfinite(usd):
        raise ConfigError(f"--cost {usd:g}: is no sum: write one in USD, or leave it out")
    if usd is not None and not drafters:
        raise ConfigError(f"--cost {usd:g}: {found.name} costs nothing: leave it out, or name a --proposer that does")
    return found, lambda session: Desk(session, drafters, usd=usd, shared=found.name if shared else "")


def compare_passes(ledger: Ledger) -> str:
    """What there is to say of text that the champion's runs see more than once."""
    from research_loop.curves import text_again

    champion = ledger.history.champion
    return text_again(ledger.summary(champion.n, run.k) for run in champion.runs) if champion else ""


def facts(lab: Lab, ledger: Ledger) -> dict[str, Any]:
    """What `status` says, as data."""
    from research_loop.branch import branch_name
    from research_loop.views import text
    from research_loop.views.live import read_live

    branch, live = branch_name(ledger) or "no branch yet", read_live(lab.state)
    place, spent = plain(str(lab.root)), ledger.spent()
    return text.status_json(ledger.history, lab.config, place=place, branch=branch, live=live, spent=spent)


def shown(lab: Lab, ledger: Ledger, n: int) -> str:
    """All that is known of one experiment."""
    from research_loop.lab import repository_of
    from research_loop.views import text

    experiment, diff = ledger.experiment(n), ""
    if experiment.parent is not None:
        diff = repository_of(lab).diff(ledger.experiment(experiment.parent).commit, experiment.commit)
    curve, log_tail = ledger.trace(n, max(0, len(experiment.runs) - 1))
    asked = ledger.draft(experiment.draft)
    return text.show(experiment, lab.config, diff=diff, curve=curve, log_tail=log_tail, asked=asked)


def restored(lab: Lab, ledger: Ledger, n: int) -> str:
    """Writes an experiment's code into the lab's own files; what was done, and where the old ones are."""
    from research_loop.lab import repository_of

    files = repository_of(lab).files(ledger.experiment(n).commit, lab.config.editable)
    saved = save_untried(lab, files)
    lab.write(files)
    return f"{', '.join(files)}: as in experiment {n}" + (f"; before: {saved}" if saved else "")


def save_untried(lab: Lab, wanted: dict[str, bytes]) -> Path | None:
    """Keeps a copy of the lab's files before they are overwritten, when they differ."""
    present = {path: (lab.root / path).read_bytes() for path in wanted if (lab.root / path).exists()}
    if not present or present == wanted:
        return None
    folder = lab.state / "saved" / f"{time.time_ns()}"
    for path, data in present.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
