"""What is reported of a data race: the two accesses, and what to do about them. `labsim.race` finds them."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["Access", "Race", "shorter", "shown"]


@dataclass(frozen=True)
class Access:
    """One side of a race."""

    write: bool
    thread: str
    file: str
    line: int
    function: str
    source: str
    stack: list[str]  # from the access outwards, each frame as "file:line in function"
    locks: list[str]  # that the thread held
    started: str  # where its thread was started, "" for the main thread

    @property
    def place(self) -> str:
        return shown((self.file, self.line, self.function))


@dataclass(frozen=True)
class Race:
    """Two accesses in the order in which they came, by chance."""

    variable: str  # such as "Raft.log"
    owner: str  # which one, in the words of the world's `describe`; perhaps ""
    kind: str  # "flag", "container" or "variable"
    time: float  # s of the world's time, of the second access
    first: Access
    second: Access

    @property
    def summary(self) -> str:
        """One line, whichever access came first: the variable, and the two places, the one without a lock before."""
        accesses = sorted(self._accesses(), key=lambda a: (bool(a.locks), a.file, a.line))
        places = " / ".join(f"{'write' if a.write else 'read'} in {a.function}, line {a.line}" for a in accesses)
        return f"{self.variable}: {places}"

    def plainness(self) -> tuple[int, int]:
        """For sorting: first what is easiest to understand, a variable that one side accesses without any lock."""
        unlocked = sum(not a.locks for a in self._accesses())
        return self.kind == "flag", (2, 0, 1)[unlocked]

    def _accesses(self) -> tuple[Access, Access]:
        return self.first, self.second

    def __str__(self) -> str:
        lines = [f"DATA RACE on {self.variable}{f' of {self.owner}' if self.owner else ''}"]
        for access, when in zip(self._accesses(), ("", "unordered with the "), strict=True):
            held = f"holding {' and '.join(access.locks)}" if access.locks else "holding no lock"
            lines += [
                f"  {when}{'write' if access.write else 'read'} by {access.thread}, {held}:",
                f"    {access.place}",
                f"      {access.source}",
                *(f"    called at {place}" for place in access.stack[1:]),
            ]
        started = {a.thread: a.started for a in self._accesses()}
        lines += [f"  {thread} was started at {place}" for thread, place in started.items() if place]
        return "\n".join([*lines, f"  {self._advice()}"])

    def _advice(self) -> str:
        unlocked = [a for a in self._accesses() if not a.locks]
        if len(unlocked) == 1:
            advice = f"Take the lock for the access in {unlocked[0].function}, too."
        elif unlocked:
            advice = "Let both hold the same lock."
        else:
            advice = "Each holds a lock, but not the same one: only one lock can guard a variable."
        if self.kind == "flag":
            return f"{advice} For a flag that one thread sets and others look at, a threading.Event does without."
        if self.kind == "container":
            return f"{advice} What must outlive the lock is to be a copy that was made under it."
        return advice


def shown(place: tuple[str, int, str]) -> str:
    """A file, a line and a function, in one line."""
    return f"{shorter(place[0])}:{place[1]} in {place[2]}"


def shorter(path: str) -> str:
    """A path relative to where we are, if it lies below."""
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here)
