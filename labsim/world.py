"""One world: a seed, a clock, a scheduler and its own copies of modules. The package's docstring has the contract."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, TypeVar

from greenlet import getcurrent

from labsim.ending import Ended, untraced
from labsim.errors import SimulationError, Unsupported
from labsim.loading import Importer
from labsim.patience import Patience
from labsim.scheduler import AT_ONCE, SECOND, Schedule, Scheduler, Wakeups
from labsim.stacks import place_in_program
from labsim.standins import StandIns
from labsim.trace import Event
from labsim.watchdog import watched

if TYPE_CHECKING:
    from labsim.race import Detector

__all__ = ["World"]

__tracebackhide__ = True  # for pytest: a failure points at the line that called, not in here

P = ParamSpec("P")
R = TypeVar("R")


class World:
    """A world in which ordinary threaded Python runs in virtual time. See `labsim` for what holds in it.

    seed      str: decides every choice, the scheduler's and those of generators that the program does not seed itself
    fresh     folders, whose modules are executed afresh for this world; all others are shared with the process
    schedule  how the next thread is chosen: "random", each that can run with the same chance; or "pct", by priority
              (labsim.scheduler.Schedule says how)
    switch    float, 0 to 1: the probability, at each scheduling point, that the running thread lets another one go
              first. With "pct" it is the probability that the running thread's priority becomes the lowest
    wakeups   how late a thread goes on that may (labsim.scheduler.Wakeups); by default not at all
    limit     float, seconds of virtual time after which the world fails with Endless; None for no limit
    patience  after how many seconds of virtual time, in which calls of the main thread, the world fails with Stuck
              (labsim.patience); None for never
    spin      float, seconds of processor time that a thread may run without reaching the scheduler; then the world
              fails with Spin
    watch     says of a file, by its path, whether to look for data races in it (labsim.race); None to look in none, and
              then `share` has no effect
    share     float, 0 to 1: as `switch`, but at each access to a variable in the files watched
    describe  says of an object which one it is ("server 2"), or "", for reports of races and of threads that wait
    trace     whether to keep `trace`, the list of all events (labsim.trace)

    Entering it raises ValueError for a `schedule`, `switch` or `share` that is none of these, and SimulationError when
    another world is open or this one has been entered before.
    """

    _open: ClassVar[World | None] = None  # sys.modules is one for the process, so worlds come one after another

    def __init__(
        self,
        seed: str,
        *,
        fresh: Sequence[Path],
        schedule: Schedule = "random",
        switch: float = 0.1,
        wakeups: Wakeups = AT_ONCE,
        limit: float | None = None,
        patience: Patience | None = None,
        spin: float = 3.0,
        watch: Callable[[str], bool] | None = None,
        share: float = 0.02,
        describe: Callable[[Any], str] = lambda _: "",
        trace: bool = False,
    ) -> None:
        self.seed = seed
        self.trace: list[Event] | None = [] if trace else None
        self._fresh = tuple(fresh)
        self._schedule = schedule
        self._switch = switch
        self._wakeups = wakeups
        self._limit = limit
        self._patience = patience
        self._spin = spin
        self._watch = watch
        self._share = share
        self._describe = describe
        self.detector: Detector | None = None
        self._scheduler: Scheduler | None = None
        self._importer: Importer | None = None
        self._running = False

    # -- entering and leaving ----------------------------------------------------------------------------------------

    def __enter__(self) -> World:
        if World._open is not None:
            raise SimulationError("another world is open in this process")
        if self._scheduler is not None:
            raise SimulationError("a world is entered once; make another one with the same seed to see it again")
        self._scheduler = Scheduler(
            self.seed,
            schedule=self._schedule,
            switch=self._switch,
            wakeups=self._wakeups,
            limit=self._limit,
            patience=self._patience,
            trace=self.trace,
        )
        self._scheduler.describe = self._describe
        if self._watch is not None:
            from labsim.race import Detector  # here, as a world without it starts sooner

            self.detector = Detector(
                self._scheduler, self.seed, watch=self._watch, share=self._share, describe=self._describe
            )
        self._stand_ins = StandIns(self._scheduler, self.seed, self._refuse)
        self._importer = Importer(self._fresh, self._stand_ins, self._refuse, self.detector)
        World._open = self
        self._collect = gc.isenabled()
        gc.disable()  # see COLLECT_EVENTS in labsim.scheduler
        self._importer.load_dotted("threading")  # now, because it takes the thread it is made in for the main thread
        self._scheduler.begin()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        scheduler, importer = self._entered()
        self._stand_ins.close()
        try:
            with untraced():
                watched(scheduler, self._spin, scheduler.close)
        except Ended:
            pass  # it took an interruption to end some thread
        finally:
            importer.close()
            if self.detector is not None:
                self.detector.close()
            self._importer = None
            World._open = None
            if self._collect:
                gc.enable()

    def _entered(self) -> tuple[Scheduler, Importer]:
        if self._scheduler is None or self._importer is None:
            raise SimulationError("this world is not open: use it inside its `with` block")
        return self._scheduler, self._importer

    # -- using -------------------------------------------------------------------------------------------------------

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as the world's main thread; other threads run meanwhile, and wait when it has returned.

        What it raises comes out as it is. A world that has failed (`failure`) raises that instead, even when the
        program swallowed it, and again in every later call.
        """
        return self._inside(function, *args, **kwargs)

    def load(self, name: str, path: Path, search: Sequence[Path] | None = None) -> ModuleType:
        """Execute a file as module `name`; as a package when `search` has the folders of its submodules."""
        return self._inside(self._entered()[1].load, name, path, search)

    def import_module(self, name: str) -> ModuleType:
        """The module that the import statement finds inside the world."""
        return self._inside(self._entered()[1].import_module, name)

    def _inside(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Where the world begins, for stacks and for the watchdog."""
        scheduler, _ = self._entered()
        if self._running:
            return function(*args, **kwargs)
        if getcurrent() is not scheduler.main.greenlet:
            raise SimulationError("a world is used by the thread that entered it")
        if scheduler.failure is not None:
            raise scheduler.failure
        self._running = True
        try:
            result: R = watched(scheduler, self._spin, function, *args, **kwargs)
        except BaseException as error:
            if scheduler.failure is None or error is scheduler.failure:
                raise
        finally:
            scheduler.current = scheduler.main  # whatever exception brought us back here
            self._running = False
        if scheduler.failure is not None:
            raise scheduler.failure
        return result

    # -- looking -----------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds of virtual time since the world began. Looking does not move the clock."""
        return self._scheduler.now() / SECOND if self._scheduler is not None else 0.0

    def spend(self, nanoseconds: int) -> None:
        """Let the running thread's computing take time: for what costs much on a real machine, as its caller knows."""
        scheduler = self._scheduler or self._entered()[0]
        scheduler.spend(nanoseconds)

    @property
    def events(self) -> int:
        """How many scheduling events there have been."""
        return self._scheduler.events() if self._scheduler is not None else 0

    @property
    def failure(self) -> BaseException | None:
        """The verdict that ended the world: a SimulationError, or what ends a test (Ctrl-C, a timeout) in a thread."""
        return self._scheduler.failure if self._scheduler is not None else None

    def _refuse(self, what: str) -> NoReturn:
        assert self._scheduler is not None
        place, source = place_in_program(sys._getframe())
        error = Unsupported(
            f"{what} at {place}\n"
            f"    {source}\n"
            "is not possible in virtual time, which has threading, queue, concurrent.futures threads, sched, time, "
            "datetime and random, but no sockets, processes, signals or event loops. The program can run without "
            "virtual time, with real threads."
        )
        self._scheduler.condemn(error)
        raise error
