"""Where simulated threads are, in the words of the program: its own frames, without labsim's and the library's."""

from __future__ import annotations

import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from labsim.errors import OwnLock
from labsim.holding import Name, Taken, name_of, taken

if TYPE_CHECKING:
    from labsim.scheduler import SimThread, Waitable

__all__ = ["describe_stack", "describe_threads", "frames_of_program", "is_library", "own_locks", "place_in_program"]

LABSIM = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = tuple(
    os.path.join(os.path.realpath(sysconfig.get_path(name)), "")
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


@lru_cache(maxsize=4096)
def is_library(path: str) -> bool:
    """Whether a source file is the standard library's or an installed package's (or has no file at all)."""
    return not path or path.startswith("<") or os.path.realpath(path).startswith(_LIBRARY)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames from the innermost to where the world begins; what called the world is not the program's."""
    while frame is not None and not (frame.f_code.co_name == "_inside" and _is_labsim(frame)):
        yield frame
        frame = frame.f_back


def _is_labsim(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(LABSIM)


def frames_of_program(frame: FrameType | None) -> list[FrameType]:
    """The program's own frames, innermost first."""
    return [f for f in _outwards(frame) if not _is_labsim(f) and not is_library(f.f_code.co_filename)]


def place_in_program(frame: FrameType | None) -> tuple[str, str]:
    """The innermost place in the program, as `file:line in function` and its source line."""
    frames = frames_of_program(frame)
    return _place(frames[0], frames[0].f_lineno) if frames else ("a place without source", "")


def _place(frame: FrameType, line: int) -> tuple[str, str]:
    code = frame.f_code
    source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    return f"{code.co_filename}:{line} in {code.co_qualname}", source


def describe_stack(frame: FrameType | None) -> str:
    """The program's frames, outermost first as in a traceback, indented to stand below a thread's name.

    Those of modules that hide from tracebacks are left out, unless there are no others.
    """
    frames = frames_of_program(frame)
    frames = [f for f in frames if not _hides(f)] or frames
    lines = []
    for place, source in (_place(f, f.f_lineno) for f in reversed(frames)):
        lines.append(f"      {place}")
        if source:
            lines.append(f"        {source}")
    return "\n".join(lines) or "      (nowhere in the program)"


def describe_threads(threads: Iterable[SimThread], current: SimThread, describe: Callable[[Any], str]) -> str:
    """For each thread its name, what it waits for, which locks it holds meanwhile, and where it is.

    Threads of which all that is the same stand together, and last those in which nothing but hidden code runs.
    `describe` says of an object which one it is ("server 2"), or "".
    """
    innermost = {t: sys._getframe() if t is current else t.frame for t in threads}
    seen = _Seen(innermost, {t: frames_of_program(frame) for t, frame in innermost.items()}, describe)
    names: dict[str, list[str]] = {}
    hidden = []
    for thread, frame in innermost.items():
        if seen.frames[thread] and all(map(_hides, seen.frames[thread])):
            hidden.append(thread.name)
        else:
            state = f"{_Waiting(thread, seen)}\n{describe_stack(frame)}"
            names.setdefault(state, []).append(seen.name(thread))
    parts = [f"  {_list(those)} {state}" for state, those in names.items()]
    if hidden:
        parts.append(f"  and threads of the harness alone: {_list(hidden).removesuffix(' each')}")
    return "\n\n".join(parts)


def own_locks(threads: Iterable[SimThread], current: SimThread, describe: Callable[[Any], str]) -> Iterator[OwnLock]:
    """The threads that wait for a lock which they surely hold themselves."""
    for thread in threads:
        frame = sys._getframe() if thread is current else thread.frame
        frames, lock = frames_of_program(frame), thread.waits_for
        if lock is None or lock.holder() is not thread:
            continue
        for by in taken(frames, lock):
            if by.lock is lock and by.surely_held and by.frame is not frames[0]:
                seen = _Seen({thread: frame}, {thread: frames}, describe)
                name = _Waiting(thread, seen).called(by.name, lock)
                yield OwnLock(seen.name(thread), name, _spot(frames[0]), _spot(by.frame))
                break


def _spot(frame: FrameType) -> tuple[str, int, str]:
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname


class _Seen(NamedTuple):
    """All threads as they stand."""

    innermost: Mapping[SimThread, FrameType | None]
    frames: Mapping[SimThread, list[FrameType]]  # of the program
    describe: Callable[[Any], str]

    def name(self, thread: SimThread) -> str:
        """The program's; if it has given none, the object whose method the thread runs, and that."""
        if _UNNAMED.fullmatch(thread.name):
            for frame in reversed(self.frames[thread]):
                owner = "" if _hides(frame) else self.describe(frame.f_locals.get("self"))
                if owner:
                    return f"{owner} {frame.f_code.co_name}"
        return thread.name


_UNNAMED = re.compile(r"Thread-\d+( \(.*\))?|thread \d+|ThreadPoolExecutor-\d+_\d+|labrpc handler")


def _list(names: list[str]) -> str:
    different = list(dict.fromkeys(names))
    if len(names) == 1:
        return names[0]
    if len(different) == 1:
        return f"{names[0]} ({len(names)} threads) each"
    shown = ", ".join(different[:_NAMES])
    return f"{shown}{' ...' if len(different) > _NAMES else ''} ({len(names)} threads) each"


_NAMES = 4  # of threads that stand together


# Between a thread's beginning and its own code; a pool's worker has none of its own while it waits for work.
_BEGINNINGS = frozenset({"Scheduler._run", "Thread._bootstrap_inner", "Thread.run", "_worker"})


class _Waiting:
    """What a thread waits for, in words: the call that its own code made, and the lock below it all."""

    def __init__(self, thread: SimThread, seen: _Seen) -> None:
        self._thread = thread
        self._seen = seen
        self._frame = seen.innermost[thread]
        self._frames = seen.frames
        self._describe = seen.describe

    def __str__(self) -> str:
        thread, call, what = self._thread, self._call(), self.briefly()
        if call is None:
            return what
        if what.endswith("Thread.join"):
            return f"{what} of {call.f_locals['self'].name}{self._meanwhile()}"
        lock = thread.waits_for
        if lock is None or _hides(call):
            return what + self._meanwhile()
        by = self._taken_by(lock.holder(), lock)
        state = self._state(lock.holder(), by)
        if not (state or _is_labsim(call)):  # a lock that the library has made to wait on says nothing
            return what + self._meanwhile()
        frames = [*self._frames[thread], *self._frames.get(lock.holder() or thread, [])]
        name = self.called(by.name if by is not None else name_of(lock, frames), lock)
        return f"{what} of {name}{self._meanwhile()}{state}"

    def briefly(self) -> str:
        """What it waits in."""
        call = self._call()
        if self._frame is None:
            return "has not begun to run"
        if call is None:
            return "runs"
        called = call.f_code.co_qualname.rpartition("<locals>.")[2].replace("Ordering.", "Lock.")
        waits = self._thread.waits_for is not None or self._thread.timer
        return f"waits in {called}" if waits else f"is in {called}"

    def _call(self) -> FrameType | None:
        call: FrameType | None = None
        for frame in _outwards(self._frame):
            code = frame.f_code
            inside = _is_labsim(frame) or is_library(code.co_filename) or _hides(frame)
            if code.co_qualname in _BEGINNINGS or not inside:
                break
            call = frame
        return call

    def _meanwhile(self) -> str:
        """The other locks that the thread holds."""
        lock = self._thread.waits_for
        held = {
            name: None
            for t in taken(self._frames[self._thread], lock)
            if t.surely_held and t.lock is not lock and t.lock.holder() is self._thread
            if (name := self.called(t.name, t.lock))
        }
        return f" while holding {' and '.join(held)}" if held else ""

    def _taken_by(self, holder: SimThread | None, lock: Waitable) -> Taken | None:
        """Where the thread that has the lock has taken it, as far as can be seen."""
        found = [t for t in taken(self._frames.get(holder, []), lock) if t.lock is lock] if holder is not None else []
        return min(found, key=lambda t: not t.surely_held, default=None)

    def _state(self, holder: SimThread | None, by: Taken | None) -> str:
        """Who has the lock that the thread waits for.

        That its own thread has taken it need not be a mistake: one that a thread takes twice, and another releases in
        between, is a gate.
        """
        if holder is None:
            return ""
        place = f" ({_place(by.frame, by.line)[0]})" if by is not None else ""
        if by is not None and by.surely_held:
            if holder is not self._thread:
                which = f", which {_Waiting(holder, self._seen).briefly()}" if holder in self._seen.innermost else ""
                return f"; it is held by {self._seen.name(holder)}{place}{which}"
            return f"; it is held by the thread itself{place}, and would have to be an RLock"
        if holder is not self._thread:
            name = self._seen.name(holder) if holder in self._seen.innermost else holder.name
            return f"; it was taken by {name}{place} and has not been released"
        if by is not None and by.frame is not self._frames[holder][0]:
            return (
                f"; it was taken by the thread itself{place} and has not been released: it would have to be an RLock, "
                "unless another thread is to release it"
            )
        return ""

    def called(self, name: Name | None, lock: object) -> str:
        if name is None:
            return str(lock)
        owner = self._describe(name.owner) if name.owner is not None else ""
        return f"{name.text} of {owner}" if owner else f"{name.text} ({lock})"


def _hides(frame: FrameType) -> bool:
    """Whether its module hides from tracebacks, as pytest has it: a network's, or a harness's."""
    return bool(frame.f_globals.get("__tracebackhide__")) and not _is_labsim(frame)
