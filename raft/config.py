"""The harness: a cluster of the student's Rafts on a labrpc network, and the verbs with which a lab test drives it.

A lab test tells a story about one Config:

    with make_config(3) as cfg:                  # three servers started and connected
        cfg.begin("Test (2A): initial election")
        leader = cfg.checkOneLeader()
        cfg.disconnect(leader)
        ...
        cfg.end()                                # prints the lab's result line
                                                 # leaving the block cleans up, whatever happened

`make_config` is a method of a Trial, which says which solution, which seed and where the lines go, and keeps what the
test leaves behind: its figures and a log of every verb.

How a test fails:

- A check that does not hold raises LabFailure: the lab's own words first, then what each server answered, and when.
- An exception in any thread of the solution ends a Go test, so it fails this one: the first is kept, and raised by the
  next verb (pauses inside verbs end early for it) or at clean-up. The same goes for `sys.exit` in a thread, and for
  what the appliers find wrong with the messages on applyCh.
- More than 120 s of the test's own time since it was made fail it at `end` or at clean-up.

- A Kill that has not returned after 10 s fails it, with where it hangs. (In Go the test would never end.) Whoever
  runs the trial looks after its other calls.

Clean-up kills every Raft and the network, and waits a second for the test's threads, or up to five as long as some of
them still end. Those that run then are reported (LeakWarning, at their own line) and ended where Python can.

Everything random here comes from `random.Random(f"{seed}:network")` and `random.Random(f"{seed}:config")`; test stories
draw from the latter, as `cfg.rng`. Times are in seconds, except where a name says ms.

A Trial may have an Observer, which is told of every message, save, answer, verb and check; without one nothing is done.

Differences from Go's config: `with` in place of `defer cleanup()`; applier and RPC errors fail the test instead of
ending the process; facts after each message; a Kill that never returns is waited for as long as it may be on its way,
and no longer.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import io
import random
import string
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self, cast

import labgob
import labrpc
from raft.api import ApplyCh, ApplyMsg, MakeRaft, Raft, SnapshotRaft
from raft.persister import Persister
from raft.threads import OwnLock, Place, Stacks, server_at

__tracebackhide__ = True  # a failure points at the line of the lab test, not in here

RaftElectionTimeout = 1.0
"""s. The lab's tests pause in units of it; a Raft is never told."""

TIME_LIMIT = 120.0  # s for one test
SnapShotInterval = 10  # a service makes a snapshot at indices 9, 19, 29, ... (2D)
MAX_NOTE = 2000  # characters of an event: a Raft that applies nonsense must not fill the memory with its logs
KILL_PATIENCE = 10.0  # s for which clean-up waits for a Kill to return
LEAK_PATIENCE = 1.0  # s after Kill in which no thread ended, until those left are leaks;
LEAK_LIMIT = 5.0  # or s after Kill, should threads come and go: a Raft that ignores Kill starts new ones


class LabFailure(AssertionError):
    """A lab test has failed. `message` is the lab's own sentence, without the facts of this run.

    `cause` is a word for programs: "lab" for a check of the lab, "died", "exit" and others for what they say.
    """

    cause = "lab"

    def __init__(self, message: str, facts: str = "", *, cause: str = "") -> None:
        super().__init__(f"{message}: {facts}" if facts else message)
        self.message = message
        self.cause = cause or self.cause


class LeakWarning(UserWarning):
    """A thread of the solution went on after Kill."""


@dataclass
class Figures:
    """The five figures of the result line: s, and counts since `begin`."""

    seconds: float
    servers: int
    rpcs: int
    bytes: int
    commands: int

    def __str__(self) -> str:
        return f"{self.seconds:4.1f}  {self.servers} {self.rpcs:4d} {self.bytes:7d} {self.commands:4d}"


