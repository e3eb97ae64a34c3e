"""Calls into the solution that do not return: GetState, Start, Snapshot or Make that takes longer than PATIENCE.

In Go such a test hangs for ever. Here it fails, with which call, where it stands, and who holds the lock that it waits
for. In virtual time the world looks after the main thread's calls (labsim.patience). On real threads a Watchman does,
after those of all threads of the lab: a thread that looks once a second. (Kill has its own, in raft/config.py, and
isolated servers in labrun/isolated/judge.py.)

No right Raft fails by it on a busy machine: what counts is not the time but how often the Watchman has looked, which
needs a processor too; and somebody at a debugger's prompt may think for as long as they like.

A test that stands still in such a call, or waits for another thread's with `join`, is told by a signal, SIGURG (which
Go's runtime uses for such things, as nobody else does). Where there are no signals, or the test does not run in the
main thread, it is told as soon as it gets on.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import raft.config
from labrun.solution import Solution
from labsim.patience import Patience
from labsim.stacks import is_library
from labsim.watchdog import in_debugger
from raft.config import LabFailure, Trial
from raft.threads import Stacks

__all__ = ["PATIENCE", "calls_into", "watched"]

__tracebackhide__ = True

PATIENCE = 10.0  # s
LOOK = 1.0  # s

SIGNAL: Any = getattr(signal, "SIGURG", None) if hasattr(signal, "pthread_kill") else None


def calls_into(solution: Solution, test: Path) -> Callable[[FrameType], bool]:
    """Says of a frame whether there the harness, or the file of the lab test, has called the solution."""
    callers = (str(Path(raft.config.__file__)), str(test))
    owns = lru_cache(maxsize=1024)(solution.owns)

    def is_call(frame: FrameType) -> bool:
        back = frame.f_back
        if back is None or back.f_code.co_filename not in callers:
            return False
        file = frame.f_code.co_filename
        return file not in callers and owns(file)

    return is_call


@contextmanager
def watched(solution: Solution, test: Path, trial: Callable[[], Trial | None]) -> Iterator[None]:
    """Look after the calls of a trial on real threads; `trial` gives it once there is one."""
    watchman = _Watchman(calls_into(solution, test), str(test), trial)
    with watchman.listening():
        thread = threading.Thread(target=watchman.watch, name="lab watchman", daemon=True)
        thread.start()
        try:
            yield
        finally:
            watchman.over.set()
            thread.join()


class _Watchman:
    def __init__(self, is_call: Callable[[FrameType], bool], test: str, trial: Callable[[], Trial | None]) -> None:
        self.over = threading.Event()
        self._is_call = is_call
        self._test = test
        self._trial = trial
        self._of_threads: dict[int, Patience] = {}
        self._failure: LabFailure | None = None
        self._stuck: set[FrameType] = set()
        self._before = set(threading.enumerate())

    def watch(self) -> None:
        looks = 0.0
        while not self.over.wait(LOOK):
            frames = sys._current_frames()
            if any(map(in_debugger, frames.values())):
                continue
            looks += LOOK
            self._look(frames, looks)
            del frames

    def _look(self, frames: dict[int, FrameType], now: float) -> None:
        trial = self._trial()
        self._stuck = set()
        for ident, frame in frames.items():
            patience = self._of_threads.get(ident) or Patience(PATIENCE, self._is_call)
            call = patience.look(frame, now)
            self._of_threads[ident] = patience
            if call is None or trial is None:
                continue
            self._stuck.add(call)
            if self._failure is None:
                self._failure = LabFailure(
                    f"{call.f_code.co_name} has not returned for {PATIENCE:g} s", self._where(ident), cause="deadlock"
                )
                trial.fail_later(self._failure)
        for ident in self._of_threads.keys() - frames.keys():
            del self._of_threads[ident]
        if self._stuck and self._listens:
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)

    def _where(self, ident: int) -> str:
        threads = [t for t in threading.enumerate() if t.ident == ident or t not in self._before]
        stacks = Stacks(threads)
        return next((f"{stacks.name(t)}: {stacks.where(t)}" for t in threads if t.ident == ident), "")

    # --- telling the main thread ---

    _listens = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        if SIGNAL is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(SIGNAL, self._hear)
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
            signal.signal(SIGNAL, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """In the main thread: leave what it stands in, if that is still a call that hangs, or a wait in the story."""
        if self._failure is not None and (self._is_in_it(frame) or self._is_in_story(frame)):
            raise self._failure

    def _is_in_it(self, frame: FrameType | None) -> bool:
        while frame is not None and frame not in self._stuck:
            frame = frame.f_back
        return frame is not None

    def _is_in_story(self, frame: FrameType | None) -> bool:
        while frame is not None and is_library(frame.f_code.co_filename):
            frame = frame.f_back
        return frame is not None and frame.f_code.co_filename == self._test
