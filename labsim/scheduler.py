"""Virtual time, and which simulated thread runs next.

All simulated threads share one OS thread; each is a greenlet, and the main one is the greenlet that entered the world.
Exactly one runs. It keeps running until it blocks, sleeps, ends, or comes to a scheduling point at which a seeded draw
sends another one first. There is no hub: the thread that stops chooses its successor and switches straight to it.

What holds:

- Same seed and same program: the same choices. Nothing here depends on a set's order, id() or hash().
- The clock stands still while Python code computes. It moves on by `creep` with each event (a scheduling point passed,
  a thread chosen), so that a loop that polls the clock or a flag ends, and jumps to the next timer when nobody can run.
- Fair: the next thread is drawn evenly from all that can run (or has the highest priority: see Schedule), and no thread
  passes more than `LONGEST_STRETCH` scheduling points in a row without giving way, whatever `switch` is.
- Timers fire in the order of their deadlines, and those with equal deadlines in the order they were set.
- A world ends (`over`) by a verdict (`failure`) or by being closed. From then on every scheduling call raises: in the
  main thread the verdict, in all others `Ended`.

Scheduling points are frequent, so they cost one subtraction. `left` says how many events remain until the next drawn
switch, and the time follows from it. Every primitive does this, and calls only when the stretch has run out:

    s.left -= 1
    if s.left <= 0:
        s.point("acquire", lock)

When a trace is kept, each stretch is one event long, so that each one calls; the choices stay the same.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cache, lru_cache
from heapq import heapify, heappop, heappush
from random import Random
from threading import current_thread, get_ident, local
from types import CodeType, FrameType
from typing import Any, Literal, NoReturn, Protocol, get_args

from greenlet import getcurrent, greenlet

from labsim.ending import QUIET, Ended, Interrupt, ends_the_run, insist, post
from labsim.errors import Deadlock, Endless, SimulationError, Stuck, Unsupported
from labsim.patience import Patience
from labsim.stacks import describe_threads, own_locks
from labsim.trace import Event

__all__ = [
    "AT_ONCE",
    "SECOND",
    "Observer",
    "Schedule",
    "Scheduler",
    "SimThread",
    "Waitable",
    "Wakeups",
    "delays",
    "stretches",
]

__tracebackhide__ = True  # for pytest: a failure points at the line that called, not in here

Schedule = Literal["random", "pct"]
"""How the next thread is chosen: evenly from all that can run; or by priority, as Burckhardt and others have it in "A
Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (ASPLOS 2010). Each thread draws a priority when it
starts, the highest runs, and a drawn switch makes the running thread's the lowest of all."""


@dataclass(frozen=True)
class Wakeups:
    """How long it takes until a thread that may go on does go on, in ns: at least, and the mean of what comes on top.

    On a real machine a thread is not there at once when it is started or woken, and timers are late. Bugs live on that:
    messages overtake each other, and two timers that are set alike do not go off together.
    """

    start: tuple[int, int] = (0, 0)  # of a thread that was started, until it comes to its own function
    signal: tuple[int, int] = (0, 0)  # of a thread that waited for another one
    timer: tuple[int, int] = (0, 0)  # after a sleep, or a wait that has timed out


AT_ONCE = Wakeups()

SECOND = 1_000_000_000  # the clock counts whole nanoseconds: sums of floats would depend on their order

# ns for one event. A lock that is taken or released costs a processor less; a thread that starts, or is switched to,
# much more: this is what makes a round trip, a start and a hand-over together about as long as on real threads.
CREEP = 4_000
# A thread that polls without ever sleeping leaves the clock to creep alone, which would take minutes of real time for
# the two minutes of a long trial. After this many events without one idle moment the clock's step doubles, and again.
BUSY_EVENTS = 100_000
FASTEST_CREEP = 16 * CREEP

LONGEST_STRETCH = 1000  # events until a switch is due even with switch=0: a polling loop must let others run

