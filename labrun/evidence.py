"""What is gathered of a failing trial for its likely causes, besides the journal (labwatch.causes tells them).

sites = Sites(journal)       # listens from now on: which lines call other servers, and under which locks
causes_of(...)               # at most three lines
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from labrpc import Request
from labrun import HOME
from labrun.solution import Solution
from labrun.text import shown
from labwatch import Broken, Journal
from labwatch.source import CallSite, Complaint, Line, OwnLock, Source
from raft.threads import Place, held_at

__all__ = ["Sites", "causes_of"]

LOOKS = 50  # at a place that calls, while no lock was seen there
DEEP = 4  # frames by which places are told apart
MOST_FILES = 100


class Sites:
    """The lines of a solution that call, each with the locks that were held there once, if any ever was.

    A place is looked at only a few times, so that a Call costs next to nothing. Threads share this without a lock: what
    two of them do at once is done twice at the most.
    """

    def __init__(self, journal: Journal) -> None:
        self.found: list[CallSite] = []
        self._looks: dict[tuple[tuple[CodeType, int], ...], int] = {}
        journal.calls = self._see

    def _see(self, request: Request, server: int) -> None:
        frame = _caller(sys._getframe(1))
        if frame is None:
            return
        place = tuple((f.f_code, f.f_lineno) for f in _outwards(frame, DEEP))
        looks = self._looks.get(place, 0)
        if looks >= LOOKS:
            return
        held = tuple(held_at(frame))
        self._looks[place] = LOOKS if held else looks + 1
        if held or not looks:
            line = _line(Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno))
            self.found.append(CallSite(request.method, line, server, held))


def _caller(frame: FrameType | None) -> FrameType | None:
    """The frame that has called the network; None if that is not one of the solution's, as in isolated servers."""
    while frame is not None and frame.f_globals.get("__name__") != "labrpc":
        frame = frame.f_back
    while frame is not None and frame.f_globals.get("__name__") == "labrpc":
        frame = frame.f_back
    return None if frame is None or frame.f_globals.get("__tracebackhide__") else frame


def _outwards(frame: FrameType | None, most: int) -> Iterable[FrameType]:
    while frame is not None and most:
        yield frame
        frame, most = frame.f_back, most - 1


def _line(place: Any) -> Line:
    """Of a place in raft.threads, or in labsim."""
    file, line, function = (place.file, place.line, place.function) if isinstance(place, Place) else place
    return Line(Path(file).name, line, function)


def causes_of(
    journal: Journal,
    solution: Solution,
    *,
    sites: Sites | None,
    own_locks: Iterable[Any],  # of raft.threads or of labsim
    seen: Sequence[warnings.WarningMessage],
    broken: Sequence[Broken],
) -> tuple[str, ...]:
    """What labwatch.causes says of a trial that has failed. `seen`: the warnings that were given while it ran."""
    from labwatch.causes import Evidence, likely  # here, as few trials need it

    evidence = Evidence(
        journal,
        Source(_files(solution)),
        sites=sites.found if sites else (),
        own_locks=[OwnLock(own.thread, own.lock, _line(own.at), _line(own.held_at)) for own in own_locks],
        complaints=[complaint for w in seen if (complaint := _complaint(w)) is not None],
        broken=broken,
    )
    return tuple(map(shown, likely(evidence)))


def _complaint(w: warnings.WarningMessage) -> Complaint | None:
    kind = getattr(w.message, "kind", "")
    if not kind or type(w.message).__name__ != "LabgobWarning":
        return None
    about = w.message
    return Complaint(
        kind, getattr(about, "cls", ""), getattr(about, "field", ""), Line(Path(w.filename).name, w.lineno)
    )


def _files(solution: Solution) -> list[Path]:
    """All that the solution consists of: a package, or its file and whatever of its own that imports."""
    if solution.package:
        return sorted(solution.root.rglob("*.py"))[:MOST_FILES]
    found: dict[Path, None] = {}
    pending = [solution.file]
    while pending and len(found) < MOST_FILES:
        file = pending.pop()
        if file not in found and solution.owns(str(file)):
            found[file] = None
            pending += _imported(file, [solution.home, HOME])
    return list(found)


def _imported(file: Path, homes: list[Path]) -> list[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names += [module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)]
    places = [home.joinpath(*name.split(".")) for name in names for home in homes]
    return [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
