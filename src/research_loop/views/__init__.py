"""Views read the ledger and watch the loop; they decide nothing."""

from __future__ import annotations

from research_loop.records import Experiment, History, Run
from research_loop.tasks import Progress


class Quiet:
    """A watcher that says nothing; views override what they show."""

    def opened(self, history: History) -> None:
        """The lab is open and in line with its ledger."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def started(self, experiment: Experiment, run: Run) -> None:
        """A run began."""

    def progressed(self, progress: Progress) -> None:
        """A run printed news, at most a few times a second."""

    def ended(self, experiment: Experiment) -> None:
        """A run of it is over; what that means is told next."""

    def planned(self, what: str) -> None:
        """What would come next if the open experiment is discarded."""

    def decided(self, experiment: Experiment, history: History) -> None:
        """A verdict is in the ledger."""

    def changed(self, experiment: Experiment, history: History) -> None:
        """A decided experiment was run again: its score is another, perhaps its verdict, too."""

    def closed(self) -> None:
        """The session ends."""