# Python's collector runs when enough was allocated, in the whole process. Finalisers (an executor's, say) may take
# locks, so a world that wants the same events each time switches it off, and collects after these many events instead.
# Few trials get there.
COLLECT_EVENTS = 250_000

LOOK = SECOND  # of virtual time at least between two looks at whether a call of the main thread returns

MOST_RESTING = 256  # greenlets that are kept from one world to the next; each has some 20 KB

# How often a thread may be told that the world is over, in `finally` blocks for instance, before labsim insists.
PATIENCE = 16


class Waitable(Protocol):
    """What a thread can wait for: a lock."""

    def forget(self, thread: SimThread) -> None:
        """The thread's timer has fired; it waits no longer."""

    def holder(self) -> SimThread | None:
        """The thread that could end the waiting, for the report of a deadlock."""


class LocalData(Protocol):
    """What a `threading.local` keeps for each thread."""

    def forget(self, thread: SimThread) -> None:
        """The thread has ended."""


class Observer(Protocol):
    """Who is told of all that orders what threads do: a race detector. It is always the current thread that does it."""

    def started(self, thread: SimThread) -> None:
        """The current thread has made another one, which has not run yet."""

    def ended(self, thread: SimThread) -> None:
        """The thread has run to its end."""

    def released(self, lock: Any) -> None:
        """The current thread is about to let go of a lock, an `Ordering` of labsim.primitives."""

    def acquired(self, lock: Any) -> None:
        """The current thread has got a lock."""

    def follows(self, lock: Any) -> None:
        """The current thread has seen what was done before the lock's last release, without acquiring it."""


Work = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]


class SimThread:
    """One simulated thread. `number` counts from 1, the main thread; it is also the thread's ident in the world."""

    __slots__ = (
        "__weakref__",
        "actor",
        "greenlet",
        "local_data",  # of the threading.locals that it has used; None before the first
        "number",
        "on_end",  # locks to release when the thread has ended: whoever joins it waits for one of these
        "priority",  # who goes first with schedule="pct"
        "python",  # the threading.Thread it runs, if any
        "refusals",
        "timer",  # the number of its timer, 0 without one; a timer in the heap under another number is stale
        "waits_for",
        "woken",  # whether the last wait ended because somebody woke it, not because time ran out
        "work",  # its function with arguments, until it begins
    )

    actor: Any  # what the observer knows of it, if there is one

    def __init__(self, number: int, work: Work | None = None) -> None:
        self.number = number
        self.work = work
        self.python = getattr(work[0], "__self__", None) if work else None
        self.greenlet: greenlet | None = None  # what runs it, once it has begun
        self.priority = 0.0
        self.on_end: list[Any] = []
        self.local_data: MutableMapping[int, LocalData] | None = None
        self.refusals = 0
        self.timer = 0
        self.waits_for: Waitable | None = None
        self.woken = False

    @property
    def frame(self) -> FrameType | None:
        """The innermost frame of a thread that has begun, and does not run now."""
        return self.greenlet.gr_frame if self.greenlet is not None else None

    @property
    def name(self) -> str:
        if self.number == 1:
            return "MainThread"
        return getattr(self.python, "name", None) or f"thread {self.number}"

    def __repr__(self) -> str:
        return f"<SimThread {self.number} {self.name!r}>"


