"""What a world's programs import instead of the modules that know real threads, real time or real chance.

Three kinds, one table each:

- TWINS copy a C module (or one too large to run again) and replace what must be virtual: `_thread`, `time`,
  `datetime`, `os`, `sys`, `logging`, `multiprocessing` (and `importlib`, in labsim.loading).
- AFRESH are the standard library's own files, executed again on top of the twins, so that their semantics are exactly
  those of this Python: threading, queue, concurrent.futures and their like. A few receive a touch afterwards, each
  explained where it is made.
- REFUSED cannot be virtual. Importing them from the program is an Unsupported error.

This file is the only one that knows how the standard library's files hang together, and in which Python.
"""

from __future__ import annotations

import _thread
import atexit
import datetime
import errno
import functools
import itertools
import logging
import operator
import os
import sys
import time
from collections.abc import Callable
from random import Random
from types import FrameType, FunctionType, ModuleType
from typing import Any, NoReturn

from labsim.ending import Ended, ends_the_run
from labsim.primitives import UNORDERED, Ordering, primitives_of
from labsim.scheduler import SECOND, Scheduler, SimThread
from labsim.stacks import LABSIM

__all__ = ["AFRESH", "REFUSED", "REFUSED_PARTS", "THREADS_ONLY", "StandIns", "twin"]

__tracebackhide__ = True  # for pytest: a failure points at the line that called, not in here

