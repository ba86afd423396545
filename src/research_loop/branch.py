"""What git shows of the ledger: the branch at the champion, a ref an experiment, the lab's own files."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date

from research_loop.files import remove_leftovers
from research_loop.history import Repository
from research_loop.lab import CONFIG, Lab
from research_loop.ledger import Ledger
from research_loop.plain import plain
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


def branch_name(ledger: Ledger) -> str | None:
    """autoresearch/<tag>; None until a baseline is kept."""
    tag = ledger.noted("tag")
    return f"autoresearch/{tag}" if tag else None


class Branch:
    """Follows the ledger; every step can be repeated, so a start after kill -9 just follows again."""

    def __init__(self, lab: Lab, repository: Repository, ledger: Ledger, note: Callable[[str], None]) -> None:
        self._lab, self._repository, self._ledger, self._note = lab, repository, ledger, note
        self._said_foreign = False

    @property
    def name(self) -> str | None:
        """Chosen when the baseline is kept; None before."""
        return branch_name(self._ledger)

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.name}"

    def warn_of_uncommitted_work(self) -> None:
        """A run sees commits; what the user changed since and did not commit is not in it."""
        root = self._lab.root
        named = (*self._lab.config.editable, *self._lab.config.locked, CONFIG)
        own = {os.path.relpath((root / path).resolve(), root) for path in named} | set(named)
        others = [path for path in self._repository.dirty() if path not in own]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            self._note(f"note: {plain(others[0])}{more} changed but not committed: runs do not see that")

    def recover(self, experiments: tuple[Experiment, ...]) -> None:
        """Removes what a killed git or a killed write left, and does what was decided but not done."""
        for path in self._lab.config.editable:
            remove_leftovers(self._lab.root / path)
        refs = self._repository.refs(REFS)
        missing = [e for e in experiments if refs.get(ref_of(e.n)) != e.commit]
        ours = [self.ref] if self.name else []
        self._repository.clear_stale_locks([*ours, *(ref_of(e.n) for e in (*missing, *experiments[-1:]))])
        for experiment in missing:
            self.mark(experiment)
        self.follow()

    def mark(self, experiment: Experiment) -> None:
        """The experiment's ref. What another lab of this repository had there is saved first."""
        self._point(ref_of(experiment.n), experiment.commit)

    def follow(self) -> None:
        """Brings the champion into the lab's own files, and then the branch to it: so the branch says it is done."""
        kept = self._ledger.history.kept
        if not kept:
            return
        if self._ledger.noted("tag") is None:
            self._ledger.note("tag", free_tag(self._repository))
        tip, champion = self._repository.tip(self.ref), kept[-1]
        if tip == champion.commit:
            return
        followed = next((e for e in self._ledger.history.experiments if e.commit == tip), None)
        before = followed or (kept[-2] if len(kept) > 1 else None)
        if before is not None:
            for path in self._replace_files(before, champion):
                cure = f"`research-loop restore {champion.n}` has the champion's"
                self._note(f"{path} was edited meanwhile and is left as it is: {cure}")
        if tip is not None and followed is not None:
            self._repository.point(self.ref, champion.commit, tip)
        else:
            self._point(self.ref, champion.commit)

    def put_back(self, tried: Experiment) -> None:
        """The champion's code in place of a discarded one, where the lab's own files hold that."""
        champion = self._ledger.history.champion
        if champion is not None:
            self._replace_files(tried, champion)

    def _replace_files(self, old: Experiment, new: Experiment) -> list[str]:
        """Each editable file that is still `old`'s becomes `new`'s; one that was edited since or is gone stays so and
        is returned."""
        old_files = self._repository.files(old.commit, self._lab.config.editable)
        new_files = self._repository.files(new.commit, self._lab.config.editable)
        edited = []
        for path, data in old_files.items():
            present = self._lab.root / path
            found = present.read_bytes() if present.is_file() else None
            if found == data:
                self._lab.write({path: new_files[path]})
            elif found != new_files[path]:
                edited.append(path)
        return edited

    def _point(self, ref: str, commit: str) -> None:
        tip = self._repository.tip(ref)
        if tip == commit:
            return
        if tip is not None:
            self._repository.point(f"{REFS}saved/{tip}", tip)
            if not self._said_foreign:
                self._note(
                    f"{ref} held {tip[:7]}, which is none of this lab's: saved as {REFS}saved/{tip}; more like it too"
                )
            self._said_foreign = True
        self._repository.point(ref, commit, tip or "")
