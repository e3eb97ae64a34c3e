"""What a world's programs import instead of the modules that know real threads, real time or real chance.

Three kinds, one table each:

- TWINS copy a C module (or one too large to run again) and replace what must be virtual: `_thread`, `time`,
  `datetime`, `os`, `sys` (and `importlib`, in labsim.loading).
- AFRESH are the standard library's own files, executed again on top of the twins, so that their semantics are exactly
  those of this Python: threading, queue, concurrent.futures and their like. A few receive a touch afterwards, each
  explained where it is made.
- REFUSED cannot be virtual. Importing them from the program is an Unsupported error.

This file is the only one that knows how the standard library's files hang together, and in which Python.
"""

from __future__ import annotations

import _thread
import datetime
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable
from random import Random
from types import FrameType, ModuleType
from typing import Any, NoReturn

from labsim.ending import Ended, ends_the_run
from labsim.primitives import UNORDERED, Ordering, primitives_of
from labsim.scheduler import SECOND, Scheduler

__all__ = ["AFRESH", "REFUSED", "REFUSED_PARTS", "StandIns", "twin"]

__tracebackhide__ = True  # for pytest: a failure points at the line that called, not in here

AFRESH = frozenset(
    {
        "_threading_local",
        "concurrent",
        "concurrent.futures",
        "concurrent.futures._base",
        "concurrent.futures.thread",
        "queue",
        "random",
        "sched",
        "threading",
        "timeit",
    }
)

REFUSED = frozenset(
    {
        "asyncio",
        "multiprocessing",
        "select",
        "selectors",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
    }
)

# Parts of packages that run afresh: refused to their own package as well, which imports them when asked for a pool.
REFUSED_PARTS = frozenset({"concurrent.futures.interpreter", "concurrent.futures.process"})

_REFUSED_CALLS = ("exec", "fork", "popen", "posix_spawn", "spawn", "system")  # and whatever else begins like these

# The clocks begin at odd values, and far from today: a real clock that gets mixed in stands out at once.
_MONOTONIC_START = 86_413 * SECOND + 137_000_000
_WALL_START = 1_000_000_007 * SECOND + 137_000_000  # a Sunday in September 2001


def twin(module: ModuleType, **replaced: object) -> ModuleType:
    """A copy of a module with some of its names replaced."""
    copy = ModuleType(module.__name__)
    copy.__dict__.update(module.__dict__)
    copy.__dict__.update(replaced)
    return copy