AFRESH = frozenset(
    {
        "_threading_local",
        "concurrent",
        "concurrent.futures",
        "concurrent.futures._base",
        "concurrent.futures.thread",
        "logging.handlers",  # its QueueListener is a thread
        "multiprocessing.dummy",
        "multiprocessing.dummy.connection",
        "multiprocessing.pool",
        "multiprocessing.util",
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

# Of a refused package, what is only threads: `from multiprocessing import pool, dummy`.
THREADS_ONLY = frozenset({"dummy", "pool"})

# Parts of packages that run afresh: refused to their own package as well, which imports them when asked for a pool.
REFUSED_PARTS = frozenset({"concurrent.futures.interpreter", "concurrent.futures.process"})

_REFUSED_CALLS = ("exec", "fork", "popen", "posix_spawn", "spawn", "system")  # and whatever else begins like these

# The clocks begin at odd values, and far from today: a real clock that gets mixed in stands out at once.
_MONOTONIC_START = 86_413 * SECOND + 137_000_000
_WALL_START = 1_000_000_007 * SECOND + 137_000_000  # a Sunday in September 2001

# A pool's default size follows from this, and a seed is to give the same run on any machine.
_PROCESSORS = 4

_SMALLEST_STACK = 32 * 1024  # that CPython accepts


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
        self._tracers = _PerThread(scheduler, sys.settrace, sys.gettrace)
        self._profilers = _PerThread(scheduler, sys.setprofile, sys.getprofile)
        self.twins: dict[str, Callable[[], ModuleType]] = {
            "_thread": self._thread,
            "datetime": self._datetime,
            "logging": self._logging,
            "multiprocessing": self._multiprocessing,
            "os": self._os,
            "sys": self._sys,
            "time": self._time,
        }
        self.touches: dict[str, Callable[[ModuleType], None]] = {
            "concurrent.futures": self._touch_futures,
            "concurrent.futures._base": self._touch_futures_base,
            "concurrent.futures.thread": _unordered,
            "multiprocessing.pool": self._touch_pool,
            "multiprocessing.util": self._touch_util,
            "queue": self._touch_queue,
            "random": self._touch_random,
            "threading": self._touch_threading,
        }

    def close(self) -> None:
        """The world is being left: its trace functions must see nothing any more."""
        self._tracers.close()
        self._profilers.close()

    # -- twins -------------------------------------------------------------------------------------------------------

    def _thread(self) -> ModuleType:
        """Threads and locks. Names that only some Pythons have are replaced where they exist."""
        s = self._scheduler
        lock, rlock, local, sentinel_type, handle_type = primitives_of(s)

        def start_new_thread(function: Callable[..., object], args: tuple[Any, ...], kwargs: Any = None, /) -> int:
            return s.start(function, args, kwargs or {}).number

        def start_joinable_thread(function: Callable[[], object], handle: Any = None, daemon: bool = True) -> Any:
            if handle is None:
                handle = handle_type()
            elif not isinstance(handle, handle_type):
                raise TypeError("'handle' must be a _ThreadHandle")
            elif handle.ident:
                raise RuntimeError("thread already started")
            s.start(function, (), {}, handle.begin)
            return handle

        def set_sentinel() -> Any:
            """A lock that is released when the current thread has ended: how `Thread.join` waits up to 3.12."""
            sentinel = sentinel_type()
            s.current.on_end.append(sentinel)
            return sentinel

        def make_thread_handle(ident: int) -> Any:
            handle = handle_type()
            handle.begin(s.threads[ident])
            return handle

        def exit_thread() -> NoReturn:
            raise SystemExit

        size_of_stacks = 0

        def stack_size(size: int = 0, /) -> int:
            """It has no effect, but is remembered."""
            nonlocal size_of_stacks
            if size < 0 or 0 < size < _SMALLEST_STACK:
                raise ValueError(f"size not valid: {size} bytes" if size > 0 else "size must be 0 or a positive value")
            before, size_of_stacks = size_of_stacks, size
            return before

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
            "stack_size": stack_size,
            "start_joinable_thread": start_joinable_thread,
            "start_new": start_new_thread,
            "start_new_thread": start_new_thread,
        }
        for name, value in replaced.items():
            if isinstance(value, FunctionType):
                value.__module__, value.__name__ = "_thread", name
        module = twin(_thread, **{name: value for name, value in replaced.items() if hasattr(_thread, name)})
        # It knows the OS thread's ident only; without it, `threading` has another in Python.
        module.__dict__.pop("_excepthook", None)
        return module

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

        # What only POSIX has is replaced where it exists.

        cpu_clocks = {getattr(time, f"CLOCK_{name}_CPUTIME_ID", None) for name in ("PROCESS", "THREAD")}

        def clock_gettime(clock: int) -> float:
            return clock_gettime_ns(clock) / SECOND

        def clock_gettime_ns(clock: int) -> int:
            if clock in cpu_clocks:
                return cpu_ns()
            return wall_ns() if clock == time.CLOCK_REALTIME else monotonic_ns()

        def pthread_getcpuclockid(thread_id: int) -> int:
            """The C function takes any number for an address, and looks there."""
            if thread_id not in s.threads:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            return time.CLOCK_THREAD_CPUTIME_ID

        replaced = {
            "asctime": lambda t=None: time.asctime(time.localtime(wall()) if t is None else t),
            "clock_gettime": clock_gettime,
            "clock_gettime_ns": clock_gettime_ns,
            "ctime": lambda secs=None: time.ctime(wall() if secs is None else secs),
            "gmtime": lambda secs=None: time.gmtime(wall() if secs is None else secs),
            "localtime": lambda secs=None: time.localtime(wall() if secs is None else secs),
            "monotonic": monotonic,
            "monotonic_ns": monotonic_ns,
            "perf_counter": monotonic,
            "perf_counter_ns": monotonic_ns,
            "process_time": cpu,
            "process_time_ns": cpu_ns,
            "pthread_getcpuclockid": pthread_getcpuclockid,
            "sleep": sleep,
            "strftime": lambda format, t=None: time.strftime(format, time.localtime(wall()) if t is None else t),
            "thread_time": cpu,
            "thread_time_ns": cpu_ns,
            "time": wall,
            "time_ns": wall_ns,
        }
        return twin(time, **{name: value for name, value in replaced.items() if hasattr(time, name)})

    def _datetime(self) -> ModuleType:
        """Subclasses whose `now` and `today` are virtual. All datetimes and dates, of whatever making, are instances.

        They are pickled as ordinary ones, which is what is found under their name outside the world.
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

            def __reduce_ex__(self, protocol: Any) -> Any:
                reduced: Any = super().__reduce_ex__(protocol)
                return (datetime.date, *reduced[1:]) if reduced[0] is VirtualDate else reduced

            @classmethod
            def today(cls) -> Any:
                return cls.fromtimestamp(wall())

        class VirtualDatetime(datetime.datetime, metaclass=StandIn):
            _real = datetime.datetime

            def __reduce_ex__(self, protocol: Any) -> Any:
                reduced: Any = super().__reduce_ex__(protocol)
                return (datetime.datetime, *reduced[1:]) if reduced[0] is VirtualDatetime else reduced

            def date(self) -> VirtualDate:
                return VirtualDate(self.year, self.month, self.day)

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
        others: dict[str, Callable[..., Any]] = {
            name: refused(name) for name in functions if name.startswith(_REFUSED_CALLS)
        }
        for name in ("cpu_count", "process_cpu_count"):
            if hasattr(os, name):
                others[name] = lambda: _PROCESSORS
        if hasattr(os, "register_at_fork"):
            others["register_at_fork"] = lambda **_: None
        return twin(os, **others)

    def _logging(self) -> ModuleType:
        """The process's own, but for `logging.handlers`."""
        return _Through(logging)

    def _multiprocessing(self) -> ModuleType:
        """What the pools and dummies that are only threads ask their package for. The rest is refused when used."""
        import multiprocessing  # here, as hardly any program wants it

        refuse = self._refuse

        class Multiprocessing(ModuleType):
            __path__ = multiprocessing.__path__
            TimeoutError = multiprocessing.TimeoutError
            process = multiprocessing.process

            @staticmethod
            def cpu_count() -> int:
                return _PROCESSORS

            def get_context(self, method: str | None = None) -> Any:
                return self

            def __getattr__(self, name: str) -> Any:
                if name.startswith("__") or f"{self.__name__}.{name}" in AFRESH:
                    raise AttributeError(name)
                refuse(f"multiprocessing.{name}")

        return Multiprocessing("multiprocessing")

    def _sys(self) -> ModuleType:
        """The real one, stdout and all, but for what tells threads apart: frames, trace and profile functions."""
        s = self._scheduler

        def current_frames() -> dict[int, FrameType]:
            """Each thread's innermost frame, without the scheduler's: a real thread shows no C frames either."""
            frames = {}
            for number, thread in s.threads.items():
                frame = sys._getframe(1) if thread is s.current else thread.frame
                while frame is not None and frame.f_globals["__name__"].startswith("labsim."):
                    frame = frame.f_back
                if frame is not None:
                    frames[number] = frame
            return frames

        class Sys(_Through):
            stderr = property(operator.attrgetter("_real.stderr"))  # at once, as each Thread looks it up

        return Sys(
            sys,
            _current_frames=current_frames,
            _setprofileallthreads=self._profilers.set_all,
            _settraceallthreads=self._tracers.set_all,
            getprofile=self._profilers.get,
            gettrace=self._tracers.get,
            setprofile=self._profilers.set,
            settrace=self._tracers.set,
        )

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

        def is_set(event: Any) -> bool:
            """A program may poll this without touching any lock, and must let others run meanwhile."""
            s.left -= 1
            if s.left <= 0:
                s.point("look at an Event")
            flag: bool = event._flag
            if flag and s.observer is not None:
                s.observer.follows(event._cond._lock)  # as after wait(): an Event orders, with a lock or without
            return flag

        class Started:
            """In place of a Thread's Event: it has been set when `start` returns, so that nobody waits for it."""

            def __init__(self) -> None:
                self._flag = False

            def is_set(self) -> bool:
                s.left -= 1
                if s.left <= 0:
                    s.point("look at a Thread")
                return self._flag

            def set(self) -> None:
                self._flag = True

            def clear(self) -> None:
                self._flag = False

            def wait(self) -> None:
                assert self._flag

        def start_thread(bootstrap: Any, _: object = (), *, handle: Any = None, daemon: bool = True) -> None:
            """What `Thread.start` calls. The new thread need not run to put itself on the books: its starter does."""
            thread = bootstrap.__self__

            def register(simulated: SimThread) -> None:
                if handle is not None:  # from 3.13 on
                    handle.begin(simulated)
                starter, s.current = s.current, simulated
                thread._set_ident()
                if is_old:
                    thread._set_tstate_lock()
                if threading._HAVE_THREAD_NATIVE_ID:
                    thread._set_native_id()
                s.current = starter
                thread._started.set()
                threading._active[thread._ident] = thread
                del threading._limbo[thread]

            s.start(bootstrap, (), {}, register)

        def bootstrap_inner(thread: Any) -> None:
            """The rest of what is so called in the library."""
            try:
                if threading._trace_hook:
                    threading._sys.settrace(threading._trace_hook)
                if threading._profile_hook:
                    threading._sys.setprofile(threading._profile_hook)
                context = getattr(thread, "_context", None)  # from 3.14 on
                try:
                    if context is None:
                        thread.run()
                    else:
                        context.run(thread.run)
                except:  # noqa: E722
                    thread._invoke_excepthook(thread)
            finally:
                thread._delete()

        def is_alive(thread: Any) -> bool:
            """With the scheduling points that it has in later Pythons."""
            assert thread._initialized, "Thread.__init__() not called"
            if not thread._started.is_set():
                return False
            thread._wait_for_tstate_lock(False)
            return not thread._is_stopped

        threading._make_invoke_excepthook = lambda: invoke_excepthook
        threading.Event.is_set = is_set
        for cls in (threading.Thread, threading.Condition, threading.Event):
            _number(cls)
        is_old = hasattr(threading.Thread, "_wait_for_tstate_lock")  # up to 3.12
        if is_old:
            threading.Thread.is_alive = is_alive
            threading._shutdown_locks_lock = _thread.allocate_lock()
        # These need not be the world's, as no scheduling point lies between their acquire and release.
        threading._active_limbo_lock = _thread.RLock()
        # Kept for fork and for the end of the process; up to 3.12 each start would look at every thread's lock.
        threading._dangling = threading._shutdown_locks = _Forgetful()
        setattr(threading, "_start_new_thread" if is_old else "_start_joinable_thread", start_thread)
        threading.Thread._bootstrap_inner = bootstrap_inner
        threading.Thread.__init__ = _with_names(threading.Thread.__init__, Event=Started)

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

    def _touch_pool(self, pool: Any) -> None:
        """A ThreadPool still waits for a pipe, through which it learns that there is work."""

        class Notifier(pool.queue.SimpleQueue):  # type: ignore[misc]
            @property
            def _reader(self) -> Notifier:
                return self

        def wait(notifiers: list[Any], timeout: float | None = None) -> None:
            (notifier,) = notifiers
            if notifier._count.acquire(timeout=timeout):
                notifier._count.release()

        def pool_of_processes(_: object) -> NoReturn:
            self._refuse("multiprocessing.pool.Pool()")

        pool.wait = wait
        pool.get_context().__dict__["SimpleQueue"] = Notifier
        pool.Pool._setup_queues = pool_of_processes

    def _touch_util(self, util: Any) -> None:
        """What is to be done when the process ends would keep the world until then."""
        atexit.unregister(util._exit_function)

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


def _with_names(function: Any, **names: object) -> FunctionType:
    """The same function, for which some names of its module mean something else."""
    copy = FunctionType(function.__code__, {**function.__globals__, **names}, argdefs=function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copy, function)
    del copy.__wrapped__  # type: ignore[attr-defined]
    return copy


def _unordered(module: ModuleType) -> None:
    """The locks of a module's own books, in which threads start and end, do not order what those threads do."""
    for lock in vars(module).values():
        if isinstance(lock, Ordering):
            lock.order = UNORDERED


class _Through(ModuleType):
    """A module that is the real one in all but a few names: what is set in one is set in both."""

    def __init__(self, real: ModuleType, **replaced: object) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(replaced, _real=real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_real"], name)

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType):
            self.__dict__[name] = value  # a part of the package that the world has executed afresh
        else:
            setattr(self.__dict__["_real"], name, value)

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_real"])


class _PerThread:
    """`sys.settrace` or `sys.setprofile`, one function for each simulated thread; CPython has one for the OS thread."""

    def __init__(self, scheduler: Scheduler, install: Callable[[Any], None], installed: Callable[[], Any]) -> None:
        self._scheduler = scheduler
        self._install = install
        self._installed = installed
        self._functions: dict[int, Any] = {}
        self._before: Any = None

    def get(self) -> Any:
        return self._functions.get(self._scheduler.current.number) if self._functions else self._installed()

    def set(self, function: Any, /) -> None:
        self._set([self._scheduler.current.number], function)

    def set_all(self, function: Any, /) -> None:
        self._set(list(self._scheduler.threads), function)

    def close(self) -> None:
        if self._functions:
            self._set(list(self._functions), None)

    def _set(self, threads: list[int], function: Any) -> None:
        had = bool(self._functions)
        if not had:
            self._before = self._installed()
        for number in threads:
            self._functions.pop(number, None)
            if function is not None:
                self._functions[number] = function
        if self._functions:
            self._install(self._dispatch)
        elif had:
            self._install(self._before)
        elif function is None:
            self._install(None)  # as a debugger does that has been set from outside

    def _dispatch(self, frame: FrameType, event: str, argument: Any) -> Any:
        function = self._functions.get(self._scheduler.current.number)
        if function is None or frame.f_code.co_filename.startswith(LABSIM):
            return None
        return function(frame, event, argument)


class _Forgetful(set[Any]):
    """A set that stays empty."""

    def add(self, element: object) -> None:
        pass


def _number(cls: Any) -> None:
    """Hash instances by a number of their own, so that sets of them, which the library iterates, have one order."""
    numbers = itertools.count(1)

    def number(instance: Any) -> int:
        try:
            found: int = instance._labsim_number
        except AttributeError:
            found = instance._labsim_number = next(numbers)
        return found

    cls.__hash__ = number