class Observer(labrpc.Observer, Protocol):
    """Somebody who is told of everything that happens in a trial.

    As with labrpc.Observer, a method is called in the thread in which the thing happens, must return soon and must call
    nothing of the trial. `incarnation` counts the starts of a server, from 1. An incarnation that has crashed may go on
    for a while, and what it does is told too.
    """

    def began_trial(self, servers: int) -> None:
        """So many servers are about to be started."""

    def ended_trial(self) -> None:
        """Clean-up begins: all that follows comes from servers that are being killed."""

    def started(self, server: int, incarnation: int, endnames: list[str]) -> None:
        """Make is about to be called, with these ends; `endnames[j]` leads to server j."""

    def crashed(self, server: int) -> None:
        """The server is about to be cut off, and what it had saved by then to be put by."""

    def connected(self, server: int, yes: bool) -> None: ...

    def saved(self, server: int, incarnation: int, state: bytes, snapshot: bytes) -> None:
        """This is what is saved now."""

    def applied(self, server: int, incarnation: int, message: ApplyMsg) -> None:
        """The service took a message from applyCh."""

    def made_snapshot(self, server: int, incarnation: int, index: int, snapshot: bytes) -> None:
        """The service is about to hand Raft.Snapshot a snapshot."""

    def asked(self, server: int, incarnation: int) -> None:
        """GetState is about to be called."""

    def said(self, server: int, incarnation: int, state: Any) -> None:
        """What GetState returned: (term, leads) unless the solution is wrong."""

    def took(self, server: int, incarnation: int, command: Any, answer: Any) -> None:
        """What Start returned: (index, term, leads) unless the solution is wrong."""

    def noted(self, event: str) -> None:
        """A line of the trial's log: a verb, or a check with what it saw."""

    def died(self, server: int | None, thread: str, what: str, where: str) -> None:
        """An exception has ended a thread, or an RPC handler; of which server, if that is known."""

    def printed(self, server: int | None, line: str) -> None:
        """The solution has printed a line; on which server, if that is known. Whoever runs the trial sees that."""

    def failed(self, what: str, background: bool) -> None:
        """The trial fails with this. `background`: it was found there, and will be raised by the next verb."""


class Trial:
    """One run of one lab test.

    `make` is the solution's Make; `seed` names the random streams; `out` receives the lab's lines, without newlines.
    """

    def __init__(self, make: MakeRaft, seed: str, out: Callable[[str], None], observer: Observer | None = None) -> None:
        self.make = make
        self.seed = seed
        self.out = out
        self.observer = observer
        self.figures: Figures | None = None  # of the last `end`, or of the clean-up if the test did not get there
        self.events: list[str] = []  # every verb with its time, for the log of a failure
        self.leaked: list[threading.Thread] = []  # threads that could not be ended
        self.own_locks: list[OwnLock] = []  # threads that waited for themselves when it failed
        self.failure: LabFailure | None = None  # the first thing that was found in the background
        self.failed = threading.Event()

    def fail_later(self, failure: LabFailure) -> None:
        """Keep what was found outside the test's own thread, for the next verb to raise. The first one counts."""
        self.failure = self.failure or failure
        self.failed.set()

    def make_config(self, n: int, *, unreliable: bool = False, snapshot: bool = False) -> Config:
        """A cluster of n servers, started and connected. `snapshot`: their services make snapshots (2D)."""
        return Config(self, n, unreliable, snapshot)

    # What depends on where the servers run: here, or (labrun.isolated) in processes of their own.

    def service(self, rf: Raft) -> labrpc.Service:
        """The RPC handlers of what `make` returned."""
        return labrpc.MakeService(rf)

    def crash(self, rf: Raft) -> bool:
        """Shut down what `make` returned by something harder than Kill, if there is; whether there was."""
        return False

    def places(self, threads: Collection[threading.Thread]) -> list[str]:
        """Where the threads of the solution are, for the log of a failure; here, they are among `threads`."""
        stacks = Stacks(threads)
        self.own_locks = list(stacks.own_locks())
        return [f"{stacks.name(thread)}: {stacks.where(thread)}" for thread in threads if not stacks.is_idle(thread)]

    def close(self) -> None:
        """The test is over, every Kill has been asked for and the network has ended: end what `make` has started."""


