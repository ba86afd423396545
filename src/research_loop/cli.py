"""The command line: each verb is a call and a print. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from research_loop import cli_skill, keys, wiring
from research_loop.errors import ConfigError, LabError, ResearchLoopError
from research_loop.plain import plain

if TYPE_CHECKING:
    from research_loop.lab import Lab

STILL_OPEN = 3
"""Exit code of `wait` where there is no verdict yet."""

app = typer.Typer(
    name="research-loop",
    help="Improves a GPT training script by itself: edit, train for a fixed time, score, keep or discard, repeat.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_skill.app, name="skill")

LabArgument = Annotated[
    Path | None, typer.Argument(metavar="LAB", help="The lab's folder. Default: this one, or ./lab")
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="builtin, tinystories, climbmix, or a folder or file of text")
]
ShardsOption = Annotated[int | None, typer.Option("--num-shards", help="At most so many shards for training", min=1)]
TrainOption = Annotated[Path | None, typer.Option("--train", help="Start from this train.py in place of ours")]
BudgetOption = Annotated[int | None, typer.Option("--budget", help="Seconds of training a run", min=1)]
GpusOption = Annotated[int, typer.Option("--gpus", help="Run on so many alike GPUs at once, one run on each", min=1)]
UnsafeOption = Annotated[bool, typer.Option("--unsafe", help="Run a model's code even where no sandbox works")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Constants for another machine than this one")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("research-loop"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """Improves a GPT training script by itself: edit, train for a fixed time, score, keep or discard, repeat."""


@app.command()
def run(
    lab: LabArgument = None,
    experiments: Annotated[
        int | None, typer.Option("--experiments", help="End after so many; 0: the baseline, and what is open", min=0)
    ] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="Start none after so many hours", min=0)] = None,
    proposer: Annotated[
        list[str] | None, typer.Option("--proposer", help="Who edits; lab.toml's, else the search. Can be repeated")
    ] = None,
    cost: Annotated[
        float | None, typer.Option("--cost", help="End before models and agents have cost more USD in this call", min=0)
    ] = None,
    data: DataOption = None,
    num_shards: ShardsOption = None,
    train: TrainOption = None,
    budget: BudgetOption = None,
    profile: ProfileOption = None,
    gpus: GpusOption = 1,
    unsafe: UnsafeOption = False,
) -> None:
    """Experiment until stopped: the main job. Makes the lab and prepares its data where there is none yet.

    The same command again goes on where it stopped. Ctrl-C finishes the experiment in flight; a second one stops at
    once, and that experiment is run again at the next start.
    """
    from research_loop.config import LabConfig
    from research_loop.loop import Limits, run_loop
    from research_loop.signals import Signals

    limits, chosen = Limits(experiments, None if hours is None else hours * 3600), wiring.gpus_of(gpus)
    root, wish = wiring.folder_of(lab), wiring.wish_of(data, num_shards, train, budget, profile)
    if (root / "lab.toml").exists():
        from research_loop.lab import check_same_lab

        check_same_lab(wiring.open_(root), wish)
    else:
        wiring.editors_of(LabConfig(), proposer or [], cost)  # a wrong one leaves no lab behind
        wiring.make(root, wish)
    opened = wiring.open_(root)
    editor, desk_of = wiring.editors_of(opened.config, proposer or [], cost)
    with wiring.view_of(opened) as view, wiring.session_of(opened, view, unsafe, chosen) as session:
        wiring.prepare(session)
        with Signals(session), desk_of(session) as desk:
            ended = run_loop(session, editor, limits, desk)
        best = (
            f" the best code is branch {session.branch.name} in {plain(str(opened.root))};"
            if session.history.champion
            else ""
        )
    print(f"{ended};{best} `{wiring.command_for('status', root)}` shows it all")
    if ended == "stopped":
        raise typer.Exit(130)


@app.command()
def init(
    lab: LabArgument = None,
    data: DataOption = None,
    num_shards: ShardsOption = None,
    train: TrainOption = None,
    budget: BudgetOption = None,
    profile: ProfileOption = None,
    blank: Annotated[bool, typer.Option("--blank", help="No GPT: only lab.toml, in your own git repository")] = False,
    command: Annotated[str, typer.Option("--command", help="With --blank: what a run starts")] = "python train.py",
    edit: Annotated[
        list[str] | None, typer.Option("--edit", help="With --blank: a file to improve; repeatable")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="With --blank: the run prints 'NAME: value'")] = "val_bpb",
    higher: Annotated[bool, typer.Option("--higher", help="With --blank: higher is better")] = False,
) -> None:
    """Lay out a lab: prepare.py (locked), train.py (the file that is edited), program.md and lab.toml."""
    from research_loop.lab import make_blank_lab

    if not blank:
        wiring.make(lab or Path("lab"), wiring.wish_of(data, num_shards, train, budget, profile))
        return
    root = lab or Path()
    for option, value in {"--data": data, "--num-shards": num_shards, "--train": train, "--profile": profile}.items():
        if value is not None:
            raise ConfigError(f"{option}: belongs to the GPT lab: leave it out, or leave out --blank")
    task: dict[str, Any] = {"command": wiring.words(command), "editable": edit or ["train.py"], "metric": metric}
    task["direction"] = "higher" if higher else "lower"
    made = make_blank_lab(root, task, float(budget or 300))
    print(f"{made.root / 'lab.toml'}: written; scores of this lab are the runs' own word (unverified)")
    print(f"next: `{wiring.command_for('run', root)}`")


@app.command()
def prepare(lab: LabArgument = None) -> None:
    """Get the documents, train the tokenizer and pack the rows; what is there already is left as it is."""
    opened = wiring.open_(wiring.folder_of(lab))
    if opened.config.source is None:
        print(f"{plain(str(opened.root))}: its lab.toml has no [data]: nothing to prepare")
        return
    with wiring.view_of(opened) as view, wiring.session_of(opened, view) as session:
        wiring.prepare(session)
    print(f"{plain(str(opened.root / 'data'))}: ready")


@app.command("try")
def try_(
    what: Annotated[str, typer.Option("-m", "--what", help="What was changed, with exact constants")],
    lab: LabArgument = None,
    why: Annotated[str, typer.Option("--why", help="The reason it should help")] = "",
    risk: Annotated[str, typer.Option("--risk", help="Memory, stability")] = "",
    again: Annotated[bool, typer.Option("--again", help="Allow code that was tried before")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; `wait` has the verdict")] = False,
    unsafe: UnsafeOption = False,
) -> None:
    """Run the lab's own edited train.py as one experiment: kept if better, else put back to the champion's code.

    What was tried stays in its ref, whatever the verdict: `research-loop restore N` brings it back.
    """
    from research_loop import detached
    from research_loop.records import Proposal
    from research_loop.signals import Signals

    opened = wiring.open_(wiring.folder_of(lab))
    if detach:
        n = detached.begin_try(opened, what, why, risk, again=again, unsafe=unsafe)
        print(f"experiment {n}: begun; `{wiring.command_for(f'wait {n}', opened.root)}` tells its verdict")
        return
    files = opened.read(opened.config.editable)
    with wiring.view_of(opened) as view, wiring.session_of(opened, view, unsafe) as session:
        if session.history.champion is None:
            cure = wiring.command_for("run --experiments 0", opened.root)
            raise LabError(f"{opened.root}: has no baseline yet: `{cure}` makes it first")
        wiring.prepare(session)
        with Signals(session):
            proposal = Proposal(files, what, why, risk, "user", session.history.champion.n)
            n = session.submit(proposal, again=again).n
            session.note(detached.RECORDED.format(n=n))
            experiment = session.finish(n)
    if experiment.verdict is None:
        print(f"experiment {experiment.n}: stopped before its verdict; `research-loop run` goes on with it")
        raise typer.Exit(130)
    print(f"experiment {experiment.n}: {experiment.verdict.kind}: {experiment.verdict.detail}")


@app.command()
def wait(
    n: Annotated[int, typer.Argument(metavar="N", help="The experiment's number")],
    lab: LabArgument = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Return after so many at most", min=0)] = 45.0,
) -> None:
    """Wait for an experiment's verdict, for a while; exit code 3 when there is none yet."""
    from research_loop import detached
    from research_loop.views.live import read_live

    opened, _ = wiring.read(wiring.folder_of(lab))
    experiment = detached.wait(opened, n, seconds)
    if experiment.verdict is not None:
        print(f"experiment {n}: {experiment.verdict.kind}: {experiment.verdict.detail}")
        return
    runs = [run for run in read_live(opened.state) if run.n == n]
    left = "".join(f", {(1 - (run.share or 0.0)) * run.budget_seconds:.0f} s of training left" for run in runs)
    print(f"experiment {n}: no verdict yet{left}")
    raise typer.Exit(STILL_OPEN)