class StandIns:
    """The makers of one world's stand-ins; each is called when the program first imports the module."""

    def __init__(self, scheduler: Scheduler, seed: str, refuse: Callable[[str], NoReturn]) -> None:
        self._scheduler = scheduler
        self._entropy = Random(f"{seed}:random")
        self._refuse = refuse
        self.twins: dict[str, Callable[[], ModuleType]] = {
            "_thread": self._thread,
            "datetime": self._datetime,
            "os": self._os,
            "sys": self._sys,
            "time": self._time,
        }
        self.touches: dict[str, Callable[[ModuleType], None]] = {
            "concurrent.futures": self._touch_futures,
            "concurrent.futures._base": self._touch_futures_base,
            "concurrent.futures.thread": _unordered,
            "queue": self._touch_queue,
            "random": self._touch_random,
            "threading": self._touch_threading,
        }

    # -- twins -------------------------------------------------------------------------------------------------------

    def _thread(self) -> ModuleType:
        """Threads and locks. Names that only some Pythons have are replaced where they exist."""
        s = self._scheduler
        lock, rlock, local, handle_type = primitives_of(s)

        def start_new_thread(function: Callable[..., object], args: tuple[Any, ...], kwargs: Any = None, /) -> int:
            return s.start(function, args, kwargs or {}).number

        def start_joinable_thread(function: Callable[[], object], handle: Any = None, daemon: bool = True) -> Any:
            handle = handle or handle_type()
            s.start(function, (), {}, handle)
            return handle

        def set_sentinel() -> Any:
            """A lock that is released when the current thread has ended: how `Thread.join` waits up to 3.12."""
            sentinel = lock()
            s.current.on_end.append(sentinel)
            return sentinel

        def make_thread_handle(ident: int) -> Any:
            handle = handle_type()
            handle.begin(s.threads[ident])
            return handle

        def exit_thread() -> NoReturn:
            raise SystemExit

        replaced = {
            "LockType": lock,
            "RLock": rlock,
            "_ThreadHandle": handle_type,
            "_count": lambda: len(s.threads) - 1,
            "_get_main_thread_ident": lambda: s.main.number,
            "_local": local,
            "_make_thread_handle": make_thread_handle,
            "_set_sentinel": set_sentinel,
            "_shutdown": lambda: None,
            "allocate": lock,
            "allocate_lock": lock,
            "exit": exit_thread,
            "exit_thread": exit_thread,
            # A real ident is an address and a native one below 2**22, so that neither can be mistaken for these.
            "get_ident": lambda: s.current.number,
            "get_native_id": lambda: 2**31 + s.current.number,
            "lock": lock,
            "set_name": lambda name: None,
            "stack_size": lambda size=0: 0,
            "start_joinable_thread": start_joinable_thread,
            "start_new": start_new_thread,
            "start_new_thread": start_new_thread,
        }
        return twin(_thread, **{name: value for name, value in replaced.items() if hasattr(_thread, name)})

    def _time(self) -> ModuleType:
        s = self._scheduler

        def clock(start: int) -> tuple[Callable[[], float], Callable[[], int]]:
            """A clock in seconds and in nanoseconds. Each look is a scheduling point, so that waiting for it ends."""

            def nanoseconds() -> int:
                s.left -= 1
                if s.left <= 0:
                    s.point("clock")
                return start + s.horizon - s.left * s.creep

            def seconds() -> float:
                s.left -= 1
                if s.left <= 0:
                    s.point("clock")
                return (start + s.horizon - s.left * s.creep) / SECOND

            return seconds, nanoseconds

        def sleep(seconds: float) -> None:
            if seconds < 0:
                raise ValueError("sleep length must be non-negative")
            s.left -= 1
            if s.left <= 0:
                s.point("sleep", seconds)
            s.sleep(int(seconds * SECOND))

        wall, wall_ns = clock(_WALL_START)
        monotonic, monotonic_ns = clock(_MONOTONIC_START)
        cpu, cpu_ns = clock(0)

        def clock_gettime(clock: int) -> float:
            return clock_gettime_ns(clock) / SECOND

        def clock_gettime_ns(clock: int) -> int:
            return wall_ns() if clock == time.CLOCK_REALTIME else monotonic_ns()

        return twin(
            time,
            asctime=lambda t=None: time.asctime(time.localtime(wall()) if t is None else t),
            clock_gettime=clock_gettime,
            clock_gettime_ns=clock_gettime_ns,
            ctime=lambda secs=None: time.ctime(wall() if secs is None else secs),
            gmtime=lambda secs=None: time.gmtime(wall() if secs is None else secs),
            localtime=lambda secs=None: time.localtime(wall() if secs is None else secs),
            monotonic=monotonic,
            monotonic_ns=monotonic_ns,
            perf_counter=monotonic,
            perf_counter_ns=monotonic_ns,
            process_time=cpu,
            process_time_ns=cpu_ns,
            sleep=sleep,
            strftime=lambda format, t=None: time.strftime(format, time.localtime(wall()) if t is None else t),
            thread_time=cpu,
            thread_time_ns=cpu_ns,
            time=wall,
            time_ns=wall_ns,
        )

    def _datetime(self) -> ModuleType:
        """Classes whose `now` and `today` are virtual, and whose instances are ordinary datetimes and dates.

        Ordinary ones, because msgspec, pickle and all other shared modules know only those.
        """
        s = self._scheduler

        def wall() -> float:
            s.left -= 1
            if s.left <= 0:
                s.point("clock")
            return (_WALL_START + s.now()) / SECOND

        def is_stand_in(cls: type) -> bool:
            return "_real" in vars(cls)  # and not a subclass that the program made of one

        class StandIn(type):
            def __instancecheck__(cls, instance: object) -> bool:
                return isinstance(instance, cls._real) if is_stand_in(cls) else super().__instancecheck__(instance)

            def __subclasscheck__(cls, other: type) -> bool:
                return issubclass(other, cls._real) if is_stand_in(cls) else super().__subclasscheck__(other)

            _real: type

        class VirtualDate(datetime.date, metaclass=StandIn):
            _real = datetime.date

            def __new__(cls, *args: Any, **kwargs: Any) -> Any:
                return cls._real(*args, **kwargs) if is_stand_in(cls) else super().__new__(cls, *args, **kwargs)

            @classmethod
            def today(cls) -> Any:
                return cls.fromtimestamp(wall())

        class VirtualDatetime(datetime.datetime, metaclass=StandIn):
            _real = datetime.datetime

            def __new__(cls, *args: Any, **kwargs: Any) -> Any:
                return cls._real(*args, **kwargs) if is_stand_in(cls) else super().__new__(cls, *args, **kwargs)

            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Any:
                return cls.fromtimestamp(wall(), tz)

            @classmethod
            def today(cls) -> Any:
                return cls.fromtimestamp(wall())

            @classmethod
            def utcnow(cls) -> Any:
                return cls.fromtimestamp(wall(), datetime.UTC).replace(tzinfo=None)

        for cls, name in ((VirtualDate, "date"), (VirtualDatetime, "datetime")):
            cls.__name__ = cls.__qualname__ = name
            cls.__module__ = "datetime"
        return twin(datetime, date=VirtualDate, datetime=VirtualDatetime)

    def _os(self) -> ModuleType:
        """Without other processes. Fork handlers, which the library's files register, would outlive the world."""

        def refused(name: str) -> Callable[..., NoReturn]:
            return lambda *args, **kwargs: self._refuse(f"os.{name}()")

        functions = [name for name, value in vars(os).items() if callable(value)]
        others = {name: refused(name) for name in functions if name.startswith(_REFUSED_CALLS)}
        return twin(os, register_at_fork=lambda **_: None, **others)

    def _sys(self) -> ModuleType:
        """The real one, stdout and all, but that `_current_frames` knows this world's threads by their idents."""
        s = self._scheduler

        def current_frames() -> dict[int, FrameType]:
            """Each thread's innermost frame, without the scheduler's: a real thread shows no C frames either."""
            frames = {}
            for number, thread in s.threads.items():
                frame = sys._getframe(1) if thread is s.current else thread.greenlet.gr_frame
                while frame is not None and frame.f_globals["__name__"].startswith("labsim."):
                    frame = frame.f_back
                if frame is not None:
                    frames[number] = frame
            return frames

        class Sys(ModuleType):
            def __getattr__(self, name: str) -> Any:
                return current_frames if name == "_current_frames" else getattr(sys, name)

            def __setattr__(self, name: str, value: object) -> None:
                setattr(sys, name, value)

        return Sys("sys")

    # -- touches -----------------------------------------------------------------------------------------------------

    def _touch_threading(self, threading: Any) -> None:
        s = self._scheduler
        make_invoke_excepthook = threading._make_invoke_excepthook

        def invoke_excepthook(thread: Any) -> None:
            """Threads catch whatever their function raises; what ends threads or worlds must not go to the hook."""
            error = sys.exception()
            assert error is not None
            if not s.over and (isinstance(error, SystemExit) or not ends_the_run(error)):
                make_invoke_excepthook()(thread)
            else:
                s.crashed(error)

        def crashed(error: BaseException) -> None:
            """A thread started through `_thread`, which is no `threading.Thread`, has crashed."""
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))

        def is_set(event: Any) -> bool:
            """A program may poll this without touching any lock, and must let others run meanwhile."""
            s.left -= 1
            if s.left <= 0:
                s.point("look at an Event")
            flag: bool = event._flag
            if flag and s.detector is not None:
                s.detector.follows(event._cond._lock)  # as after wait(): an Event orders, with a lock or without
            return flag

        threading._make_invoke_excepthook = lambda: invoke_excepthook
        s.on_crash = crashed
        threading.Event.is_set = threading.Event.isSet = is_set
        # Trace functions belong to the OS thread: one set by a simulated thread would stay, and see all others.
        for name in ("setprofile", "setprofile_all_threads", "settrace", "settrace_all_threads"):
            if hasattr(threading, name):
                setattr(threading, name, lambda func: None)
        for cls in (threading.Thread, threading.Condition, threading.Event):
            _number(cls)
        _unordered(threading)
        # Kept for fork and for the end of the process; up to 3.12 each start would look at every thread's lock.
        threading._dangling = threading._shutdown_locks = _Forgetful()

    def _touch_queue(self, queue: Any) -> None:
        s = self._scheduler

        def empty(simple: Any) -> bool:
            """Like `Event.is_set`, something to poll without a lock."""
            return qsize(simple) == 0

        def qsize(simple: Any) -> int:
            s.left -= 1
            if s.left <= 0:
                s.point("look at a SimpleQueue")
            return len(simple._queue)

        queue.SimpleQueue.empty, queue.SimpleQueue.qsize = empty, qsize

    def _touch_random(self, random: Any) -> None:
        """Generators without a seed, the module's own above all, take theirs from the world's."""
        entropy = self._entropy
        seed_as_given = random.Random.seed

        def seed(generator: Any, a: Any = None, version: int = 2) -> None:
            seed_as_given(generator, entropy.getrandbits(256) if a is None else a, version)

        random.Random.seed = seed
        random._inst.seed()

    def _touch_futures(self, futures: Any) -> None:
        """`from concurrent.futures import *` must not reach for what cannot be virtual."""
        futures.__all__ = tuple(
            name for name in futures.__all__ if name not in ("InterpreterPoolExecutor", "ProcessPoolExecutor")
        )

    def _touch_futures_base(self, base: Any) -> None:
        _number(base.Future)
        base.id = hash  # by which it sorts the futures whose locks it takes
        # A pool's worker logs whatever ends it; that the world has been left is nothing to report.
        base.LOGGER = logging.Logger("concurrent.futures")
        base.LOGGER.parent = logging.getLogger("concurrent.futures")
        base.LOGGER.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], Ended)))


def _unordered(module: ModuleType) -> None:
    """The locks of a module's own books, in which threads start and end, do not order what those threads do."""
    for lock in vars(module).values():
        if isinstance(lock, Ordering):
            lock.order = UNORDERED


class _Forgetful(set[Any]):
    """A set that stays empty."""

    def add(self, element: object) -> None:
        pass


def _number(cls: Any) -> None:
    """Hash instances by a number of their own, so that sets of them, which the library iterates, have one order."""
    numbers = itertools.count(1)

    def number(instance: Any) -> int:
        found: int | None = instance.__dict__.get("_labsim_number")
        if found is None:
            found = instance.__dict__["_labsim_number"] = next(numbers)
        return found

    cls.__hash__ = number