class Config:
    """One cluster. The verbs are the lab's; each may raise LabFailure, as the module says."""

    def __init__(self, trial: Trial, n: int, unreliable: bool, snapshot: bool) -> None:
        self._trial = trial
        self._t0 = time.monotonic()
        self._threads_before = set(threading.enumerate())
        self._finished = False
        self._told: BaseException | None = None  # the failure that the observer knows
        self._passed = False  # `end` has been reached in time
        self._excepthook_before = threading.excepthook
        threading.excepthook = self._thread_died

        self.n = n
        self.rng = random.Random(f"{trial.seed}:config")
        self._observer = trial.observer
        self.net = labrpc.MakeNetwork(random.Random(f"{trial.seed}:network"), trial.observer)
        self.connected = [False] * n

        self._mu = threading.Lock()  # guards the five lists below and maxIndex
        self.rafts: list[Raft | None] = [None] * n  # None: crashed
        self._saved: list[Persister | None] = [None] * n
        self._endnames: list[list[str]] = [[] for _ in range(n)]  # fresh at each start, so a dead instance cannot send
        self._logs: list[dict[int, Any]] = [{} for _ in range(n)]  # what each server has applied: index to command
        self._lastApplied = [0] * n
        self._incarnations = [0] * n  # how often each server was started
        self.maxIndex = 0  # the highest index that any server ever applied
        self._channels: list[ApplyCh] = []
        self._appliers: list[threading.Thread] = []

        self._begun: tuple[float, int, int, int] | None = None
        if self._observer is not None:
            self._observer.began_trial(n)
        try:
            self.setunreliable(unreliable)
            self.net.LongDelays(True)
            self._applier = self._applierSnap if snapshot else self._applier_plain
            for i in range(n):
                self.start1(i)
            for i in range(n):
                self.connect(i)
        except BaseException:
            self.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: types.TracebackType | None
    ) -> None:
        if e is not None:
            self._tell(e, background=False)
            self._note(f"the test ends here: {type(e).__name__}; its threads are")
            others = [t for t in self._threads() if t not in self._appliers]
            places = collections.Counter(self._trial.places(others))
            for place, count in places.most_common(50):
                self._note(f"    {place}" + (f" ({count} of them)" if count > 1 else ""))
        self.cleanup()
        if e is None:
            self.check()
            if not self._passed:
                self.checkTimeout()

    def __repr__(self) -> str:
        return f"<Config of {self.n} servers, connected {self.connected}, at {self.seconds():.2f} s>"

    # --- time, failures, the log ---

    def seconds(self) -> float:
        """The test's own time in s."""
        return time.monotonic() - self._t0

    def print(self, line: str) -> None:
        """Show a line to whoever runs the lab."""
        self._trial.out(line)

    def fail(self, message: str, facts: str = "") -> NoReturn:
        """Go's Fatalf: end the test here, with the lab's message and the facts of this run."""
        failure = LabFailure(message, f"{facts} at {self.seconds():.2f} s" if facts else f"at {self.seconds():.2f} s")
        self._log(f"FAILED {failure}")
        self._tell(failure, background=False)
        raise failure

    def check(self) -> None:
        """Raise what a background thread has found, if anything."""
        if self._trial.failure is not None:
            raise self._trial.failure

    def checkTimeout(self) -> None:
        """Fail a test that has used up its time."""
        if self.seconds() > TIME_LIMIT:
            self.fail("test took longer than 120 seconds")

    def checkFinished(self) -> bool:
        """Whether clean-up has begun: a helper thread of a test should end then."""
        return self._finished

    def _note(self, event: str) -> None:
        self._log(event)
        if self._observer is not None:
            self._observer.noted(event)

    def _log(self, event: str) -> None:
        self._trial.events.append(f"{self.seconds():8.3f} s  {event[:MAX_NOTE]}")

    def _tell(self, failure: BaseException, *, background: bool) -> None:
        """Let the observer know of a failure, once."""
        if self._observer is not None and failure is not self._told:
            self._told = failure
            self._observer.failed(_said(failure), background)

    def sleep(self, seconds: float) -> None:
        """Pause, as verbs and stories do; what a background thread finds meanwhile is raised at once."""
        self._trial.failed.wait(seconds)
        self.check()

    def _fail_later(self, failure: LabFailure) -> None:
        self._log(f"FAILED in the background: {failure}")
        self._tell(failure, background=True)
        self._trial.fail_later(failure)

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        """threading.excepthook while this Config lives."""
        thread, e = args.thread, args.exc_value
        if thread in self._threads_before:
            self._excepthook_before(args)
            return
        name = thread.name if thread else "unknown"
        if isinstance(e, SystemExit):
            if not self._finished:
                self._fail_later(
                    LabFailure(
                        f"thread {name!r} called sys.exit({e.code!r}), which ends the whole program in the lab",
                        _innermost_line(args.exc_traceback),
                        cause="exit",
                    )
                )
        elif isinstance(e, LabFailure):
            self._fail_later(e)
        elif e is not None and (self._trial.failure is None or self._trial.failure.__cause__ is not e):
            where = _innermost_line(args.exc_traceback)
            if self._observer is not None:
                self._observer.died(_server_of(args.exc_traceback), name, _said(e), where)
            failure = LabFailure(
                f"thread {name!r} died: {type(e).__name__}: {e}",
                f"{where}, at {self.seconds():.2f} s",
                cause="memory" if isinstance(e, MemoryError) else "died",
            )
            failure.__cause__ = e
            self._fail_later(failure)

    # --- servers ---

    def start1(self, i: int) -> None:
        """Start server i, or crash and restart it from what it saved. It is left unconnected."""
        self.crash1(i)
        # A fresh set of names: an old instance of i can never send again, as only these are enabled from now on.
        self._endnames[i] = [self.randstring(20) for _ in range(self.n)]
        ends = []
        for j, endname in enumerate(self._endnames[i]):
            ends.append(self.net.MakeEnd(endname))
            self.net.Connect(endname, j)

        self._incarnations[i] += 1
        incarnation = self._incarnations[i]
        saves = None
        if self._observer is not None:
            self._observer.started(i, incarnation, self._endnames[i])
            saves = functools.partial(self._observer.saved, i, incarnation)
        with self._mu:
            self._lastApplied[i] = 0
            saved = self._saved[i]
            persister = saved.Copy(saves) if saved else Persister(saves)
            self._saved[i] = persister
            # As a service does at boot: go on from the snapshot. The first command must then be the one after it.
            error = self._ingestSnap(i, persister.ReadSnapshot(), None) if persister.SnapshotSize() else ""
        if error:
            self.fail(error)

        applyCh = ApplyCh()
        self._channels.append(applyCh)
        rf = self._trial.make(ends, i, persister, applyCh)
        for method in ("GetState", "Start", "Kill"):
            if not callable(getattr(rf, method, None)):
                raise LabFailure(f"Make must return a Raft with a method {method}", f"it returned {rf!r}")
        service = self._trial.service(rf)
        rf = cast(Raft, _Watched(rf, i, incarnation, self._observer))
        with self._mu:
            self.rafts[i] = rf
        applier = threading.Thread(
            target=self._applier, args=(i, incarnation, applyCh), name=f"applier of server {i}", daemon=True
        )
        self._appliers.append(applier)
        applier.start()

        server = labrpc.MakeServer()
        server.AddService(service)
        self.net.AddServer(i, server)
        self._note(f"start {i}")

    def crash1(self, i: int) -> None:
        """Shut server i down, keeping what it had saved by this instant."""
        if self._observer is not None and self.rafts[i]:
            self._observer.crashed(i)
        self._cut(i)
        # Before the state is copied: else a handler could save in the superseded persister, and still answer.
        self.net.DeleteServer(i)
        with self._mu:
            saved = self._saved[i]
            if saved:
                self._saved[i] = saved.Copy()  # the old instance goes on writing to the old one, unread
            rf = self.rafts[i]
        if rf:
            self._note(f"crash {i}")
            if not self._trial.crash(rf):
                # Outside the lock: it may wait for a lock held while delivering to the applier, who needs ours.
                self._await_kills([self._start_kill(i, rf)])
            self.check()
        with self._mu:
            self.rafts[i] = None
            saved = self._saved[i]
            if saved:
                fresh = Persister()
                fresh.SaveStateAndSnapshot(saved.ReadRaftState(), saved.ReadSnapshot())
                self._saved[i] = fresh

    def connect(self, i: int) -> None:
        """Attach server i to the network: wires to and from every server that is attached, itself included."""
        self._note(f"connect {i}")
        if self._observer is not None:
            self._observer.connected(i, True)
        self.connected[i] = True
        for j in range(self.n):
            if self.connected[j]:
                self._enable(i, j, True)
                self._enable(j, i, True)

    def disconnect(self, i: int) -> None:
        """Cut all wires to and from server i."""
        self._note(f"disconnect {i}")
        if self._observer is not None:
            self._observer.connected(i, False)
        self._cut(i)

    def partition(self, one: Collection[int], other: Collection[int]) -> None:
        """Attach the servers of two sets to the network, each only to those of its own set. `connect` heals."""
        self._note(f"partition {sorted(one)} from {sorted(other)}")
        for side in (one, other):
            for i in side:
                if self._observer is not None:
                    self._observer.connected(i, True)
                self.connected[i] = True
        for i in {*one, *other}:
            for j in {*one, *other}:
                self._enable(i, j, (i in one) == (j in one))

    def _cut(self, i: int) -> None:
        self.connected[i] = False
        for j in range(self.n):
            self._enable(i, j, False)
            self._enable(j, i, False)

    def _enable(self, i: int, j: int, enabled: bool) -> None:
        if self._endnames[i]:
            self.net.Enable(self._endnames[i][j], enabled)

    def setunreliable(self, unrel: bool) -> None:
        """Whether messages are delayed and dropped from now on."""
        self.net.Reliable(not unrel)

    def setlongreordering(self, longrel: bool) -> None:
        """Whether replies are held back and overtaken from now on."""
        self.net.LongReordering(longrel)

    def cleanup(self) -> None:
        """Kill every Raft, end the network, and see the test's threads off. Raises nothing."""
        if self._finished:
            return
        self._finished = True
        if self._observer is not None:
            self._observer.ended_trial()
        self._take_figures()
        kills = [self._start_kill(i, rf) for i, rf in enumerate(self.rafts) if rf]
        self.net.Cleanup()
        for channel in self._channels:
            channel.close()
        self._await_kills(kills)
        self._trial.close()
        self._end_threads()
        threading.excepthook = self._excepthook_before

    def _start_kill(self, i: int, rf: Raft) -> threading.Thread:
        """In a thread of its own: a Raft that deadlocked may never return from Kill."""
        kill = threading.Thread(target=rf.Kill, name=f"Kill of server {i}", daemon=True)
        kill.start()
        return kill

    def _await_kills(self, kills: list[threading.Thread]) -> None:
        """Wait until they have returned. One that does not fails the test; one that has failed already waits less."""
        deadline = time.monotonic() + (KILL_PATIENCE if self._trial.failure is None else LEAK_PATIENCE)
        for kill in kills:
            kill.join(max(0.0, deadline - time.monotonic()))
        stuck = [kill for kill in kills if kill.is_alive()]
        if stuck and self._trial.failure is None:
            stacks = Stacks(self._threads())
            places = "; ".join(f"{kill.name}: {stacks.where(kill)}" for kill in stuck)
            self._fail_later(LabFailure(f"Kill has not returned for {KILL_PATIENCE:g} s", places, cause="deadlock"))

    def _end_threads(self) -> None:
        leaked = self._join_threads(LEAK_PATIENCE, LEAK_LIMIT)
        stacks = Stacks(leaked)
        by_place: dict[Place | None, list[threading.Thread]] = {}
        for thread in leaked:
            by_place.setdefault(stacks.place(thread), []).append(thread)
        for place, of_place in by_place.items():
            if place is None:
                continue  # it has just ended
            others = f" (and {len(of_place) - 1} others)" if len(of_place) > 1 else ""
            self._note(f"LEAK {place}{others}")
            warnings.warn_explicit(
                f"thread {stacks.name(of_place[0])!r}{others} still runs after Kill, {place}. "
                "Let every loop of a thread look at killed()",
                LeakWarning,
                place.file,
                place.line,
            )
        for thread in leaked:
            # What ends it now is ours, and no exception of the student's that anybody should report.
            thread._invoke_excepthook = lambda thread: None  # type: ignore[attr-defined]
        for _ in range(3):  # a thread may catch the first
            for thread in leaked:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
                )
            leaked = self._join_threads(0.1, 1.0) if leaked else []
        self._trial.leaked += leaked

    def _threads(self) -> list[threading.Thread]:
        """The threads that this test has started, and that still run."""
        return [t for t in threading.enumerate() if t not in self._threads_before]

    def _join_threads(self, patience: float, limit: float) -> list[threading.Thread]:
        """Wait for the test's threads to end, for as long as one does every `patience` s; those that are left.

        That a thread ended starts the wait again, as hundreds may have to wake up on a machine that is busy; `limit` s
        are the most in all.
        """
        left = self._threads()
        last = time.monotonic() + limit
        deadline = time.monotonic() + patience
        while left and (rest := min(deadline, last) - time.monotonic()) > 0:
            left[0].join(min(rest, 0.05))  # a short wait, as any of them may be the one that ends
            before, left = left, self._threads()
            if len(left) < len(before):
                deadline = time.monotonic() + patience
        return left

    # --- what the tests ask of the cluster ---

    def raft(self, i: int) -> Raft | None:
        """Server i's Raft, None while it is down. As `rafts[i]`, for threads that run while servers come and go."""
        with self._mu:
            return self.rafts[i]

    def GetState(self, i: int) -> tuple[int, bool]:
        """What server i says of itself: (currentTerm, isLeader)."""
        rf = self.rafts[i]
        assert rf is not None, f"server {i} is down"
        state = rf.GetState()
        if isinstance(state, tuple) and len(state) == 2 and type(state[0]) is int and isinstance(state[1], bool):
            return state
        raise LabFailure("GetState must return (currentTerm, isLeader), an int and a bool", f"server {i}: {state!r}")

    def checkOneLeader(self) -> int:
        """Wait until exactly one connected server says that it leads the newest term; its number."""
        states: dict[int, tuple[int, bool]] = {}
        for _ in range(10):
            self.sleep((450 + self.rng.randrange(100)) / 1000)
            states = self._states()
            leaders: dict[int, list[int]] = {}
            for i, (term, leads) in states.items():
                if leads:
                    leaders.setdefault(term, []).append(i)
            for term, claimants in leaders.items():
                if len(claimants) > 1:
                    self.fail(f"term {term} has {len(claimants)} (>1) leaders", f"servers {claimants}")
            if leaders:
                leader = leaders[max(leaders)][0]
                self._note(f"checkOneLeader: {leader} of {states}")
                return leader
        self.fail("expected one leader, got none", f"connected servers said (term, leader) {states}")

    def checkTerms(self) -> int:
        """All connected servers are in one term, which it returns (-1 if none is connected)."""
        self.check()
        states = self._states()
        terms = {i: term for i, (term, _) in states.items()}
        self._note(f"checkTerms: {terms}")
        if len(set(terms.values())) > 1:
            self.fail("servers disagree on term", f"{terms}")
        return next(iter(terms.values()), -1)

    def checkNoLeader(self) -> None:
        """No connected server says that it leads."""
        self.check()
        states = self._states()
        self._note(f"checkNoLeader: {states}")
        for i, (_, leads) in states.items():
            if leads:
                self.fail(
                    f"expected no leader among connected servers, but {i} claims to be leader",
                    f"connected servers said (term, leader) {states}",
                )

    def _states(self) -> dict[int, tuple[int, bool]]:
        return {i: self.GetState(i) for i in range(self.n) if self.connected[i]}

    def nCommitted(self, index: int) -> tuple[int, Any]:
        """How many servers have applied `index`, crashed and unconnected ones included, and the command there."""
        self.check()
        applied = self._applied(index)
        command = next(iter(applied.values()), None)
        for i, found in applied.items():
            if not _equal(command, found):
                self.fail(
                    f"committed values do not match: index {index}, {_go(command)}, {_go(found)}",
                    f"server {i} applied {found!r}",
                )
        return len(applied), command

    def _applied(self, index: int) -> dict[int, Any]:
        """The command that each server has applied at an index, of those that have."""
        with self._mu:
            return {i: log[index] for i, log in enumerate(self._logs) if index in log}

    def wait(self, index: int, n: int, startTerm: int) -> Any:
        """Wait until n servers have applied `index`; the command. -1 if a term newer than startTerm (>= 0) shows up."""
        delay = 0.01
        for _ in range(30):
            if self.nCommitted(index)[0] >= n:
                break
            self.sleep(delay)
            if delay < 1:
                delay *= 2
            if startTerm > -1:
                for i in range(self.n):
                    if self.GetState(i)[0] > startTerm:
                        return -1  # the one who asked is no longer leader, and it may never happen
        count, command = self.nCommitted(index)
        if count < n:
            self.fail(f"only {count} decided for index {index}; wanted {n}", self._applied_facts(index))
        return command

    def one(self, cmd: Any, expectedServers: int, retry: bool) -> int:
        """Do one agreement and return its index.

        Offers `cmd` to the connected servers in turn until one accepts, and waits until `expectedServers` have applied
        it. Starts over for up to 10 s: always when no server accepts, and if `retry` also when agreement took over 2 s.
        """
        begun = time.monotonic()
        starts, index, leader = 0, -1, -1
        while time.monotonic() - begun < 10 and not self._finished:
            self.check()
            index = -1
            for _ in range(self.n):
                starts = (starts + 1) % self.n
                rf = self.rafts[starts] if self.connected[starts] else None
                if rf:
                    index1, _, accepted = rf.Start(cmd)
                    if accepted:
                        index, leader = index1, starts
                        break
            if index == -1:
                self.sleep(0.05)
                continue
            accepted_at = time.monotonic()
            while time.monotonic() - accepted_at < 2:
                count, command = self.nCommitted(index)
                if count > 0 and count >= expectedServers and _equal(command, cmd):
                    self._note(f"one({_go(cmd)}): index {index}, applied by {count}")
                    return index
                self.sleep(0.02)
            if not retry:
                break
        if self._finished:
            return -1
        if index == -1:
            facts = f"no connected server accepted it, of {[i for i in range(self.n) if self.connected[i]]}"
        else:
            facts = (
                f"server {leader} accepted it at index {index}; {self._applied_facts(index)}; wanted {expectedServers}"
            )
        self.fail(f"one({_go(cmd)}) failed to reach agreement", facts)

    def _applied_facts(self, index: int) -> str:
        return f"servers that applied index {index}: {self._applied(index)}"

    # --- what the services see: applyCh ---

    def _checkLogs(self, i: int, m: ApplyMsg) -> tuple[str, bool]:
        """Record what server i applied. Needs the lock. (an error or "", whether the previous index was there)."""
        error = ""
        for j, log in enumerate(self._logs):
            if m.CommandIndex in log and not _equal(log[m.CommandIndex], m.Command):
                self._note(f"{i}: log {self._logs[i]}; server {log}")
                error = f"commit index={m.CommandIndex} server={i} {_go(m.Command)} != "
                error += f"server={j} {_go(log[m.CommandIndex])}"
        previous = m.CommandIndex - 1 in self._logs[i]
        self._logs[i][m.CommandIndex] = m.Command
        self.maxIndex = max(self.maxIndex, m.CommandIndex)
        return error, previous

    def _applier_plain(self, i: int, incarnation: int, applyCh: ApplyCh) -> None:
        """The service of parts 2A to 2C: take every message, and check the commands."""
        while (m := self._receive(i, incarnation, applyCh)) is not None:
            if m.CommandValid:
                with self._mu:
                    error, previous = self._checkLogs(i, m)
                if m.CommandIndex > 1 and not previous:
                    error = f"server {i} apply out of order {m.CommandIndex}"
                self._apply_error(error)

    def _applierSnap(self, i: int, incarnation: int, applyCh: ApplyCh) -> None:
        """The service of part 2D: make a snapshot every 10 commands, and take those that the Raft delivers."""
        with self._mu:
            rf = cast(SnapshotRaft, self.rafts[i])
        if rf is None:
            return  # crashed already
        while (m := self._receive(i, incarnation, applyCh)) is not None:
            error = ""
            if m.SnapshotValid:
                # Up to 2022 the lab asked first; a Raft of a later edition has no such method.
                ask = getattr(rf, "CondInstallSnapshot", None)
                if ask is None or ask(m.SnapshotTerm, m.SnapshotIndex, m.Snapshot):
                    with self._mu:
                        error = self._ingestSnap(i, m.Snapshot, m.SnapshotIndex)
            elif m.CommandValid:
                expected = self._lastApplied[i] + 1
                if m.CommandIndex != expected:
                    error = f"server {i} apply out of order, expected index {expected}, got {m.CommandIndex}"
                else:
                    with self._mu:
                        error, previous = self._checkLogs(i, m)
                    if m.CommandIndex > 1 and not previous:
                        error = f"server {i} apply out of order {m.CommandIndex}"
                with self._mu:
                    self._lastApplied[i] = m.CommandIndex
                if (m.CommandIndex + 1) % SnapShotInterval == 0:
                    w = io.BytesIO()
                    e = labgob.NewEncoder(w)
                    e.Encode(m.CommandIndex)
                    with self._mu:
                        e.Encode([self._logs[i].get(j) for j in range(m.CommandIndex + 1)])
                    if self._observer is not None:
                        self._observer.made_snapshot(i, incarnation, m.CommandIndex, w.getvalue())
                    rf.Snapshot(m.CommandIndex, w.getvalue())
            self._apply_error(error)

    def _receive(self, i: int, incarnation: int, applyCh: ApplyCh) -> ApplyMsg | None:
        m: Any = applyCh.get()
        if m is not None and not (hasattr(m, "CommandValid") and hasattr(m, "SnapshotValid")):
            self._fail_later(LabFailure("what is put on applyCh must be an ApplyMsg", f"server {i} put {m!r}"))
            return ApplyMsg()
        if m is not None and self._observer is not None:
            self._observer.applied(i, incarnation, m)
        return cast("ApplyMsg | None", m)

    def _apply_error(self, error: str) -> None:
        """Fail the test, and go on reading: a Raft whose messages nobody takes would show other errors than its own."""
        if error:
            self._fail_later(LabFailure(f"apply error: {error}", f"at {self.seconds():.2f} s"))

    def _ingestSnap(self, i: int, snapshot: bytes | None, index: int | None) -> str:
        """Put server i's service at a snapshot. Needs the lock. `index`: the one it must be of. An error or ""."""
        if snapshot is None:
            return "nil snapshot"
        try:
            d = labgob.NewDecoder(io.BytesIO(snapshot))
            lastIncludedIndex, log = d.Decode(int), d.Decode(list)
        except labgob.LabgobError:
            return "snapshot decode error"
        if index is not None and index != lastIncludedIndex:
            return f"server {i} snapshot doesn't match m.SnapshotIndex"
        self._logs[i] = dict(enumerate(log))
        self._lastApplied[i] = lastIncludedIndex
        return ""

    # --- counting ---

    def rpcCount(self, server: int) -> int:
        """Requests that reached the server since it was started."""
        return self.net.GetCount(server)

    def rpcTotal(self) -> int:
        """Calls made so far, hopeless ones included."""
        return self.net.GetTotalCount()

    def bytesTotal(self) -> int:
        """Bytes of all args and delivered replies so far."""
        return self.net.GetTotalBytes()

    def LogSize(self) -> int:
        """The size in bytes of the largest saved Raft state, crashed servers included."""
        return max(saved.RaftStateSize() for saved in self._saved if saved)

    def begin(self, description: str) -> None:
        """Print the banner, and count from here."""
        self.print(f"{description} ...")
        self._note(f"begin {description}")
        self._begun = (time.monotonic(), self.rpcTotal(), self.bytesTotal(), self.maxIndex)

    def end(self) -> None:
        """The test got to its end: print the lab's result line, unless something failed in the background."""
        self.check()
        self.checkTimeout()
        self._passed = True
        figures = self._take_figures()
        self._note(f"end {figures}")
        self.print(f"  ... Passed --  {figures}")

    def _take_figures(self) -> Figures:
        t, rpcs, nbytes, index = self._begun or (self._t0, 0, 0, 0)
        figures = Figures(
            seconds=time.monotonic() - t,
            servers=self.n,
            rpcs=self.rpcTotal() - rpcs,
            bytes=self.bytesTotal() - nbytes,
            commands=self.maxIndex - index,
        )
        self._trial.figures = self._trial.figures or figures
        return figures

    def randstring(self, n: int) -> str:
        """n random characters."""
        return "".join(self.rng.choices(string.ascii_letters + string.digits + "-_", k=n))


