"""Where simulated threads are, in the words of the program: its own frames, without labsim's and the library's."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labsim.scheduler import SimThread

__all__ = ["describe_stack", "describe_threads", "frames_of_program", "is_library", "place_in_program"]

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
    """The program's frames, outermost first as in a traceback, indented to stand below a thread's name."""
    lines = []
    for place, source in (_place(f, f.f_lineno) for f in reversed(frames_of_program(frame))):
        lines.append(f"      {place}")
        if source:
            lines.append(f"        {source}")
    return "\n".join(lines) or "      (nowhere in the program)"


def describe_threads(threads: Iterable[SimThread], current: SimThread) -> str:
    """For each thread its name, what it waits for, and where."""
    parts = []
    for thread in threads:
        frame = sys._getframe() if thread is current else thread.greenlet.gr_frame
        parts.append(f"  {thread.name} {_waiting(thread, frame)}\n{describe_stack(frame)}")
    return "\n\n".join(parts)


# Between a thread's beginning and its own code; a pool's worker has none of its own while it waits for work.
_BEGINNINGS = frozenset({"Scheduler._run", "Thread.run", "_worker"})


def _waiting(thread: SimThread, frame: FrameType | None) -> str:
    """What the thread waits for: the call that its own code made, and the lock below it all."""
    if frame is None:
        return "has not begun to run"
    call: FrameType | None = None
    for f in _outwards(frame):
        if f.f_code.co_qualname in _BEGINNINGS or not (_is_labsim(f) or is_library(f.f_code.co_filename)):
            break
        call = f
    if call is None:
        return "runs"
    called = call.f_code.co_qualname.rpartition("<locals>.")[2]
    what = f"waits in {called}" if thread.waits_for is not None or thread.timer else f"is in {called}"
    if called == "Thread.join":
        what += f" of {call.f_locals['self'].name}"
    lock = thread.waits_for
    holder = lock.holder() if lock is not None else None
    if holder is None:
        return what
    if holder is not thread:
        return f"{what}; {lock} is held by {holder.name}"
    if _is_labsim(call):  # the program's own lock, not one that a Condition made to wait on
        return f"{what}; {lock} is held by the thread itself, and would have to be an RLock"
    return what
