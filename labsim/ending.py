"""How a simulated thread is made to end, whatever its code does about it.

`Ended` is raised in a thread by every scheduling call of a world that is over. It unwinds ordinary code, running its
`finally` blocks. But a loop such as `while True: try: q.get() except: pass` swallows it for ever, and one that never
calls the scheduler does not even meet it. For those there is `insist`, which has CPython itself raise `Interrupt` at
the next safe point of an OS thread (PyThreadState_SetAsyncExc).

One such exception can be swallowed as well, so each posts the next as it comes into being. A handler that catches one
meets the next at its first call or jump, now outside its own `try`; every loop has a backward jump outside the `try`
blocks within it. So the code unwinds for certain, and at once. Two things make that work, and a reader must know them
to change anything here:

- The next exception is posted by C code alone (a partial of a ctypes function as `__init__`). Python code would be
  hit by what it just posted.
- Whoever takes delivery first executes `Interrupt.__init__ = QUIET`, a plain store at which nothing can be raised, and
  then catches one last Interrupt, now a quiet one, which takes the place of whatever was posted and is raised no later
  than as the call of `post`, which is C, returns:

      Interrupt.__init__ = QUIET
      try:
          post(os_thread, Interrupt)
      except Interrupt:
          pass

  After that nothing is under way. It stands where it is needed, as a function of its own would be hit at its first
  step. (PyThreadState_SetAsyncExc can also take back what is posted. But CPython 3.11 then believes for ever that
  something is to be delivered, and with a trace or profile function waits for it at the beginning of the next function
  without end.)

Trace functions written in Python would be hit, too, and CPython drops those that raise; `untraced` keeps them out.

CPython 3.12 alone can be trapped: it takes an exception at a backward jump for one of the instruction before the jump's
target, which may be inside the very `try` that is being left. There a monitor raises at each jump as well.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from types import CodeType, FunctionType, MethodType
from typing import Any

from greenlet import GreenletExit

from labsim.stacks import frames_of_program

__all__ = ["QUIET", "Ended", "Interrupt", "ends_the_run", "insist", "post", "relax", "untraced"]


class Ended(GreenletExit):
    """Raised in a simulated thread to end it. Not an Exception, so that `except Exception` lets it pass."""


class Interrupt(Ended):
    """An Ended that CPython raises between two bytecodes of an OS thread."""


QUIET: Any = Interrupt.__init__

_Post = ctypes.PYFUNCTYPE(None, ctypes.c_ulong, ctypes.py_object)
post: Callable[[int, type[Interrupt]], None] = _Post(("PyThreadState_SetAsyncExc", ctypes.pythonapi))
"""Have the exception raised in an OS thread at its next safe point, in place of any that is still to be raised."""


def insist(os_thread: int) -> None:
    """Raise Interrupt in `os_thread`, again and again until somebody takes delivery as described above."""
    if sys.version_info[:2] == (3, 12):
        _monitor_jumps(os_thread)
    Interrupt.__init__ = staticmethod(partial(post, os_thread, Interrupt))  # type: ignore[method-assign]
    post(os_thread, Interrupt)


def relax() -> None:
    """Called some time after delivery has been taken: undo what delivery itself could not."""
    if sys.version_info[:2] == (3, 12) and sys.monitoring.get_tool(_TOOL) == "labsim":
        while _monitored:
            sys.monitoring.set_local_events(_TOOL, _monitored.pop(), 0)
        sys.monitoring.free_tool_id(_TOOL)


@contextmanager
def untraced() -> Iterator[None]:
    """Take off the trace and profile functions that are written in Python, and put them on again.

    Those in C (cProfile's, coverage's) stay: an Interrupt cannot hit them, and not all can be put on from Python.
    """
    tracer, profiler = sys.gettrace(), sys.getprofile()
    if isinstance(tracer, (FunctionType, MethodType)):
        sys.settrace(None)
    if isinstance(profiler, (FunctionType, MethodType)):
        sys.setprofile(None)
    try:
        yield
    finally:
        if isinstance(tracer, (FunctionType, MethodType)):
            sys.settrace(tracer)
        if isinstance(profiler, (FunctionType, MethodType)):
            sys.setprofile(profiler)


def ends_the_run(error: BaseException) -> bool:
    """Whether an exception that escapes from a thread is none of the program's, and must come out of the world.

    Such are Ctrl-C, and what pytest ends a test with: they are no Exceptions. Quitting a debugger raises two that are.
    """
    cls = type(error)
    return not isinstance(error, Exception) or f"{cls.__module__}.{cls.__qualname__}" in _QUITS


_QUITS = frozenset({"bdb.BdbQuit", "_pytest.outcomes.Exit"})


_TOOL = 4  # none of those that have a meaning (debugger, coverage, profiler, optimizer)
_monitored: list[CodeType] = []


if sys.version_info[:2] == (3, 12):

    def _monitor_jumps(os_thread: int) -> None:
        """In the functions that the thread is in now, but not in labsim's: those must be able to take delivery."""

        def on_jump(code: CodeType, instruction: int, destination: int) -> None:
            if Interrupt.__init__ is not QUIET and get_ident() == os_thread:
                raise Interrupt

        jump = sys.monitoring.events.JUMP
        if sys.monitoring.get_tool(_TOOL) is None:
            sys.monitoring.use_tool_id(_TOOL, "labsim")
            sys.monitoring.register_callback(_TOOL, jump, on_jump)
            for frame in frames_of_program(sys._current_frames().get(os_thread)):
                sys.monitoring.set_local_events(_TOOL, frame.f_code, jump)
                _monitored.append(frame.f_code)