@app.command()
def audit(
    lab: LabArgument = None,
    runs: Annotated[int, typer.Option("--runs", help="Of each, with fresh seeds", min=1)] = 3,
    gpus: GpusOption = 1,
    unsafe: UnsafeOption = False,
) -> None:
    """Train baseline and champion anew, score both on text that no other run was scored on, and say whether the
    difference is significant. Changes nothing; `report` repeats what it said."""
    from research_loop.audit import conclusion, run_audit
    from research_loop.signals import Signals

    chosen, opened = wiring.gpus_of(gpus), wiring.open_(wiring.folder_of(lab))
    with wiring.view_of(opened) as view, wiring.session_of(opened, view, unsafe, chosen) as session, Signals(session):
        samples = run_audit(session, runs, session.note)
    if samples is None:
        raise typer.Exit(130)
    print(conclusion(samples, opened))


@app.command()
def status(
    lab: LabArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON")] = False,
) -> None:
    """What the ledger says: best, baseline, counts, the runs in flight, the newest experiments."""
    from research_loop.branch import branch_name
    from research_loop.data.preparation import count_models
    from research_loop.views import text
    from research_loop.views.live import read_live

    opened, ledger = wiring.read(wiring.folder_of(lab))
    branch, live = branch_name(ledger) or "no branch yet", read_live(opened.state)
    if as_json:
        print(json.dumps(wiring.facts(opened, ledger), indent=1))
        return
    counts = count_models(opened)
    line = wiring.compare_counts(counts) if counts else ""
    place = plain(str(opened.root))
    history, again, spent = ledger.history, wiring.compare_passes(ledger), ledger.spent()
    said = text.status(
        history, opened.config, place=place, branch=branch, live=live, counts=line, again=again, spent=spent
    )
    print(said)


