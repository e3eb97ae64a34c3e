"""`--paper`: a trial that breaks a rule of the Raft paper fails, seen on the wire (labwatch.paper has the rules).

A Watch listens to the journal of one trial, in whichever way that runs. `check` raises PaperBroken, once the test
itself has passed; what the lab's own checks found comes first. Without the option the rules are judged afterwards, over
the journal of a trial that is the only one of its test, or that has failed: then they warn, or explain.
"""

from __future__ import annotations

from labwatch import Broken, Journal, Monitor
from labwatch.paper import judge

__all__ = ["PaperBroken", "Watch"]

__tracebackhide__ = True

DURABLE = ("2C", "2D")  # the parts that ask for saving before answering


class PaperBroken(Exception):
    """The lab's checks have passed, but the paper forbids what the solution did."""

    cause = "paper"

    def __init__(self, broken: list[Broken]) -> None:
        super().__init__(broken[0].message)
        self.broken = broken


class Watch:
    """The paper's rules over one trial of `test`."""

    def __init__(self, journal: Journal, test: str, *, virtual: bool) -> None:
        self._journal = journal
        self._defect: Exception | None = None  # of the rules themselves
        self._monitor = Monitor(durable=test.endswith(DURABLE), virtual=virtual)

    @classmethod
    def live(cls, journal: Journal, test: str, *, virtual: bool) -> Watch:
        """While it happens: the journal is about to begin."""
        watch = cls(journal, test, virtual=virtual)
        journal.listen(watch._monitor.see, watch._monitor.kinds)
        return watch

    @classmethod
    def afterwards(cls, journal: Journal, test: str, *, virtual: bool) -> Watch | None:
        """Over the journal of a trial that has ended; None if events of it are gone, as the rules need all."""
        if journal.dropped:
            return None
        watch = cls(journal, test, virtual=virtual)
        try:
            judge(journal, watch._monitor)
        except Exception as e:
            watch._defect = e
        return watch

    @property
    def broken(self) -> list[Broken]:
        return self._monitor.broken

    @property
    def leader(self) -> int | None:
        """Who has sent as the leader of the newest term, if anybody."""
        return self._monitor.leader

    def state(self) -> int:
        """A number for what the cluster is in, as far as it shows: see Monitor.state."""
        return self._monitor.state()

    @property
    def unchecked(self) -> list[str]:
        return self._monitor.unchecked

    def lines(self) -> list[str]:
        """What is to be said besides: each broken rule, hints, and what was not judged and why."""
        said = [f"broken: {broken.message} (at {broken.time:.3f} s)" for broken in self.broken]
        said += [f"hint: {hint}" for hint in self._monitor.hints]
        if self._defect is not None:
            said.append(f"not judged to the end, which is a defect of the rules; please report it: {self._defect!r}")
        return [*said, *self._monitor.unchecked]

    def check(self) -> None:
        """Raises PaperBroken; and RuntimeError for a defect of the watching itself."""
        if self._journal.failures:
            raise RuntimeError("the paper's rules could not be judged: please report") from self._journal.failures[0]
        if self.broken:
            raise PaperBroken(self.broken)
