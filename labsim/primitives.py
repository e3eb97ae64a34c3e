"""The few things that everything else in `threading` is made of: locks, thread-local data, and 3.13's thread handle.

They behave as those of the C module `_thread` do, errors included, with two additions. A lock is handed over directly
to the thread that has waited longest, so nobody starves and nobody wakes in vain. And each acquire and release is a
scheduling point, before the acquire and after the release: the places where another thread can make a difference.

What orders threads happens here in few places: a `release` to the next `acquire` of the same lock; `Scheduler.start` to
the first step in `Scheduler._run`; and a thread's end releases its `Sentinel`, which whoever joins it acquires.
Conditions, events, semaphores, barriers, queues, timers and pools are the standard library's own, built on these.

A world makes its own subclasses, with its scheduler as class attribute, so that `threading.Lock()` takes no argument.
"""

from __future__ import annotations

import sys
from collections import deque
from threading import TIMEOUT_MAX
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from labsim.scheduler import SECOND, Observer, Scheduler, SimThread
from labsim.stacks import LABSIM, is_library

__all__ = ["UNORDERED", "Local", "Ordering", "ThreadHandle", "primitives_of"]

__tracebackhide__ = True  # for pytest: a failure points at the line that called, not in here


class _Handed:
    """What Lock and RLock share: a holder, and a queue of threads to hand over to."""

    __slots__ = ("__weakref__", "_holder", "_number", "_waiters")

    _scheduler: ClassVar[Scheduler]
    _kind: ClassVar[str]

    def __init__(self) -> None:
        scheduler = self._scheduler
        scheduler.locks += 1
        self._number = scheduler.locks
        self._holder: SimThread | None = None
        self._waiters: deque[SimThread] | None = None  # made when first needed: most locks never have a waiter

    def holder(self) -> SimThread | None:
        return self._holder

    def forget(self, thread: SimThread) -> None:
        assert self._waiters is not None
        self._waiters.remove(thread)

    def _wait(self, blocking: bool, timeout: float) -> bool:
        """Wait to be handed the lock that another thread holds; false when it is not to be had in time."""
        if not blocking or timeout == 0:
            return False
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(self._scheduler.current)
        return self._scheduler.block(self, None if timeout == -1 else int(timeout * SECOND))

    def _hand_over(self, waiters: deque[SimThread]) -> None:
        """To the thread that has waited longest. Whoever lets go of what another one holds signals to it."""
        signalled = self._holder is not self._scheduler.current
        self._holder = waiters.popleft()
        self._scheduler.wake(self._holder, signalled)

    def _complain(self, mistake: str) -> None:
        """A lock is released that is not held: a mistake, unless the world is over and nothing is acquired any more."""
        if not self._scheduler.over:
            raise RuntimeError(mistake)
        self._scheduler.point("release", self)

    def _at_fork_reinit(self) -> None:
        self._holder = self._waiters = None

    def __hash__(self) -> int:
        return self._number  # so that a set of locks has the same order in every process

    def __str__(self) -> str:
        return f"{self._kind}#{self._number}"

    def __repr__(self) -> str:
        state = "unlocked" if self._holder is None else f"locked by {self._holder.name}"
        return f"<{self} {state}>"


def _locks_of(s: Scheduler) -> tuple[type[_Handed], type[_Handed]]:
    """Lock and RLock of a world. They are what a program uses most, and closures find `s` at once."""

    class Lock(_Handed):
        __slots__ = ()

        _kind = "Lock"

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            s.left -= 1
            if s.left <= 0:
                s.point("acquire", self)
            if timeout != -1:
                _check_timeout(blocking, timeout)
            if self._holder is None:
                self._holder = s.current
                return True
            return self._wait(blocking, timeout)

        __enter__ = acquire

        def release(self) -> None:
            if self._holder is None:
                return self._complain("release unlocked lock")
            if self._waiters:
                self._hand_over(self._waiters)
            else:
                self._holder = None
            s.left -= 1
            if s.left <= 0:
                s.point("release", self)

        def __exit__(self, _type: object, _error: object, _tb: object) -> None:
            if self._waiters or self._holder is None:
                return self.release()
            self._holder = None  # as in there, without the call
            s.left -= 1
            if s.left <= 0:
                s.point("release", self)

        def locked(self) -> bool:
            s.left -= 1
            if s.left <= 0:
                s.point("look at", self)
            return self._holder is not None

        acquire_lock, release_lock, locked_lock = acquire, release, locked  # their old names still exist

        # A Condition finds its lock's own ways to let go of it while waiting quicker than its substitutes for them.

        def _is_owned(self) -> bool:
            return self._holder is not None  # by whom a Lock does not care

        def _release_save(self) -> None:
            self.release()

        def _acquire_restore(self, _: None) -> None:
            self.acquire()

    class RLock(_Handed):
        __slots__ = ("_count",)

        _kind = "RLock"

        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()  # the C class, too, pays no attention to arguments
            self._count = 0

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            s.left -= 1
            if s.left <= 0:
                s.point("acquire", self)
            if timeout != -1:
                _check_timeout(blocking, timeout)
            me = s.current
            if self._holder is me:
                self._count += 1
                return True
            if self._holder is not None and not self._wait(blocking, timeout):
                return False
            self._holder = me
            self._count = 1
            return True

        __enter__ = acquire

        def release(self) -> None:
            if self._holder is not s.current:
                return self._complain("cannot release un-acquired lock")
            self._count -= 1
            if not self._count:
                if self._waiters:
                    self._hand_over(self._waiters)
                else:
                    self._holder = None
            s.left -= 1
            if s.left <= 0:
                s.point("release", self)

        def __exit__(self, *_: object) -> None:
            self.release()

        def locked(self) -> bool:
            return self._holder is not None

        # For a Condition, which lets go of all levels while it waits.

        def _is_owned(self) -> bool:
            return self._holder is s.current

        def _recursion_count(self) -> int:
            return self._count if self._holder is s.current else 0

        def _release_save(self) -> int:
            count = self._count
            if self._holder is s.current:
                self._count = 1
            self.release()
            return count

        def _acquire_restore(self, count: int) -> None:
            self.acquire()
            self._count = count

    return Lock, RLock