class _Watched:
    """A Raft whose answers an observer is told, if there is one."""

    def __init__(self, rf: Raft, server: int, incarnation: int, observer: Observer | None) -> None:
        self._rf = rf
        self._who = server, incarnation
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rf, name)

    def GetState(self) -> Any:
        if self._observer is None:
            return self._rf.GetState()
        self._observer.asked(*self._who)
        state = self._rf.GetState()
        self._observer.said(*self._who, state)
        return state

    def Start(self, command: Any) -> Any:
        answer = self._rf.Start(command)
        if self._observer is not None:
            self._observer.took(*self._who, command, answer)
        if not (isinstance(answer, (tuple, list)) and len(answer) == 3):
            raise LabFailure("Start must return (index, term, isLeader)", f"server {self._who[0]} returned {answer!r}")
        return answer


def _equal(a: Any, b: Any) -> bool:
    """As Go compares interfaces: type and value, so 1, True and 1.0 are three things."""
    return type(a) is type(b) and bool(a == b)


def _go(value: Any) -> str:
    """A command as Go prints it in the lab's messages; of the long ones of TestRPCBytes2B, the beginning."""
    text = "<nil>" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:20]}... of {len(text)} characters"


def _said(e: BaseException) -> str:
    """What an exception says; its class, unless it is ours."""
    try:
        text = str(e)
    except Exception:  # of the solution's own class
        text = ""
    return text if isinstance(e, LabFailure) else f"{type(e).__name__}: {text}"


def _server_of(tb: types.TracebackType | None) -> int | None:
    """Of which server an exception is, if that can be seen."""
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return server_at(tb.tb_frame) if tb is not None else None


def _innermost_line(tb: types.TracebackType | None) -> str:
    frames = traceback.extract_tb(tb)
    return f"in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
