"""Where things stand in a solution's text: its handlers, its Calls, the fields that it sets and reads. Nothing is run.

source = Source([Path("myraft.py")])
source.head("AppendEntries")        # myraft.py:90
source.calls("AppendEntries")       # where it calls that
source.sets("voteGranted")          # where an attribute of that name is given a value
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from labwatch.names import plainly

__all__ = ["CallSite", "Complaint", "Line", "OwnLock", "Source"]


class Line(NamedTuple):
    """A line of a solution, and the function in which it stands, if any."""

    file: str
    number: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


class CallSite(NamedTuple):
    """A line of the solution that calls another server, and the locks that it has been seen to hold then."""

    method: str
    line: Line
    server: int
    held: tuple[str, ...]  # the names of locks, such as "mu of server 2"


class OwnLock(NamedTuple):
    """A thread that waits for a lock which it holds itself."""

    thread: str
    lock: str
    at: Line
    held_at: Line


class Complaint(NamedTuple):
    """A warning of labgob's: "undeclared" or "used", the class and the field, and the line that caused it."""

    kind: str
    cls: str
    field: str
    line: Line


class Source:
    """The text of some Python files. One that cannot be read or parsed has none."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._heads: dict[str, Line] = {}
        self._calls: dict[str, list[Line]] = defaultdict(list)
        self._sets: dict[str, list[Line]] = defaultdict(list)
        self._reads: dict[str, list[Line]] = defaultdict(list)
        for file in files:
            try:
                tree = ast.parse(file.read_bytes())
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue
            self._see(tree, file.name, "")

    def _see(self, node: ast.AST, file: str, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            inside = function
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inside = child.name
                self._heads.setdefault(child.name, Line(file, child.lineno, child.name))
            elif isinstance(child, ast.Attribute):
                where = self._reads if isinstance(child.ctx, ast.Load) else self._sets
                where[child.attr].append(Line(file, child.lineno, function))
            elif isinstance(child, ast.Constant) and isinstance(child.value, str) and "." in child.value:
                method = child.value.rpartition(".")[2]
                if method.isidentifier():
                    self._calls[plainly(method)].append(Line(file, child.lineno, function))
            self._see(child, file, inside)

    def head(self, *names: str) -> Line | None:
        """Where the first of these functions that there is begins."""
        return next((self._heads[name] for name in names if name in self._heads), None)

    def calls(self, method: str) -> list[Line]:
        """Where a method is named as Call wants it, "Raft.AppendEntries"."""
        return self._calls.get(plainly(method), [])

    def sets(self, attribute: str) -> list[Line]:
        return self._sets.get(attribute, [])

    def reads(self, attribute: str) -> list[Line]:
        return self._reads.get(attribute, [])