def _check_timeout(blocking: bool, timeout: float) -> None:
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")


class Local:
    """`threading.local`: each thread sees attributes of its own, and a subclass's `__init__` runs once in each."""

    __slots__ = ("__arguments", "__dict__", "__dicts", "__weakref__")

    _scheduler: ClassVar[Scheduler]

    __arguments: tuple[tuple[Any, ...], dict[str, Any]]
    __dicts: _LocalData

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Local:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError("Initialization arguments are not supported")
        self = object.__new__(cls)
        mine: dict[str, Any] = {}
        object.__setattr__(self, "_Local__arguments", (args, kwargs))
        object.__setattr__(self, "_Local__dicts", _LocalData(self))
        _give_dict(self, cls._scheduler.current, mine)
        object.__setattr__(self, "__dict__", mine)
        return self

    def __getattribute__(self, name: str) -> Any:
        _use_own_dict(self)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        _refuse_dict(self, name)
        _use_own_dict(self)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _refuse_dict(self, name)
        _use_own_dict(self)
        object.__delattr__(self, name)


def _refuse_dict(local: Local, name: str) -> None:
    if name == "__dict__":
        raise AttributeError(f"{type(local).__name__!r} object attribute '__dict__' is read-only")


def _use_own_dict(local: Local) -> None:
    """Make the current thread's attributes the visible ones. Nobody else can run before they are used."""
    dicts = object.__getattribute__(local, "_Local__dicts")
    thread = type(local)._scheduler.current
    mine = dicts.get(thread)
    if mine is None:
        mine = {}
        _give_dict(local, thread, mine)
        object.__setattr__(local, "__dict__", mine)
        args, kwargs = object.__getattribute__(local, "_Local__arguments")
        type(local).__init__(local, *args, **kwargs)
        mine = dicts[thread]
    object.__setattr__(local, "__dict__", mine)


class _LocalData(WeakKeyDictionary[SimThread, dict[str, Any]]):
    """The attributes of a Local, for each thread."""

    def __init__(self, local: Local) -> None:
        super().__init__()
        self._local = ref(local)

    def forget(self, thread: SimThread) -> None:
        values, local = self.pop(thread, None), self._local()
        if local is not None and object.__getattribute__(local, "__dict__") is values:
            object.__setattr__(local, "__dict__", {})


def _give_dict(local: Local, thread: SimThread, mine: dict[str, Any]) -> None:
    """Until the local or the thread ends, whichever is first."""
    dicts = object.__getattribute__(local, "_Local__dicts")
    dicts[thread] = mine
    if thread.local_data is None:
        thread.local_data = WeakValueDictionary()
    thread.local_data[id(dicts)] = dicts


class Sentinel(_Handed):
    """The end of a thread, to wait for: a lock that its thread holds while it lives, and everybody has afterwards.

    Up to 3.12 a Thread acquires it as it begins, and joining is to acquire and release it. From 3.13 on it is inside a
    ThreadHandle. So that a run is the same in both, only a look at a thread that has not ended is a scheduling point.
    """

    __slots__ = ("ended", "made", "order")

    _kind = "the end of a thread"

    def __init__(self) -> None:
        self._number = 0
        self._holder: SimThread | None = None
        self._waiters: deque[SimThread] | None = None
        self.ended = False
        self.order: Any = None
        self.made = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        s = self._scheduler
        if self._holder is None and not self.ended:
            self._holder = s.current
            return True
        if self.locked() and not self._wait(blocking, timeout):
            return False
        if s.observer is not None:
            s.observer.follows(self)
        return True

    __enter__ = acquire

    def release(self) -> None:
        """The thread has ended; or somebody has who joined it."""
        if self.ended:
            return
        self.ended = True
        self._holder = None
        s = self._scheduler
        if s.observer is not None:
            s.observer.released(self)
        for thread in self._waiters or ():
            s.wake(thread, signalled=True)

    def __exit__(self, *_: object) -> None:
        self.release()

    def locked(self) -> bool:
        if not self.ended:
            s = self._scheduler
            s.left -= 1
            if s.left <= 0:
                s.point("look at", self)
        return not self.ended