class Scheduler:
    """The state of one world's clock and threads. Made in the greenlet that becomes the main thread."""

    # So many attributes are found quicker in slots.
    __slots__ = (
        "__weakref__", "_beginner", "_begun_late", "_by_priority", "_collect_at", "_delay_bits", "_draws",
        "_each_event", "_events", "_first_draws", "_getrandbits", "_idle_at", "_late", "_limit", "_lowest",
        "_patience", "_pause", "_random", "_resting", "_root", "_stretches", "_timers_set", "_timers_stale",
        "_until_switch", "_woken_late", "closed", "creep", "current", "describe", "failure", "horizon", "left",
        "locks", "main", "observer", "os_thread", "over", "ready", "started", "threads", "timers", "trace",
        "watched"
    )  # fmt: skip

    def __init__(
        self,
        seed: str,
        *,
        schedule: Schedule,
        switch: float,
        wakeups: Wakeups,
        limit: float | None,
        patience: Patience | None = None,
        trace: list[Event] | None,
    ) -> None:
        self._late = delays(*wakeups.timer)
        self._begun_late = delays(*wakeups.start)
        self._woken_late = delays(*wakeups.signal)
        self._delay_bits = Random(f"{seed}:wakeups").getrandbits
        self._draws = draws = Random(f"{seed}:schedule")
        self._first_draws = draws.getstate()
        self._random = draws.random
        self._getrandbits = draws.getrandbits
        if schedule not in get_args(Schedule):
            raise ValueError(f"schedule is one of {get_args(Schedule)}, not {schedule!r}")
        self._by_priority = schedule == "pct"
        self._lowest = 0.0
        self._each_event = self._by_priority or trace is not None  # calls `point`
        self._stretches = stretches(switch)
        self._limit = None if limit is None else int(limit * SECOND)
        self._patience = patience
        self._pause = self._limit if patience is None else LOOK  # when somebody has to look whether this may go on
        self.trace = trace

        self.main = SimThread(1)
        self.main.greenlet = self._root = getcurrent()
        self._beginner = greenlet(self._begin)
        # Greenlets that have run a thread to its end, and will run another. They outlive worlds, but for those which
        # began under a trace or profile function, or without one that is there now: CPython 3.11 goes by their begin.
        self._resting: list[greenlet] = [] if sys.gettrace() or sys.getprofile() else _greenlets.resting
        self.current = self.main
        self.threads: dict[int, SimThread] = {1: self.main}  # all that have been started and have not ended
        self.started = 1
        self.ready: list[SimThread] = []  # can run, but `current` does; in no order that means anything
        self.timers: list[tuple[int, int, SimThread]] = []  # a heap of (deadline, number, thread)
        self._timers_set = 0
        self._timers_stale = 0
        self.locks = 0  # made so far: numbers name them in traces and reports

        # now = horizon - left * creep, in nanoseconds since the world began; events passed = _events - left
        self.creep = CREEP
        self.left = 0
        self.horizon = 0
        self._events = 0
        self._idle_at = 0  # the event count when the world last had nothing to do
        self._collect_at = COLLECT_EVENTS
        self._until_switch = 0  # events between the end of this stretch and the next drawn switch
        self._new_stretch()

        self.failure: BaseException | None = None
        self.over = False
        self.closed = False
        self.watched = False  # whether somebody is there to take delivery of what `insist` posts (labsim.watchdog)
        self.os_thread = get_ident()
        self.describe: Callable[[Any], str] = lambda _: ""  # which one an object is, for reports
        self.observer: Observer | None = None

    def begin(self) -> None:
        """The world has been made, in a number of events that depends on the Python. The program's begin here."""
        self._draws.setstate(self._first_draws)
        self.locks = 0
        self.left = self.horizon = self._events = self._idle_at = self._until_switch = 0
        if self.trace is not None:
            self.trace.clear()
        self._new_stretch()

    # -- the clock ---------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Nanoseconds since the world began."""
        return self.horizon - self.left * self.creep

    def spend(self, duration: int) -> None:
        """The running thread computes for `duration` ns, in which no other one can run."""
        self.horizon += duration

    def events(self) -> int:
        return self._events - self.left

    def _new_stretch(self) -> bool:
        """Begin the next stretch of events; true when the last one ended in a drawn switch."""
        due = not self._until_switch
        collect = due and self._events >= self._collect_at
        if due:
            self._until_switch = self._stretches[self._getrandbits(8)]
            if self._events - self._idle_at > BUSY_EVENTS:
                self._idle_at = self._events
                self.creep = min(self.creep * 2, FASTEST_CREEP)
            if self._pause is not None and self.horizon > self._pause:
                self._look(self.horizon)
        length = 1 if self._each_event else self._until_switch
        self._until_switch -= length
        self._events += length
        self.horizon += length * self.creep
        self.left = length
        if collect:  # only now, as finalisers may come here again
            self._collect_at += COLLECT_EVENTS
            gc.collect()
        return due

    def _advance(self) -> SimThread:
        """Nobody can run: move the clock to the next timer, and choose who runs then."""
        timers = self.timers
        while True:
            if not timers:
                self._fail_deadlock()
            deadline, number, thread = heappop(timers)
            if thread.timer == number:
                break
            self._timers_stale -= 1
        deadline = max(deadline, self.horizon - self.left * self.creep)
        if self._pause is not None and deadline > self._pause:
            self._look(deadline)
        self.creep = CREEP
        self._idle_at = self._events
        self.horizon = deadline + self.left * CREEP
        thread.timer = 0
        if thread.waits_for is not None:
            thread.waits_for.forget(thread)
            thread.waits_for = None
        if timers and timers[0][0] <= deadline:
            self.ready.append(thread)
            self._fire()
            return self._draw()
        return thread

    def _fire(self) -> None:
        """Make every thread ready whose deadline has come."""
        timers = self.timers
        now = self.horizon - self.left * self.creep
        while timers and timers[0][0] <= now:
            _, number, thread = heappop(timers)
            if thread.timer != number:
                self._timers_stale -= 1
                continue
            thread.timer = 0
            if thread.waits_for is not None:
                thread.waits_for.forget(thread)
                thread.waits_for = None
            self.ready.append(thread)

    def _cancel_timer(self, thread: SimThread) -> None:
        thread.timer = 0
        self._timers_stale += 1
        if self._timers_stale > 64 and self._timers_stale * 2 > len(self.timers):
            # Long timeouts that are never needed would pile up until their time comes, with the threads they name.
            self.timers = [entry for entry in self.timers if entry[2].timer == entry[1]]
            heapify(self.timers)
            self._timers_stale = 0

    # -- choosing and switching --------------------------------------------------------------------------------------

    def point(self, what: str, on: object = "") -> None:
        """A scheduling point at which the stretch has run out: perhaps let another thread run first."""
        if get_ident() != self.os_thread:
            self._refuse_real_thread(on)
        if self.over:
            self._refuse()
            return
        due = self._new_stretch()
        if self.trace is not None:
            self._record(what, on)
        if due:
            self._give_way()
        elif self._by_priority and self.ready and max(t.priority for t in self.ready) > self.current.priority:
            self._let_other_run()

    def preempt(self, what: str) -> None:
        """A scheduling point that switches in any case."""
        self.left -= 1
        if self.left <= 0:
            self.point(what)
        self._give_way()

    def _give_way(self) -> None:
        """A switch is due: another thread goes first, if any can run and, by priority, if it is the highest now."""
        timers = self.timers
        if timers and timers[0][0] <= self.horizon - self.left * self.creep:
            self._fire()
        if self._by_priority:
            self._lowest -= 1
            self.current.priority = self._lowest
        if self.ready:
            self._let_other_run()

    def _let_other_run(self) -> None:
        me = self.current
        other = self._draw()
        self.ready.append(me)
        self._switch(other, me)

    def block(self, on: Waitable | None, timeout: int | None) -> bool:
        """Stop the current thread until `wake` (true) or until `timeout` nanoseconds have passed (false)."""
        if get_ident() != self.os_thread:
            self._refuse_real_thread(on)
        me = self.current
        me.waits_for = on
        me.woken = False
        if timeout is not None:
            self._set_timer(me, timeout + self._late[self._delay_bits(DELAY_BITS)] if self._late else timeout)
        other = self._next()
        if other is not me:  # as in `_switch`: this is where most switches are
            self.current = other
            (other.greenlet or self._fresh_greenlet()).switch(self)
            if self.over:
                self._refuse(blocking=True)
        return me.woken

    def _set_timer(self, thread: SimThread, duration: int) -> None:
        self._timers_set += 1
        thread.timer = self._timers_set
        heappush(self.timers, (self.horizon - self.left * self.creep + duration, thread.timer, thread))

    def wake(self, thread: SimThread, signalled: bool) -> None:
        """The thread has what it waits for. It can run now or, if it was signalled by another, when it has woken up."""
        if thread.timer:
            self._cancel_timer(thread)
        thread.waits_for = None
        thread.woken = True
        if signalled and self._woken_late:
            self._set_timer(thread, self._woken_late[self._delay_bits(DELAY_BITS)])
        else:
            self.ready.append(thread)

    def sleep(self, duration: int) -> None:
        """Stop the current thread for `duration` nanoseconds; 0 lets any other thread that can run go first."""
        if duration:
            self.block(None, duration)
        else:
            me = self.current
            self.ready.append(me)
            self._switch(self._next(), me)

    def _next(self) -> SimThread:
        """Choose who runs now that the current thread does not, moving the clock when nobody can."""
        self.left -= 1
        if self.left <= 0:
            if self.over:
                self._refuse(blocking=True)
            self._new_stretch()
        timers = self.timers
        if timers and timers[0][0] <= self.horizon - self.left * self.creep:
            self._fire()
        ready = self.ready
        if not ready:
            chosen = self._advance()
        elif len(ready) == 1:
            chosen = ready.pop()
        else:
            chosen = self._draw()
        if self.trace is not None:
            self.trace.append((self.events(), self.now(), chosen.name, "runs"))
        return chosen

    def _draw(self) -> SimThread:
        """Take one of the ready threads: each with the same chance, or the one with the highest priority."""
        ready = self.ready
        if self._by_priority:
            thread = max(ready, key=lambda t: t.priority)
            ready.remove(thread)
            return thread
        last = ready.pop()
        others = len(ready)
        if not others or (chosen := int(self._random() * (others + 1))) == others:
            return last
        thread = ready[chosen]
        ready[chosen] = last
        return thread

    def _switch(self, other: SimThread, me: SimThread) -> None:
        if other is not me:
            self.current = other
            (other.greenlet or self._fresh_greenlet()).switch(self)  # and somebody has switched back
            if self.over:
                self._refuse(blocking=True)

    def _record(self, what: str, on: object) -> None:
        assert self.trace is not None
        self.trace.append((self.events(), self.now(), self.current.name, f"{what} {on}" if on != "" else what))

    # -- threads -----------------------------------------------------------------------------------------------------

    def start(
        self,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        register: Callable[[SimThread], object] | None = None,
    ) -> SimThread:
        """Make a thread that will call the function; it can run from now on, once it is told to `register`."""
        if self.over:
            self._refuse(blocking=True)
        self.started += 1
        thread = SimThread(self.started, (function, args, kwargs))
        if self._by_priority:
            thread.priority = self._random()
        self.threads[thread.number] = thread
        if self.observer is not None:
            self.observer.started(thread)
        if register is not None:
            register(thread)
        if self._begun_late:
            self._set_timer(thread, self._begun_late[self._delay_bits(DELAY_BITS)])
        else:
            self.ready.append(thread)
        self.left -= 1
        if self.left <= 0:
            self.point("start", thread.name)
        return thread

    def _fresh_greenlet(self) -> greenlet:
        """What to switch to for the current thread to begin; it must be told of which world."""
        while self._resting:
            resting = self._resting.pop()
            if resting:  # it may have been ended (labsim.ending) in the moment of going to rest
                return resting
        return self._beginner

    def _begin(self, _: Scheduler) -> NoReturn:
        """The life of the greenlet from which all others begin.

        A greenlet begins as deep in Python's recursion as the one that first switches to it. Timers that start Timers
        would reach the limit, each a little deeper than the last.
        """
        while True:
            greenlet(_live, self._root).switch(self)

    def _run(self, thread: SimThread) -> None:
        """The life of a thread."""
        assert thread.work is not None
        (function, args, kwargs), thread.work = thread.work, None
        try:
            function(*args, **kwargs)
        except BaseException as error:
            Interrupt.__init__ = QUIET  # type: ignore[method-assign]  # this first: see labsim.ending
            try:
                post(self.os_thread, Interrupt)
            except Interrupt:
                pass
            self.crashed(error, function)
        del function, args, kwargs  # the caller's objects end with the thread
        if not self.over:
            for data in list(thread.local_data.values()) if thread.local_data else ():
                data.forget(thread)
            for lock in thread.on_end:
                lock.release()
            if self.observer is not None:
                self.observer.ended(thread)
        del self.threads[thread.number]

    def crashed(self, error: BaseException, function: object = None) -> None:
        """An exception has escaped from a thread: what ends the test (pytest's, Ctrl-C) must come out of the world.

        Any other has escaped from the `function` of a thread that is no `threading.Thread`, for those catch everything.
        """
        if self.over or isinstance(error, (Ended, SystemExit)):
            return  # in a world that is over, an exception such as "release unlocked lock" is none of the program's
        if ends_the_run(error):
            self.fail(error)
        what = "Exception ignored in thread started by"
        if sys.version_info >= (3, 13):
            what, function = f"{what} {function!r}", None
        sys.unraisablehook(_hook_arguments()((type(error), error, error.__traceback__, what, function)))

    # -- the end -----------------------------------------------------------------------------------------------------

    def condemn(self, failure: BaseException) -> None:
        """The world has failed: its main thread raises `failure` as soon as it reaches the scheduler or returns."""
        if not self.over:
            self.failure = failure
            self._stop()

    def _stop(self) -> None:
        """From now on every scheduling call notices that the world is over; the clock stays where it is."""
        self.over = True
        self.horizon -= self.left * self.creep
        self._events -= self.left
        self.left = 0

    def fail(self, failure: BaseException) -> NoReturn:
        """Condemn the world and leave the current thread at once."""
        self.condemn(failure)
        self._refuse(blocking=True)
        raise AssertionError("a blocking call of a world that is over has returned")

    def _fail_deadlock(self) -> NoReturn:
        self._fail_with_threads(
            Deadlock(
                f"Deadlock at {self.now() / SECOND:.6f} s of virtual time: every thread is blocked, and there is no "
                f"timer that would wake one.\n\n{describe_threads(self.threads.values(), self.current, self.describe)}"
            )
        )

    def _fail_with_threads(self, failure: SimulationError) -> NoReturn:
        failure.own_locks = tuple(own_locks(self.threads.values(), self.current, self.describe))
        self.fail(failure)

    def _look(self, now: int) -> None:
        """The clock is about to go to `now`: end a world whose time is over, or a call that takes too long."""
        if self._patience is not None:
            frame = sys._getframe() if self.current is self.main else self.main.frame
            self._patience.look(frame, self.now() / SECOND)
            call = self._patience.look(frame, now / SECOND)
            if call is not None:
                self._fail_stuck(call.f_code)
        if self._limit is not None and now > self._limit:
            self._fail_endless()
        self._pause = now + LOOK

    def _fail_stuck(self, code: CodeType) -> NoReturn:
        assert self._patience is not None
        stuck = Stuck(
            f"{code.co_qualname} has not returned for {self._patience.seconds:g} s of virtual time. The threads:\n\n"
            f"{describe_threads(self.threads.values(), self.current, self.describe)}"
        )
        stuck.function = code.co_name
        self._fail_with_threads(stuck)

    def _fail_endless(self) -> NoReturn:
        assert self._limit is not None
        self.fail(
            Endless(
                f"the program has not ended within {self._limit / SECOND:g} s of virtual time. Its threads:\n\n"
                f"{describe_threads(self.threads.values(), self.current, self.describe)}"
            )
        )

    def _refuse(self, blocking: bool = False) -> None:
        """The world is over: raise what ends the current thread."""
        me = self.current
        if me is self.main and self.closed:
            if blocking:
                raise SimulationError("a call that would block, or start a thread, in a world that has been left")
            return  # unlocking, say, as objects are finalised does no harm
        if me is not self.main and not self.closed:
            self.threads[me.number] = me  # for close() to end, should it be one that was just ending
            self.current = self.main
            self._root.switch()  # and the world has been closed
        me.refusals += 1
        if me.refusals > PATIENCE and self.watched:
            insist(self.os_thread)
        if me is self.main:
            assert self.failure is not None
            raise self.failure
        raise Ended

    def _refuse_real_thread(self, on: object) -> NoReturn:
        """Only those threads can take part that were started in the world."""
        error = Unsupported(
            f"the real thread {current_thread().name!r}, which was not started in this world, uses {on or 'a sleep'} "
            "of the world's. A module that has threads of its own must lie in a `fresh` folder, to be executed in the "
            "world; or the program can run without virtual time, with real threads."
        )
        self.condemn(error)
        raise error

    def close(self) -> None:
        """End every thread, whatever it is doing. Called by the main thread."""
        self.closed = True
        self._stop()
        for thread in list(self.threads.values()):
            if thread is not self.main and thread.greenlet:  # has begun, and its greenlet has not ended
                self.current = thread
                thread.greenlet.switch()
        self.current = self.main
        kept = MOST_RESTING if self._resting is _greenlets.resting else 0
        for idle in [*self._resting[kept:], self._beginner]:
            idle.parent = self._root
            idle.throw()
        del self._resting[kept:]
        self.threads.clear()
        self.ready.clear()
        self.timers.clear()


