"""The null campaign: experiments that change nothing. Whatever is kept of them is a false keep.

It runs in a copy of a lab, below its .research-loop, so that it can be stopped and goes on; every experiment has seeds
of its own, as if its code had changed the luck but nothing else. The scores of first runs are then judged once more by
the two rules that others use: on the same stream, so that counts compare.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence

from research_loop import git, noise
from research_loop.errors import LabError
from research_loop.history import Repository
from research_loop.lab import CONFIG, IGNORED, Lab, open_lab, repository_of
from research_loop.loop import ensure_baseline
from research_loop.noise import Direction, better
from research_loop.records import Experiment, History, Proposal
from research_loop.session import Session

FOLDER = "null"
MOST_REPEATS = 100
"""Seeds of one experiment do not reach those of the next."""
STATED = 0.07
"""False keeps a hundred, at most, in 100,000 simulated experiments of every kind (benchmarks/RESULTS.md)."""


def make_null_lab(lab: Lab) -> Lab:
    """A copy of the lab as it is now, with a repository and a ledger of its own; the one that is there already.

    Raises LabError when the lab's data is not prepared or its repository has no commit.
    """
    folder, source = lab.state / FOLDER, repository_of(lab)
    root = folder / source.prefix
    if (root / CONFIG).is_file():
        return open_lab(root)
    missing = next((name for name in lab.config.link if not (lab.root / name).exists()), None)
    if missing or source.head() is None:
        cure = "`research-loop prepare` first" if missing else "commit something first"
        raise LabError(f"{lab.root}: has no {missing or 'commit'}: {cure}")
    lab.state.mkdir(exist_ok=True)
    source.export(source.head() or "", folder)
    copy = Repository.create(folder)
    fetch = ("fetch", "--quiet", os.fspath(source.root), "HEAD")
    for arguments in (fetch, ("update-ref", "HEAD", "FETCH_HEAD"), ("read-tree", "HEAD")):
        done = git.spawn(folder, *arguments)
        if done.returncode:
            raise git.failure(folder, arguments[0], done)
    copy.exclude(f"/{source.prefix}{name}" for name in (*IGNORED, *lab.config.link))
    for name in lab.config.link:
        (root / name).symlink_to((lab.root / name).resolve())
    made = Lab(root, lab.config)
    made.write(lab.read((*lab.config.editable, *lab.config.locked)))
    made.write(lab.read([CONFIG]))
    return open_lab(root)


def seed_of(experiment: Experiment) -> int:
    """Other seeds for every experiment, in place of the same for all."""
    return 1_000_000 + MOST_REPEATS * experiment.n + len(experiment.scored)


def run_null(session: Session, experiments: int) -> bool:
    """Goes on until so many experiments are decided in all; False when stopped before."""
    if ensure_baseline(session) is None:
        return False
    for experiment in session.history.open:
        session.finish(experiment.n)
    while not session.stopping and (done := len(nulls(session.history))) < experiments:
        checkout = session.open()
        what = f"nothing changed ({done + 1})"
        session.close(Proposal(checkout.files, what, proposer="null", parent=checkout.parent), again=True)
    return not session.stopping


def nulls(history: History) -> list[Experiment]:
    """The decided experiments but for the baseline."""
    return [e for e in history.experiments if e.parent is not None and e.verdict is not None]


def report(history: History, metric: str, direction: Direction, budget_seconds: float) -> str:
    """False keeps of our rule and of two others on the same stream, with what 95 % of such campaigns stay below."""
    baseline, found = history.baseline, [e for e in nulls(history) if e.scores]
    sigma = noise.measure_sigma(history.experiments, budget_seconds)
    if baseline is None or sigma is None or not found:
        return "nothing was measured yet"
    firsts, runs = [e.scores[0] for e in found], sum(len(e.scores) for e in found)
    # a false keep that was taken back was a keep all the same
    ours = sum(e.kept or (e.verdict is not None and e.verdict.reason == "revised") for e in found)
    lines = [
        f"{len(found)} experiments that changed nothing, {runs} runs; sigma of {metric} {sigma.value:.6f}",
        _count("this loop", ours, len(found)) + f", {STATED} is what it states",
        _count("upstream's rule: lower is kept", upstream_keeps(baseline.scores[0], firsts, direction), len(found)),
    ]
    if len(baseline.scores) > 1:
        keeps = two_sigma_keeps(baseline.scores[:3], firsts, direction)
        lines += [_count("two sigma of three baselines", keeps, len(found))]
    return "\n".join(lines)


def _count(rule: str, keeps: int, of: int) -> str:
    from scipy.stats import binomtest

    most = binomtest(keeps, of, alternative="less").proportion_ci(0.95).high
    return f"  {rule:<31} {keeps:3} false keeps, {100 * keeps / of:.2f} a hundred (below {100 * most:.2f}, 95 %)"


def upstream_keeps(first: float, scores: Iterable[float], direction: Direction) -> int:
    """How many of these would karpathy/autoresearch keep: each single score that is better than the last kept one."""
    best, keeps = first, 0
    for score in scores:
        if better(score, best, direction):
            best, keeps = score, keeps + 1
    return keeps


def two_sigma_keeps(baseline: Sequence[float], scores: Iterable[float], direction: Direction) -> int:
    """How many are better than the last kept one by twice the deviation of a few baselines; the first is their mean."""
    best, keeps, margin = statistics.fmean(baseline), 0, 2 * statistics.stdev(baseline)
    for score in scores:
        if better(score, best - margin if direction == "lower" else best + margin, direction):
            best, keeps = score, keeps + 1
    return keeps