class ThreadHandle:
    """What `threading.Thread` of 3.13 and later holds of its thread: done or not, and a way to wait for it."""

    __slots__ = ("__weakref__", "_end", "ident")

    _sentinel: ClassVar[type[Sentinel]]

    def __init__(self) -> None:
        self.ident = 0
        self._end = self._sentinel()

    def begin(self, thread: SimThread) -> None:
        self.ident = thread.number
        self._end._holder = thread
        thread.on_end.append(self._end)

    def is_done(self) -> bool:
        if not self.ident or self._end.locked():
            return False
        return self._end.acquire(False)

    def join(self, timeout: float | None = None) -> None:
        if not self.ident:
            raise RuntimeError("thread not started")
        if self._end.holder() is self._end._scheduler.current:
            raise RuntimeError("Cannot join current thread")
        self._end.acquire(True, -1 if timeout is None or timeout < 0 else timeout)

    def _set_done(self) -> None:
        if not self.ident:
            raise RuntimeError("thread not started")
        self._end.release()

    def __repr__(self) -> str:
        return f"<_thread._ThreadHandle object: ident={self.ident}>"


UNORDERED = ()
"""The `order` of a lock that must not count as order: one in which the library guards its own lists, of pools say.

Whoever uses any pool takes it. If it ordered anything, it would hide races that have nothing to do with it.
"""


class Ordering(_Handed):
    """A lock that tells the world's observer, a race detector, what it orders. It stands before a Lock or an RLock."""

    __slots__ = ()

    _observer: ClassVar[Observer]

    if TYPE_CHECKING:  # the slots are those of the classes of a world, as only one base of a class may have any
        order: Any  # the releaser's epoch and clock at the last release
        made: tuple[CodeType, int] | None  # where in the program, or None

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        self.order = None
        self.made = _maker(sys._getframe())  # type: ignore[misc]

    def release(self) -> None:
        if self.order is not UNORDERED and self._is_let_go():
            self._observer.released(self)  # before anybody else can have it
        super().release()  # type: ignore[misc]

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken: bool = super().acquire(blocking, timeout)  # type: ignore[misc]
        if taken and self.order is not UNORDERED and not self._is_taken_again():
            self._observer.acquired(self)
        return taken

    __enter__ = acquire

    def _is_let_go(self) -> bool:
        """Whether a release would let others have the lock."""
        return self._holder is not None

    def _is_taken_again(self) -> bool:
        """Whether the thread that has just acquired it had it before."""
        return False


class OrderingLock(Ordering):
    __slots__ = ()

    acquire_lock, release_lock = Ordering.acquire, Ordering.release


class OrderingRLock(Ordering):
    __slots__ = ()

    if TYPE_CHECKING:
        _count: int

    def _is_let_go(self) -> bool:
        return self._holder is self._scheduler.current and self._count == 1

    def _is_taken_again(self) -> bool:
        return self._count > 1


_MAKERS = frozenset({"Condition.__init__", "Ordering.__init__", "RLock", "Semaphore.__init__"})


def _maker(frame: FrameType | None) -> tuple[CodeType, int] | None:
    """Where the program has made a lock; None for one that the library made for itself, an Event's or a waiter's."""
    while frame is not None and frame.f_code.co_qualname in _MAKERS:
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(LABSIM) or is_library(frame.f_code.co_filename):
        return None
    return frame.f_code, frame.f_lasti


class Primitives(NamedTuple):
    """The classes, bound to a world."""

    lock: type[_Handed]
    rlock: type[_Handed]
    local: type[Local]
    sentinel: type[Sentinel]
    handle: type[ThreadHandle]


def primitives_of(scheduler: Scheduler) -> Primitives:

    def no_base(cls: type) -> NoReturn:
        raise TypeError("type '_thread.lock' is not an acceptable base type")

    bound: dict[str, Any] = {"_scheduler": scheduler, "__module__": "_thread", "__slots__": ()}
    locks = bound
    bases: list[tuple[type, ...]] = [(cls,) for cls in _locks_of(scheduler)]
    if scheduler.observer is not None:
        bases = [(OrderingLock, *bases[0]), (OrderingRLock, *bases[1])]
        locks = {**bound, "_observer": scheduler.observer, "__slots__": ("made", "order")}
    sentinel = type("Sentinel", (Sentinel,), bound)
    return Primitives(
        type("lock", bases[0], {**locks, "__init_subclass__": no_base}),
        type("RLock", bases[1], locks),
        type("_local", (Local,), bound),
        sentinel,
        type("_ThreadHandle", (ThreadHandle,), {"_sentinel": sentinel, "__module__": "_thread", "__slots__": ()}),
    )
