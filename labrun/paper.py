"""`--paper`: a trial that breaks a rule of the Raft paper fails, seen on the wire (labwatch.paper has the rules).

A Watch listens to the journal of one trial, in whichever way that runs. `check` raises PaperBroken, once the test
itself has passed; what the lab's own checks found comes first.
"""

from __future__ import annotations

from labwatch import Broken, Journal, Monitor

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
    """The paper's rules over one trial of `test`, whose journal is about to begin."""

    def __init__(self, journal: Journal, test: str, *, virtual: bool) -> None:
        self._journal = journal
        self._monitor = Monitor(durable=test.endswith(DURABLE), virtual=virtual)
        journal.listen(self._monitor.see, self._monitor.kinds)

    @property
    def broken(self) -> list[Broken]:
        return self._monitor.broken

    def lines(self) -> list[str]:
        """What is to be said besides: each broken rule, hints, and what was not judged and why."""
        said = [f"broken: {broken.message} (at {broken.time:.3f} s)" for broken in self.broken]
        said += [f"hint: {hint}" for hint in self._monitor.hints]
        return [*said, *self._monitor.unchecked]

    def check(self) -> None:
        """Raises PaperBroken; and RuntimeError for a defect of the watching itself."""
        if self._journal.failures:
            raise RuntimeError("the paper's rules could not be judged: please report") from self._journal.failures[0]
        if self.broken:
            raise PaperBroken(self.broken)
