"""The names of the paper's messages, in a solution's classes: Figure 2, and 13 for snapshots.

A field is found by its name there, whatever the case and the underscores (`PrevLogIndex`, `prev_log_index`). The
methods are RequestVote, AppendEntries and InstallSnapshot; others are none of the paper's.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

__all__ = ["FIGURE", "METHODS", "SPELT", "Fields", "kind_of", "plainly"]

FIGURE = {
    "vote": ("term", "candidateid", "lastlogindex", "lastlogterm"),
    "vote reply": ("term", "votegranted"),
    "append": ("term", "leaderid", "prevlogindex", "prevlogterm", "entries", "leadercommit"),
    "append reply": ("term", "success"),
    "install": ("term", "leaderid", "lastincludedindex", "lastincludedterm", "offset", "data", "done"),
    "install reply": ("term",),
    "entry": ("term", "command"),
    "other": ("term",),
}
"""What the paper's messages hold: Figures 2 and 13."""

METHODS = {"requestvote": "vote", "appendentries": "append", "installsnapshot": "install"}

SPELT = {
    "candidateid": "CandidateId",
    "lastlogindex": "LastLogIndex",
    "lastlogterm": "LastLogTerm",
    "votegranted": "VoteGranted",
    "prevlogindex": "PrevLogIndex",
    "prevlogterm": "PrevLogTerm",
    "leadercommit": "LeaderCommit",
    "lastincludedindex": "LastIncludedIndex",
}


def plainly(name: str) -> str:
    """A name as it is compared."""
    return name.replace("_", "").lower()


def kind_of(method: str) -> str:
    """Of a method as it is called, "Raft.AppendEntries": a value of METHODS, or "other"."""
    return METHODS.get(plainly(method.rpartition(".")[2]), "other")


class Fields:
    """Where the fields of one of the paper's messages are in a solution's class."""

    def __init__(self, cls: type, kind: str) -> None:
        self.name = cls.__name__
        self.entry = Fields(entry, "entry") if kind == "append" and (entry := _class_of_entries(cls)) else None
        self._places: dict[str, tuple[str, Any]] = {}  # by name in FIGURE: the field's own, and its default
        self.own: list[tuple[str, Any]] = []  # those that the paper does not have, likewise
        self._no_commits: set[str] = set()  # those of them that went beyond what their sender could know
        for f in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
            default = None if f.default is dataclasses.MISSING else f.default
            if plainly(f.name) in FIGURE[kind]:
                self._places[plainly(f.name)] = f.name, default
            elif not f.name.startswith("_"):
                self.own.append((f.name, default))

    def has(self, name: str) -> bool:
        return name in self._places

    def of(self, message: Any, name: str, kind: type) -> Any:
        """A field's value; None if there is none of that type. What was not sent holds its default."""
        place = self._places.get(name)
        if place is None or type(message) is not dict:
            return None
        value = message.get(*place)
        return value if type(value) is kind else None

    def place(self, name: str) -> tuple[str, Any]:
        """The field's own name, and its default."""
        return self._places[name]

    def says_more(self, message: Any) -> bool:
        """Whether a field of the solution's own holds something else than unless it is set; bools do not count."""
        return type(message) is dict and any(
            (value := message.get(name, default)) != default and type(value) is not bool for name, default in self.own
        )

    def commit(self, message: Any, known: int) -> int:
        """What fields of the solution's own may say is committed, where the one who says it knows of no more."""
        found = 0
        if type(message) is dict:
            for name, default in self.own:
                value = message.get(name, default)
                if type(value) is bool or value == default or name in self._no_commits:
                    continue
                if type(value) is not int:
                    found = known
                elif value > known:
                    self._no_commits.add(name)  # it means another thing
                else:
                    found = max(found, value)
        return found


def _class_of_entries(cls: type) -> type | None:
    """The dataclass of what AppendEntries carries, if its annotation tells."""
    for f in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if plainly(f.name) == "entries":
            try:
                hints = [typing.get_type_hints(cls)[f.name]]
            except Exception:  # whatever the solution has written there
                return None
            while hints:
                hint = hints.pop()
                if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                    return hint
                hints += typing.get_args(hint)
    return None
