"""What is said against a proposal before it is recorded: files that may not change, code that was tried, that does not
parse, that fails on shapes alone, or that nothing here contains."""

from __future__ import annotations

from collections.abc import Callable

from research_loop import edits
from research_loop.checks import check_code
from research_loop.dry_run import DryRuns
from research_loop.errors import ProposalError
from research_loop.history import Repository
from research_loop.jobs import JobMaker
from research_loop.lab import Lab
from research_loop.records import Files, History, Proposal, trusted


class Admission:
    """Of one session. `unsafe` lets code that a model may have written run where no sandbox works."""

    def __init__(
        self, lab: Lab, repository: Repository, jobs: JobMaker, history: Callable[[], History], dry_runs: DryRuns
    ) -> None:
        self._lab, self._repository, self._jobs = lab, repository, jobs
        self._history, self._dry_runs = history, dry_runs
        self.unsafe = False

    def admit(
        self, proposal: Proposal, *, again: bool = False, stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, bytes]:
        """All files that it would run with. Raises ProposalError. `again` allows a known code, and skips the dry run,
        which ends when `stopped`.

        It changes nothing, so that a draft can be looked at while runs go on; a dry run is made once a code.
        """
        history = self._history()
        files = self._whole(proposal, history)
        check_code(files)
        self.refuse_uncontained(proposal.proposer, proposal.parent)
        if proposal.parent is not None and not again:
            self._refuse_known(edits.key(files), history)
            if not trusted(proposal.proposer):
                self._dry_runs.check(files, *self._code_of(proposal.parent, history), stopped)
        return files

    def refuse_uncontained(self, proposer: str, parent: int | None) -> None:
        """Raises ProposalError for code that a model may have written, where nothing contains it."""
        if self._jobs.fallen_back and not self.unsafe and not self._history().ours(proposer, parent):
            raise ProposalError(
                "no sandbox works here, so code that a model may have written is not run: `research-loop doctor` says "
                "how to mend that, `--unsafe` runs it with all your rights"
            )

    @property
    def drafts_contained(self) -> bool:
        """Whether what a model writes runs contained, or with all rights because somebody chose that."""
        return self._jobs.contained or self._lab.config.sandbox == "none" or self.unsafe

    def refuse_drafts(self) -> None:
        """Raises ProposalError, before anybody is paid, where nothing contains what a model writes."""
        if not self.drafts_contained:
            raise ProposalError(
                f"{self._lab.root}: its runs are not contained, so no model or agent is asked for code: set sandbox = "
                '"auto" in lab.toml, or "none" if you mean it; `research-loop doctor` says what works here, `--unsafe` '
                "does it this once"
            )

    def _whole(self, proposal: Proposal, history: History) -> dict[str, bytes]:
        """All editable files: the proposal's, and its parent's where it has none. Nothing else may be in it."""
        editable = self._lab.config.editable
        foreign = sorted(set(proposal.files) - set(editable))
        if foreign:
            raise ProposalError(f"{foreign[0]}: is not editable in this lab: only {', '.join(editable)} may change")
        if proposal.parent is None:
            return dict(proposal.files)
        return {**self._code_of(proposal.parent, history)[0], **proposal.files}

    def _code_of(self, n: int, history: History) -> tuple[Files, str]:
        """An experiment's editable files, and its commit."""
        commit = next(e.commit for e in history.experiments if e.n == n)
        return self._repository.files(commit, self._lab.config.editable), commit

    def _refuse_known(self, key: str, history: History) -> None:
        twin, champion = history.by_key(key), history.champion
        if twin is None:
            return
        if champion is not None and key == champion.key:
            raise ProposalError(
                f"{', '.join(self._lab.config.editable)}: is the champion's code unchanged: edit it first"
            )
        outcome = twin.verdict.kind if twin.verdict else "still open"
        raise ProposalError(f"this code was tried as experiment {twin.n} ({outcome}): `--again` tries it once more")
