"""What git shows of the ledger: the branch at the champion, a ref an experiment, the lab's own files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from research_loop.errors import PinError
from research_loop.history import Repository
from research_loop.lab import CONFIG, Lab
from research_loop.ledger import Ledger
from research_loop.records import Experiment

REFS = "refs/research-loop/"
HEADS = "refs/heads/autoresearch/"


def ref_of(n: int) -> str:
    return f"{REFS}{n}"


def free_tag(repository: Repository, today: date | None = None) -> str:
    """The date, like nov23; with a number behind it when a branch of that name is there."""
    day = (today or date.today()).strftime("%b%d").lower()
    taken = repository.refs(HEADS)
    tag, i = day, 1
    while HEADS + tag in taken:
        i += 1
        tag = f"{day}-{i}"
    return tag


class Branch:
    """Follows the ledger; every step can be repeated, so a start after kill -9 just follows again."""

    def __init__(self, lab: Lab, repository: Repository, ledger: Ledger, note: Callable[[str], None]) -> None:
        self._lab, self._repository, self._ledger, self._note = lab, repository, ledger, note

    @property
    def name(self) -> str:
        return f"autoresearch/{self._ledger.noted('tag')}"

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.name}"

    def follow(self) -> None:
        """Moves the branch to the champion, and the lab's own files when nobody has edited them since."""
        kept = [e for e in self._ledger.history.experiments if e.kept]
        if not kept:
            return
        self._move(kept)
        if len(kept) > 1:
            self._update_files(kept[-2], kept[-1])

    def _move(self, kept: list[Experiment]) -> None:
        tip, champion = self._repository.tip(self.ref), kept[-1].commit
        if tip == champion:
            return
        if tip is not None and tip not in {e.commit for e in kept}:
            self._repository.point(f"{REFS}saved/{tip}", tip)
            self._note(f"{self.name} was moved to {tip[:7]} by somebody: kept as {REFS}saved/{tip}, and moved back")
        self._repository.point(self.ref, champion, tip)

    def _update_files(self, before: Experiment, champion: Experiment) -> None:
        editable = self._lab.config.editable
        if self._lab.read(editable) == self._repository.files(before.commit, editable):
            self._lab.write(self._repository.files(champion.commit, editable))

    def check_pins(self) -> None:
        """Compares the locked files and lab.toml with the baseline's. Raises PinError: scores would not compare."""
        baseline = self._ledger.history.baseline
        if baseline is None:
            return
        locked = self._lab.config.locked
        committed = self._repository.files(baseline.commit, locked)
        changed = [name for name, data in self._lab.read(locked).items() if data != committed[name]]
        if changed:
            cure = f"`git show {self.name}:./{changed[0]} > {changed[0]}` there puts it back; a new lab may differ"
        elif self._ledger.noted(f"task:{baseline.n}") not in (None, self._lab.config.task_digest):
            changed, cure = [CONFIG], "put its [task] and budget back, or make a new lab for the new ones"
        if changed:
            raise PinError(
                f"{self._lab.root / changed[0]}: changed since the baseline, scores would not compare: {cure}"
            )