class _Greenlets(local):
    """Those of an OS thread that run no simulated thread for now. A new one costs as much as ten switches."""

    def __init__(self) -> None:
        self.resting: list[greenlet] = []


_greenlets = _Greenlets()


def _live(scheduler: Scheduler) -> None:
    """The life of a greenlet: it runs the current thread to its end, then others that begin, of any world."""
    me = getcurrent()
    while True:
        thread = scheduler.current
        thread.greenlet = me
        scheduler._run(thread)
        if scheduler.over:
            if not scheduler.closed:
                scheduler.current = scheduler.main
            return  # to the parent, which is the main thread's
        scheduler.current = successor = scheduler._next()
        thread.greenlet = None
        me.gr_context = None  # of contextvars: a new thread's is empty
        if successor.greenlet is None:
            continue
        scheduler._resting.append(me)
        switch = successor.greenlet.switch
        del thread, successor, scheduler  # whoever rests must not keep a world
        scheduler = switch(None)
        del switch
        me.parent = scheduler._root


@cache
def _hook_arguments() -> Callable[..., Any]:
    """The type that Python's own sys.unraisablehook insists on. It stands nowhere, but the hook is given one."""
    given: list[Any] = []

    class Fails:
        def __del__(self) -> None:
            raise Ended

    hook, sys.unraisablehook = sys.unraisablehook, given.append
    try:
        Fails()
    finally:
        sys.unraisablehook = hook
    return type(given[0])


DELAY_BITS = 10  # of a draw from a table of delays


@lru_cache
def delays(least: int, mean: int) -> list[int]:
    """2**DELAY_BITS equally likely delays in ns: `least`, and a rest that is distributed exponentially around `mean`.

    A table made by multiplication, as logarithms differ in their last digit between machines. Empty for no delay.
    """
    if not least and not mean:
        return []
    size, steps = 2**DELAY_BITS, 64  # per mean
    table = []
    step, later = 0, 1.0
    for quantile in range(size):
        while later > 1 - (quantile + 0.5) / size:
            step += 1
            later *= 1 - 1 / steps
        table.append(least + step * mean // steps)
    return table


@lru_cache
def stretches(switch: float) -> list[int]:
    """256 equally likely numbers of events from one switch to the next, when each event switches with a probability.

    A table, so that a draw costs little, and made without logarithms, whose last digit differs between machines.
    """
    if not 0 <= switch <= 1:
        raise ValueError(f"switch is a probability, not {switch!r}")
    table = []
    length, unswitched = 1, 1 - switch
    for quantile in range(256):
        while unswitched > 1 - (quantile + 0.5) / 256 and length < LONGEST_STRETCH:
            length += 1
            unswitched *= 1 - switch
        table.append(length)
    return table
