"""What a run needs to start: a folder with its commit, links, environment, exam and sandbox."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from research_loop import bytecode, sandbox
from research_loop.errors import LabError, SandboxError
from research_loop.exam import set_exam, show_training_data
from research_loop.files import remove_tree
from research_loop.gpus import Gpu, first_gpu
from research_loop.history import Repository
from research_loop.kernels import Kernels
from research_loop.lab import Lab
from research_loop.records import Experiment, Files
from research_loop.tasks import Exam, Job, Rival

PASSED_ON = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONPATH"}
PASSED_ON_PREFIXES = ("LC_", "LD_", "CUDA_", "NVIDIA_", "TORCH", "PYTORCH_", "TRITON_", "OMP_", "MKL_", "XDG_")
DRY = -1
"""The number that no experiment has."""
GPU_SCRATCH_MB, GPU_PROCESSES = 8192, 4096
"""torch.compile writes hundreds of files and starts a process a core, each with a thread a core."""
AUDITS = 100_000
"""Audits count on from here where runs count from 0: their folders and logs lie side by side."""


class JobMaker:
    """Makes the jobs of one lab; `mark` goes into the environment of every process of a run."""

    def __init__(
        self, lab: Lab, repository: Repository, mark: str, held_seed: int, note: Callable[[str], None]
    ) -> None:
        self._lab, self._repository, self._mark, self._held_seed = lab, repository, mark, held_seed
        self._note = note
        self._folder = lab.state / "runs"
        self.kernels = Kernels(lab.state, self._folder)
        self._backend = _choose_backend(lab.config.sandbox or "none", note)
        self.contained = self._backend.name != "none"
        self.fallen_back = not self.contained and lab.config.sandbox == "auto"

    def make(
        self,
        experiment: Experiment,
        k: int,
        seed: int,
        rival: Rival | None = None,
        baseline: Rival | None = None,
        *,
        ours: bool = False,
        audit: bool = False,
        gpu: Gpu | None = None,
    ) -> Job:
        """The job of run `k`, its folder laid out, anew where half of it is there. Raises LabError where what is linked
        is missing.

        `ours` says that no model wrote any of its code: later runs may get its compiled kernels. `gpu` is the one that
        it gets; None is the first.
        """
        config, n = self._lab.config, experiment.n
        self._remove(f"{n}.{k}", f"{n}.{k}.*")
        work = self._repository.export(experiment.commit, self._folder / f"{n}.{k}")
        shown = self._shown(work)
        log = self._lab.log_path(n, k)
        log.parent.mkdir(exist_ok=True)
        exam = self._exam(rival, baseline, audit)
        environment = self._environment(f"{n}.{k}", seed) | ({"RESEARCH_LOOP_EXAM": "stdin"} if exam else {})
        environment |= {"CUDA_VISIBLE_DEVICES": gpu.uuid} if gpu else {}  # a sandbox shows it alone
        python = sys.executable if config.command[0] == "python" else config.command[0]
        spec = self._spec(work, shown, experiment if ours else None, gpu.number if gpu else first_gpu())
        command, environment = self._contained((python, *config.command[1:]), spec, environment)
        seconds = config.budget_seconds, config.limit_seconds
        names, counts_passes = (config.metric, config.memory), config.source is not None
        return Job(n, k, command, work, log, environment, *names, *seconds, exam, gpu=gpu, counts_passes=counts_passes)

    def dry(self, files: Files, commit: str, command: tuple[str, ...], seconds: float) -> Job:
        """A job on files that are no experiment's yet, in `commit`'s folder, without GPU or exam."""
        config, work = self._lab.config, self._repository.export(commit, self._folder / f"{DRY}.0")
        for path, data in files.items():
            (work / path).write_bytes(data)
        spec = sandbox.Spec(work, self._shown(work))
        environment = {**self._environment(f"{DRY}.0", 0), "CUDA_VISIBLE_DEVICES": ""}
        python = sys.executable if command[0] == "python" else command[0]
        command, environment = self._contained((python, *command[1:]), spec, environment)
        log = self._folder / f"{DRY}.0.log"
        return Job(DRY, 0, command, work, log, environment, config.metric, config.memory, seconds, seconds)

    def compile_packages(self) -> None:
        """Once an installation and lab, for all contained runs with our Python."""
        if self.contained and self._lab.config.command[0] == "python":
            bytecode.fill(self._lab.state, first_gpu() is not None, self._note)

    def clear_dry(self) -> None:
        """Removes what `dry` made, whole or not."""
        self._remove(f"{DRY}.0*")

    def clear(self, job: Job | None = None) -> None:
        """Removes what a run left, or all runs, and what a sandbox put beside it; not a dry run, which may go on."""
        self._remove(*((f"{job.n}.{job.k}", f"{job.n}.{job.k}.*") if job else ("[!-]*",)))

    def _remove(self, *names: str) -> None:
        for folder in (found for name in names for found in self._folder.glob(name)):
            remove_tree(folder)

    def show_log(self, job: Job) -> None:
        """run.log in the lab is a copy of the newest log: `> run.log` by hand must not reach the stored one."""
        part = self._lab.root / "run.log.part"
        try:
            shutil.copyfile(job.log, part)
            part.replace(self._lab.root / "run.log")
        except OSError as error:
            part.unlink(missing_ok=True)
            self._note(f"run.log: not written ({error.strerror}); the log is {job.log}")

    def _contained(self, command: tuple[str, ...], spec: sandbox.Spec, given: dict[str, str]) -> sandbox.Started:
        """The argv and environment of a run; where packages lie uncompiled, with what was compiled for it."""
        ours = self.contained and command[0] == sys.executable  # another Python compiles otherwise
        compiled = bytecode.folder(self._lab.state, first_gpu() is not None) if ours else None
        if compiled is None:
            return self._backend.wrap(command, spec, given)
        argv, environment = self._backend.wrap(command, replace(spec, readable=(*spec.readable, compiled)), given)
        return argv, {**environment, "PYTHONPYCACHEPREFIX": str(compiled)}

    def _spec(self, work: Path, shown: tuple[Path, ...], giver: Experiment | None, gpu: int | None) -> sandbox.Spec:
        """`giver`: whose kernels this run may hand on."""
        if gpu is None:
            return sandbox.Spec(work, shown)
        if self._backend.name != sandbox.Bubblewrap.name:  # every run has another path, and Triton stores paths
            return sandbox.Spec(work, shown, GPU_SCRATCH_MB, GPU_PROCESSES, gpu)
        own = self.kernels.own(giver) if giver and self.kernels.gives(giver) else None
        caches = own or self.kernels.offered()
        return sandbox.Spec(work, shown, GPU_SCRATCH_MB, GPU_PROCESSES, gpu, caches, fill=own is not None)

    def _shown(self, work: Path) -> tuple[Path, ...]:
        """What the lab links into a run's folder, by its true place."""
        return tuple(path.resolve() for name in self._lab.config.link for path in self._link(name, work / name))

    def _link(self, name: str, target: Path) -> list[Path]:
        """Links one entry of lab.toml into a run's folder; the links that were made."""
        source = (self._lab.root / name).resolve()  # a link of the user's would lead out of the sandbox's view
        if not source.exists():
            raise LabError(f"{source}: lab.toml links it, but it is not there: `research-loop prepare`, or take it out")
        if self._lab.config.score == "harness" and name == "data":
            show_training_data(source, target)
            return [path for path in target.rglob("*") if path.is_symlink()]
        if os.path.lexists(target):
            return []
        target.symlink_to(source)
        return [target]

    def _exam(self, rival: Rival | None, baseline: Rival | None, audit: bool) -> Exam | None:
        """Other places and other futures for every run, known to nobody before."""
        if self._lab.config.score == "run":
            return None
        data = self._lab.root / "data"
        exam = set_exam(data, secrets.randbits(63), self._held_seed, rival, baseline, audit=audit)
        if exam is None:
            few = "too few validation rows for an audit: prepare a new lab with more text"
            raise LabError(f"{data}: holds {few if audit else 'no validation rows: `research-loop prepare`'}")
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
        note(f"runs are not contained, and their scores unverified: {error}")
        return sandbox.choose("none")
