"""What a run needs to start: a folder with its commit, links, environment, exam and sandbox."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from research_loop import sandbox
from research_loop.errors import LabError, SandboxError
from research_loop.exam import set_exam, show_training_data
from research_loop.history import Repository
from research_loop.lab import Lab
from research_loop.records import Exam, Experiment, Job

PASSED_ON = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONPATH"}
PASSED_ON_PREFIXES = ("LC_", "LD_", "CUDA_", "NVIDIA_", "TORCH", "PYTORCH_", "TRITON_", "OMP_", "MKL_", "XDG_")


class JobMaker:
    """Makes the jobs of one lab; `mark` goes into the environment of every process of a run."""

    def __init__(self, lab: Lab, repository: Repository, mark: str, note: Callable[[str], None]) -> None:
        self._lab, self._repository, self._mark = lab, repository, mark
        self._folder = lab.state / "runs"
        self._backend = _choose_backend(lab.config.sandbox, note)

    def make(self, experiment: Experiment, k: int, seed: int) -> Job:
        """The job of run `k`, its folder laid out. Raises LabError when something that is linked is missing."""
        config, n = self._lab.config, experiment.n
        work = self._repository.export(experiment.commit, self._folder / f"{n}.{k}")
        shown = tuple(path.resolve() for name in config.link for path in self._link(name, work / name))
        log = self._lab.log_path(n, k)
        log.parent.mkdir(exist_ok=True)
        exam = self._exam()
        environment = self._environment(f"{n}.{k}", seed) | ({"RESEARCH_LOOP_EXAM": "stdin"} if exam else {})
        python = sys.executable if config.command[0] == "python" else config.command[0]
        spec = sandbox.Spec(work, shown)
        command, environment = self._backend.wrap((python, *config.command[1:]), spec, environment)
        seconds = config.budget_seconds, config.limit_seconds
        return Job(n, k, command, work, log, environment, config.metric, config.memory, *seconds, exam)

    def clear(self, job: Job | None = None) -> None:
        """Removes what a run left, or all runs, and what a sandbox put beside it."""
        name = f"{job.n}.{job.k}*" if job else "*"
        for folder in self._folder.glob(name):
            shutil.rmtree(folder, ignore_errors=True)

    def _link(self, name: str, target: Path) -> list[Path]:
        """Links one entry of lab.toml into a run's folder; the links that were made."""
        source = self._lab.root / name
        if not source.exists():
            raise LabError(f"{source}: lab.toml links it, but it is not there: `research-loop prepare`, or take it out")
        if self._lab.config.score == "harness" and name == "data":
            show_training_data(source, target)
            return [path for path in target.rglob("*") if path.is_symlink()]
        if os.path.lexists(target):
            return []
        target.symlink_to(source)
        return [target]

    def _exam(self) -> Exam | None:
        """Other places and other futures for every run, known to nobody before."""
        if self._lab.config.score == "run":
            return None
        data = self._lab.root / "data"
        exam = set_exam(data, seed=secrets.randbits(63))
        if exam is None:
            raise LabError(f"{data}: holds no validation rows to score with: `research-loop prepare`")
        return exam

    def _environment(self, run: str, seed: int) -> dict[str, str]:
        """An allow-list: a run has no business with the user's keys."""
        kept = {k: v for k, v in os.environ.items() if k in PASSED_ON or k.startswith(PASSED_ON_PREFIXES)}
        marks = {"RESEARCH_LOOP_LAB": self._mark, "RESEARCH_LOOP_RUN": f"{self._mark}.{run}"}
        return {**kept, **marks, "PYTHONUNBUFFERED": "1", "RESEARCH_LOOP_SEED": str(seed)}


def _choose_backend(wanted: str, note: Callable[[str], None]) -> sandbox.Backend:
    """The sandbox that lab.toml names. With "auto", none where none works, and that is said: the built-in search only
    turns constants."""
    try:
        return sandbox.choose(wanted)
    except SandboxError as error:
        if wanted != "auto":
            raise
        note(f"runs are not contained: {error}")
        return sandbox.choose("none")
