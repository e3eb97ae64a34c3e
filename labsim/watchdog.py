"""Notices a simulated thread that never comes back to the scheduler, and stops it.

One OS thread serves the whole process; it is started with the first watched call. It looks at two things only: whether
the world's event count still moves, and how much processor time its OS thread has used since it last did. Processor
time, so that a loaded machine, a suspended laptop or somebody at a debugger's prompt is not taken for a loop; where the
system cannot tell it, real time. It uses no signals: those belong to pytest-timeout.

When the time is up, the world is condemned with a Spin error that names the thread and its line, and `insist` makes the
thread leave whatever it is doing. That may happen in the very moment in which the thread does return to the scheduler:
it makes no difference, the verdict has been given. What must not happen is that the interruption arrives after the
world's code has been left. So posting is done under a lock, and `watched` takes that lock before it returns.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from labsim.ending import QUIET, Interrupt, insist, post, relax
from labsim.errors import Spin
from labsim.scheduler import Scheduler
from labsim.stacks import describe_stack, place_in_program

__all__ = ["in_debugger", "watched"]

_LOOKS = 8  # per spin time
_DEBUGGERS = frozenset({"IPython", "bdb", "cmd", "code", "debugpy", "ipdb", "pdb", "pudb", "pydevd"})


class _Watchdog:
    def __init__(self) -> None:
        self.posting = threading.Lock()  # held while it decides and posts
        self.target: tuple[Scheduler, float] | None = None
        self._watched = 0  # calls so far: a scheduler may lie where an earlier one did
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, scheduler: Scheduler, spin: float) -> None:
        self._watched += 1
        self.target = scheduler, spin
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._loop, name="labsim watchdog", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def _loop(self) -> None:
        seen: object = None
        since = 0.0
        while True:
            target = self.target
            if target is None:
                self._wake.clear()
                if self.target is None:
                    self._wake.wait()
                continue
            scheduler, spin = target
            del target
            state = self._watched, scheduler.events()
            used = _processor_time(scheduler.os_thread)
            if state != seen or in_debugger(sys._current_frames().get(scheduler.os_thread)):
                seen, since = state, used
            elif used - since >= spin:
                self._fire(scheduler, spin)
                seen = None
            del scheduler
            time.sleep(spin / _LOOKS)

    def _fire(self, scheduler: Scheduler, spin: float) -> None:
        with self.posting:
            frame = sys._current_frames().get(scheduler.os_thread)
            if self.target is None or self.target[0] is not scheduler or frame is None:
                return
            self.target = None  # once is enough: `insist` does not let go
            place, source = place_in_program(frame)
            scheduler.condemn(
                Spin(
                    f"{scheduler.current.name} has run for {spin:g} s of real time at {place}\n"
                    f"    {source}\n"
                    "without reaching a lock, a sleep, a queue or a clock, so that no other thread could run. A loop "
                    "that waits for something must do so with a Condition or an Event, or at least time.sleep. Its "
                    "stack:\n\n"
                    f"{describe_stack(frame)}"
                )
            )
            insist(scheduler.os_thread)


_watchdog = _Watchdog()


def watched(scheduler: Scheduler, spin: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the function under the watchdog's eyes. No interruption is under way when this returns or raises."""
    scheduler.watched = True
    try:
        _watchdog.watch(scheduler, spin)
        return function(*args, **kwargs)
    finally:
        # An interruption may hit any call here, so each line is C or a plain store: see labsim.ending. One that was
        # posted before we have the lock is raised no later than as acquire() returns.
        scheduler.watched = False
        try:
            _watchdog.posting.acquire()
        except Interrupt:
            Interrupt.__init__ = QUIET  # type: ignore[method-assign]
            try:
                post(scheduler.os_thread, Interrupt)
            except Interrupt:
                pass
        finally:  # should Ctrl-C have come just here
            _watchdog.target = None
            _watchdog.posting.release()
        relax()


def _processor_time(os_thread: int) -> float:
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(os_thread))
    except (AttributeError, OSError):
        return time.monotonic()


def in_debugger(frame: FrameType | None) -> bool:
    """Whether a thread, given its innermost frame, stands at a debugger's prompt."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False