@app.command()
def brief(
    lab: LabArgument = None,
    tokens: Annotated[int, typer.Option("--tokens", help="At most about so many", min=500)] = 4000,
) -> None:
    """What to know before the next proposal: the task, what helped, what nearly did, what broke, what was tried.

    Lines of the lab's ideas.md stand among it.
    """
    from research_loop.brief import brief as text

    opened, ledger = wiring.read(wiring.folder_of(lab))
    print(text(ledger.history, opened.config, ideas=opened.ideas, tokens=tokens), end="")


@app.command()
def show(
    n: Annotated[int, typer.Argument(metavar="N", help="The experiment's number")],
    lab: LabArgument = None,
) -> None:
    """One experiment: proposal, verdict, measurements, loss curve, diff, end of the log."""
    print(wiring.shown(*wiring.read(wiring.folder_of(lab)), n))


@app.command()
def mcp(lab: LabArgument = None) -> None:
    """Serve the lab to a coding agent over standard input and output (Model Context Protocol)."""
    from research_loop.mcp_server import serve

    serve(wiring.folder_of(lab).absolute())


@app.command()
def report(lab: LabArgument = None) -> None:
    """What was kept, what each change is worth where leaving it out was tried, and what may be claimed."""
    from research_loop.audit import noted
    from research_loop.views.report import report as text

    opened, ledger = wiring.read(wiring.folder_of(lab))
    place, runs = plain(str(opened.root)), len(ledger.audits())
    print(text(ledger.history, noted(ledger), opened.config, place, audit_runs=runs))


@app.command()
def restore(
    n: Annotated[int, typer.Argument(metavar="N", help="The experiment's number")],
    lab: LabArgument = None,
) -> None:
    """Bring an experiment's code back into the lab's own files. What they held before is kept in .research-loop."""
    print(wiring.restored(*wiring.read(wiring.folder_of(lab)), n))


@app.command()
def doctor(
    lab: LabArgument = None,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", help="auto, bubblewrap, landlock or none; the lab's, else auto")
    ] = None,
    corpus: Annotated[bool, typer.Option("--cheats", help="Run every cheat we know, in a lab of its own")] = False,
    null: Annotated[int | None, typer.Option("--null", help="Try so many times what changes nothing", min=1)] = None,
) -> None:
    """Try from inside what a run could do to this machine; a table of what the sandbox holds, and cures.

    --null counts how many experiments are kept of those that change nothing, in a copy of the lab; it can be stopped,
    and goes on.
    """
    from research_loop import cheats, doctor

    root = wiring.folder_of(lab)
    if null is not None:
        _run_null(wiring.open_(root), null)
        return
    place = root.resolve() if (root / "lab.toml").exists() else None
    sandbox = sandbox or ((wiring.open_(root).config.sandbox or "none") if place else "auto")
    held = cheats.check_up(sandbox, print) if corpus else doctor.check_up(sandbox, place, print)
    if not held:
        raise typer.Exit(1)


def _run_null(lab: Lab, experiments: int) -> None:
    from research_loop import null, runners
    from research_loop.session import Session
    from research_loop.signals import Signals

    copy = null.make_null_lab(lab)
    runner = runners.load(copy.config.runner)()
    with wiring.view_of(copy) as view, Session(copy, runner, [view], seed_of=null.seed_of) as session, Signals(session):
        done = null.run_null(session, experiments)
    print(null.report(session.history, copy.config.metric, copy.config.direction, copy.config.budget_seconds))
    if not done:
        raise typer.Exit(130)


def main() -> None:
    """Entry point. Errors meant for the user are one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except ResearchLoopError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'this machine'}: {error.strerror or error}: mend that and start again")


def _fail(text: str) -> NoReturn:
    print(f"research-loop: {keys.hide(plain(text))}", file=sys.stderr)
    sys.exit(1)
