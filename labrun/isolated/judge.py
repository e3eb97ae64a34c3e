"""The judge's side: a Trial whose servers run in players, while everything that judges them runs here.

    with IsolatedTrial(solution, "7:TestReElection2A", print) as trial:
        with trial.make_config(3) as cfg: ...          # the harness, unmodified

`make_config` starts a process for each server before the clock of the test runs; they load the solution side by side.
`make` then gives the harness a stand-in for each Raft, whose methods ask the player, and `service` gives the labrpc
server one that hands it the bytes of a request. A player's Calls are carried by the ends that the harness made for it,
its saves go into its persister before anything that it said later is looked at, and its messages into its applyCh.

- GetState, Start, Snapshot, CondInstallSnapshot, Kill and Make have 10 s (PATIENCE); then the test fails with where
  that thread of the server is. An RPC handler may take as long as it likes, as in labrpc.
- `crash1` ends the process at once, by SIGKILL; what the harness still asks of it is answered as by a server that does
  not lead. The process for its next start begins to load then.
- At clean-up Kill is called; a player then says which of its threads go on, and ends.
- A process that ends by itself, or sends what is no frame, or does not read, fails the test (Died): nobody is accused
  of more than that.
- Threads that die, warnings, leaks and printed lines of a player become what they are elsewhere, with the server's
  number.

Nothing of the submission is imported, executed or unpickled here, and no player is trusted. What it sends is checked
against its type and cut, and what may pile up is bounded: what is under way at once (UNDER_WAY, IN_FLIGHT), what it
applies (APPLIED), prints (PRINTED) and reports (REPORTS). It cannot speak for another server, and keeps no thread of
the judge for longer than PATIENCE, except those that wait for its own Calls and handlers, which end with it.

Real time judges only on a machine that keeps up. A test that fails while it did not (labrun.isolated.load) is TooBusy:
that says nothing about the solution. What a process did to itself (Died) is never put down to the machine.

Differences from the other ways of running, besides: message classes must be defined at the top of a module, or in a
class there; what is put on applyCh may hold a command of 64 KB and a snapshot of 1 MB, any other message 8 MB
(labrun.isolated.frames); files, and whatever else the servers share outside of Python, are shared unless the launcher
puts a sandbox around each.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import itertools
import os
import queue
import signal
import socket
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, cast

import msgspec

import labgob
import labrpc
from labrun.isolated import frames
from labrun.isolated.declared import UNKNOWN, stand_in
from labrun.isolated.frames import FrameError
from labrun.isolated.launcher import Launcher, Starts
from labrun.isolated.load import LoadMeter
from labrun.isolated.threads import Awaited, Pool
from labrun.solution import Solution, SolutionError
from labrun.text import MAX_TEXT, shown
from raft.api import ApplyCh, ApplyMsg, Raft
from raft.config import LEAK_PATIENCE, Config, LabFailure, LeakWarning, Observer, Trial
from raft.persister import Persister

__tracebackhide__ = True

PATIENCE = 10.0  # s for an answer
LAST_WORDS = 5.0  # s after Kill has been answered: for a player to see its threads off, and to end
UNDER_WAY = 8000  # Calls and messages of all servers of a trial at once: each takes a thread
IN_FLIGHT = 64 << 20  # bytes of those
APPLIED = 256 << 20  # bytes that all messages of a trial on applyCh may come to, estimated from above
PRINTED = 1 << 20  # bytes of a server's output that are shown
CLASSES = 100  # of messages of a player that are known by their fields
REPORTS = 100  # of dead threads, warnings and leaks of a player that are looked at

GONE: dict[str, Any] = {"GetState": (0, False), "Start": (-1, 0, False), "CondInstallSnapshot": False}
"""What is answered for a server that has crashed."""


class Died(LabFailure):
    """The process of a server ended by itself, or had to be ended."""

    cause = "died"


class Silent(LabFailure):
    """A server did not answer in time."""

    cause = "timeout"


class TooBusy(LabFailure):
    """A test failed while the machine did not keep up: that says nothing about the solution."""

    cause = "load"


class RemoteTraceback(Exception):
    """What a player's exception looked like there."""


class IsolatedTrial(Trial):
    """One run of one lab test. `seed`, `out` and `observer` are a Trial's; leaving the block ends all processes."""

    def __init__(
        self,
        solution: Solution,
        seed: str,
        out: Callable[[str], None],
        launcher: Starts | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(self._make, seed, out, observer)
        self.solution = solution
        self.launcher: Starts = launcher or Launcher()
        self._own_launcher = None if launcher else self.launcher
        self.load = LoadMeter()
        self.room = _Room()
        self.closing = True
        self.printed: dict[int, int] = {}  # bytes, by server
        self._players: list[Player] = []
        self._next: dict[int, Player] = {}  # started for a server that has not been made yet
        self._t0 = time.monotonic()

    def __enter__(self) -> Self:
        self.load.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: types.TracebackType | None
    ) -> None:
        self.close()
        self.load.stop()
        if self._own_launcher:
            self._own_launcher.close()
        if self.load.busy and isinstance(e, LabFailure) and not isinstance(e, Died):
            late = ", ".join(f"{1000 * s:.0f} ms" for s in sorted(self.load.late)[-3:])
            raise TooBusy(
                f"the machine was too busy to judge; the test ended with: {e.message}", f"timers were late by {late}"
            ) from e

    # --- what the harness asks for ---

    def make_config(self, n: int, *, unreliable: bool = False, snapshot: bool = False) -> Config:
        self.closing = False
        self.pool = Pool("carrier of the judge")
        for i in range(n):
            self._next[i] = self._start(i)
        for player in self._next.values():
            player.loaded()
        self._t0 = time.monotonic()
        self.load.late.clear()  # that the processes started slowly harms nobody
        return super().make_config(n, unreliable=unreliable, snapshot=snapshot)

    def _make(self, peers: Sequence[labrpc.ClientEnd], me: int, persister: Persister, applyCh: ApplyCh, /) -> Raft:
        player = self._next.pop(me, None) or self._start(me)
        player.loaded()
        return player.make(peers, persister, applyCh)

    def _start(self, i: int) -> Player:
        number = sum(player.me == i for player in self._players)
        player = Player(self, i, f"{self.seed}:student:{i}:{number}")
        self._players.append(player)
        return player

    def service(self, rf: Raft) -> labrpc.Service:
        return _Service(cast(_Raft, rf))

    def crash(self, rf: Raft) -> bool:
        player = cast(_Raft, rf).player
        player.stop(None)
        if player.me not in self._next:
            self._next[player.me] = self._start(player.me)  # most crashes are followed by a start
        return True

    def places(self, threads: Collection[threading.Thread]) -> list[str]:
        """Where the threads of the players are. `threads` are the judge's, and of no interest to a student."""
        players = [player for player in self._players if not player.over]
        asked = [(player, player.ask_where(None)) for player in players]
        deadline = time.monotonic() + 1
        return [
            f"server {player.me}: {shown(place)}"
            for player, awaited in asked
            if awaited.wait(deadline - time.monotonic()) and awaited.answer is not None
            for place in awaited.answer.threads
        ]

    def close(self) -> None:
        if self.closing:
            return
        self.closing = True
        for player in self._players:
            if player.made and not player.over:
                self.pool.run(player.kill)
            else:
                player.stop(None)
        deadline = time.monotonic() + PATIENCE + LAST_WORDS
        for player in self._players:
            player.join(deadline)
        self.pool.close()
        self._players.clear()
        self._next.clear()

    # --- what is found out ---

    def seconds(self) -> float:
        """The test's own time in s."""
        return time.monotonic() - self._t0

    def note(self, event: str) -> None:
        self.events.append(f"{self.seconds():8.3f} s  {event}")

    def found(self, failure: LabFailure) -> None:
        """Keep what a player did wrong, for the next verb to raise."""
        self.note(f"FAILED in the background: {failure}")
        if self.observer is not None:
            self.observer.failed(str(failure), True)
        self.fail_later(failure)

    def warn(self, message: str, category: type[Warning], filename: str, line: int) -> None:
        try:
            warnings.warn_explicit(message, category, filename, line)
        except Warning as e:  # -W error
            self.found(LabFailure(f"{category.__name__}: {e}", f"{filename}:{line}"))


class _Room:
    """What the players of a trial may keep in the judge."""

    def __init__(self) -> None:
        self._mu = threading.Lock()
        self._under_way = 0
        self._in_flight = 0
        self._applied = 0

    def enter(self, size: int) -> None:
        """Something is under way. Raises FrameError if that is too much."""
        with self._mu:
            if self._under_way == UNDER_WAY or self._in_flight + size > IN_FLIGHT:
                raise FrameError(
                    f"too much at once: {self._under_way} Calls and messages of {self._in_flight} bytes are under way"
                )
            self._under_way += 1
            self._in_flight += size

    def grow(self, size: int) -> None:
        with self._mu:
            if self._in_flight + size > IN_FLIGHT:
                raise FrameError(f"too much at once: {self._in_flight} bytes are under way")
            self._in_flight += size

    def leave(self, size: int) -> None:
        with self._mu:
            self._under_way -= 1
            self._in_flight -= size

    def apply(self, size: int) -> None:
        """A message is kept for good; decoded and with all that belongs to it, it may take so many bytes."""
        with self._mu:
            self._applied += 500 + 80 * size
            if self._applied > APPLIED:
                raise FrameError("more messages for applyCh than any test has commands")


class _Passenger:
    """A Call that the judge carries; it travels through the network with its request."""

    def __init__(self, room: _Room, call: frames.Call) -> None:
        self.args_type, self.reply_type = call.args_type, call.reply_type
        self._room = room
        self._mu = threading.Lock()
        self._size = len(call.request)
        self._arrived = False
        room.enter(self._size)

    def take(self, reply: bytes) -> bool:
        """Let a reply travel back with it. False if nobody waits for it any more. Raises FrameError."""
        with self._mu:
            if not self._arrived:
                self._room.grow(len(reply))
                self._size += len(reply)
            return not self._arrived

    def arrive(self) -> None:
        with self._mu:
            self._arrived = True
        self._room.leave(self._size)


@dataclass(eq=False, slots=True)
class _Carried(labrpc.Request):
    """A request whose classes are stand-ins; `passenger` has the names of the real ones."""

    passenger: _Passenger | None = None


class Player:
    """The process of one server, as the judge sees it. It begins to load the solution when it is made."""

    def __init__(self, trial: IsolatedTrial, me: int, seed: str) -> None:
        self.trial = trial
        self.me = me
        self.made = False
        self.over = False  # whatever it says is no longer heard
        self.failure: LabFailure | None = None  # why, if it is to blame

        self._mu = threading.Lock()  # guards the three above and the three below
        self._ids = itertools.count()
        self._waiting: dict[int, Awaited] = {}
        self._kill: int | None = None  # the question whether Kill has returned
        self._leaving = False  # it has
        self._silent = False  # it has not answered something in time
        self._reports = 0
        self._declared: dict[frames.Class, type] = {}  # what stands for the classes of its messages
        self._peers: Sequence[labrpc.ClientEnd] = ()
        self._persister = Persister()
        self._applyCh = ApplyCh()

        self._sending = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self._output, their_output = socket.socketpair()  # no pipe: reading from a socket can be ended from outside
        with theirs, their_output:
            self._process = trial.launcher.start(theirs.fileno(), their_output.fileno())
        self._socket.settimeout(PATIENCE)
        self._connection = frames.Connection(self._receive, self._socket.sendall, frames.TO_JUDGE)
        self._reader = threading.Thread(target=self._read, name=f"reader of server {me}", daemon=True)
        self._printer = threading.Thread(target=self._print, name=f"printer of server {me}", daemon=True)
        self._reader.start()
        self._printer.start()

        what = vars(trial.solution)
        paths = {name: os.fsencode(value) for name, value in what.items() if isinstance(value, Path)}
        rest = {name: shown(value) if isinstance(value, str) else value for name, value in what.items()}
        rest = {name: value for name, value in rest.items() if name not in paths}
        _, self._loading = self._ask(
            lambda number: frames.Load(number, me, seed, paths, rest), frames.Done, frames.Mistake
        )

    # --- asking ---

    def _ask(self, question: Callable[[int], frames.Frame], *expected: type) -> tuple[int, Awaited]:
        """Send a question, given its id. The answer is of one of the expected types, or None if there will be none."""
        awaited = Awaited(*expected)
        with self._mu:
            number = next(self._ids)
            if self.over:
                awaited.arrive(None)
                return number, awaited
            self._waiting[number] = awaited
        self._send(question(number))
        return number, awaited

    def _send(self, frame: frames.Frame) -> None:
        if not self._sending.acquire(timeout=PATIENCE):
            return  # somebody else is about to find that it does not read
        try:
            self._connection.send(frame)
        except TimeoutError:
            self.stop(Died(f"server {self.me} did not read what it was sent for {PATIENCE:g} s; its process was ended"))
        except OSError:
            pass  # it has gone, as the reader will find
        finally:
            self._sending.release()

    def _answer(self, method: str, number: int, awaited: Awaited) -> Any:
        """Wait for the answer; None if the server has crashed. Raises LabFailure."""
        deadline = time.monotonic() + PATIENCE
        while not (arrived := awaited.wait(min(1, deadline - time.monotonic()))) and time.monotonic() < deadline:
            if self._process.poll() is not None:  # and has left somebody who holds its connection open
                self.stop(Died(f"server {self.me}: {self._how_it_ended()}"))
        if not arrived:
            self._silent = True
            about = self.ask_where(number)
            facts = ""
            if about.wait(1) and about.answer is not None:
                facts = f"the thread that runs it is {shown(about.answer.about)}" if about.answer.about else ""
                for place in about.answer.threads:
                    self.trial.note(f"    server {self.me}: {shown(place)}")
            raise Silent(f"server {self.me} did not answer {method} within {PATIENCE:g} s", facts)
        answer = awaited.answer
        if answer is None and self.failure:
            raise self.failure
        if isinstance(answer, frames.Raised):
            raise LabFailure(
                f"{method} of server {self.me} raised {shown(answer.what)}", shown(answer.where)
            ) from RemoteTraceback(shown(answer.traceback, 5 * MAX_TEXT))
        return answer

    def ask_where(self, about: int | None) -> Awaited:
        return self._ask(lambda number: frames.Where(number, about), frames.Places)[1]

    def loaded(self) -> None:
        """Wait until the solution has been loaded. Raises SolutionError, LabFailure."""
        answer = self._answer("loading the solution", 0, self._loading)
        self._loading = Awaited()
        self._loading.arrive(answer)
        if isinstance(answer, frames.Mistake):
            raise SolutionError(shown(answer.text, 5 * MAX_TEXT))

    def make(self, peers: Sequence[labrpc.ClientEnd], persister: Persister, applyCh: ApplyCh) -> Raft:
        """Call Make; a stand-in for what it returned. Raises LabFailure."""
        self._peers, self._persister, self._applyCh = peers, persister, applyCh
        state, snapshot = persister.ReadRaftState(), persister.ReadSnapshot()
        number, awaited = self._ask(
            lambda number: frames.Make(number, len(peers), state, snapshot), frames.Done, frames.Raised
        )
        answer = self._answer("Make", number, awaited)
        try:
            made = msgspec.msgpack.decode(self._value(answer), type=frames.Made)
        except msgspec.MsgspecError as e:
            self._fail(FrameError(str(e)))
        self.made = True
        return cast(Raft, _Raft(self, made))

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of its Raft. Raises LabFailure."""
        number, awaited = self._ask(
            lambda number: frames.Ask(number, method, frames.box(args, frames.MAX_FRAME)), frames.Done, frames.Raised
        )
        answer = self._answer(method, number, awaited)
        if answer is None:
            return GONE.get(method)
        try:
            return frames.unbox(self._value(answer))
        except FrameError as e:
            self._fail(e)

    def _value(self, answer: Any) -> bytes:
        value = answer.value if isinstance(answer, frames.Done) else None
        if value is None or len(value) > frames.MAX_ANSWER:
            self._fail(FrameError("an answer without a value, or with one that is too long"))
        return value

    def _fail(self, e: FrameError) -> NoReturn:
        self.stop(self._malformed(e))
        raise self.failure or self._malformed(e)

    def handle(self, svc_meth: str, passenger: _Passenger, request: bytes) -> bytes | None:
        """Run an RPC handler; the encoded reply, None if there is none. Raises LabrpcError."""
        _, awaited = self._ask(
            lambda number: frames.Handle(number, svc_meth, passenger.args_type, request, passenger.reply_type),
            frames.Done,
            frames.Mistake,
        )
        awaited.wait()
        answer = awaited.answer
        if isinstance(answer, frames.Mistake):
            raise labrpc.LabrpcError(shown(answer.text, 5 * MAX_TEXT))
        if answer is None or answer.value is None:
            return None
        reply: bytes = answer.value
        try:
            return reply if passenger.take(reply) else None
        except FrameError as e:
            self.stop(self._malformed(e))
            return None

    def kill(self) -> None:
        """Let it call Kill, and see it off in its own time. Raises nothing."""
        with self._mu:
            if self.over or self._kill is not None:
                return
            self._kill = number = next(self._ids)
            awaited = self._waiting[number] = Awaited(frames.Done, frames.Raised)
        if self._silent:
            self.stop(None)  # its last chance is gone
            return
        self._send(frames.Ask(number, "Kill", frames.box(())))
        try:
            self._answer("Kill", number, awaited)
        except LabFailure as e:
            if e is not self.failure:
                self.trial.found(e)
        else:
            self._reader.join(LAST_WORDS)
        self.stop(None)

    # --- the end ---

    def stop(self, failure: LabFailure | None) -> None:
        """End the process at once. The first reason counts."""
        with self._mu:
            if self.over:
                return
            self.over = True
            self.failure = failure
            waiting, self._waiting = self._waiting, {}
        self._process.end()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # so that who sends or reads does not wait
        if failure:
            self.trial.found(failure)
        for awaited in waiting.values():
            awaited.arrive(None)

    def join(self, deadline: float) -> None:
        """Wait until the process and the threads that listen to it have ended; from `deadline` on, make them."""
        self._reader.join(max(0.0, deadline - time.monotonic()))
        self.stop(None)
        self._reader.join()
        self._printer.join(1)  # until the output's end, unless somebody inherited it
        with contextlib.suppress(OSError):
            self._output.shutdown(socket.SHUT_RDWR)
        self._printer.join()

    # --- what it says ---

    def _receive(self, n: int) -> bytes:
        while True:
            try:
                return self._socket.recv(n)
            except TimeoutError:
                pass  # it need not say anything
            except OSError:
                return b""

    def _read(self) -> None:
        """Take what it says, in order, until it has gone. Never waits for anybody else."""
        try:
            while not self.over and (frame := self._connection.receive()) is not None and not self.over:
                self._take(frame)
            if not self.over and not self._leaving:
                self.stop(Died(f"server {self.me}: {self._how_it_ended()}"))
        except FrameError as e:
            self.stop(self._malformed(e))
        finally:
            self.stop(None)
            self._socket.close()

    def _malformed(self, e: FrameError) -> Died:
        return Died(f"server {self.me} sent {shown(str(e))}; its process was ended")

    def _how_it_ended(self) -> str:
        deadline = time.monotonic() + 1
        while (status := self._process.poll()) is None:
            if time.monotonic() > deadline:
                return "the process closed its connection"
            time.sleep(0.01)
        if status >= 0:
            return f"the process ended (exit status {status})"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return f"the process ended ({name})"

    def _take(self, frame: Any) -> None:
        match frame:
            case frames.Done() | frames.Mistake() | frames.Raised() | frames.Places():
                with self._mu:
                    awaited = self._waiting.get(frame.id)
                    if self.over:
                        return
                    if awaited is None or not isinstance(frame, awaited.expected):
                        raise FrameError(f"a {type(frame).__name__} that answers nothing")
                    del self._waiting[frame.id]
                if frame.id == self._kill:
                    self._leaving = True
                awaited.arrive(frame)
            case frames.Declare():
                if len(self._declared) < CLASSES:
                    self._declared[frame.about] = stand_in(frame)
            case frames.Call():
                if frame.end >= len(self._peers):
                    raise FrameError(f"a Call to server {frame.end} of {len(self._peers)}")
                passenger = _Passenger(self.trial.room, frame)
                self.trial.pool.run(functools.partial(self._carry, frame, passenger))
            case frames.Save():
                if frame.snapshot is None:
                    self._persister.SaveRaftState(frame.state)
                else:
                    self._persister.SaveStateAndSnapshot(frame.state, frame.snapshot)
            case frames.Put():
                message = self._message(frame)
                self.trial.room.enter(0)
                self.trial.pool.run(functools.partial(self._put, frame, message))
            case frames.Died() | frames.Complaint() | frames.Leak():
                self._reports += 1
                if self._reports <= REPORTS:
                    self._report(frame)

    def _carry(self, call: frames.Call, passenger: _Passenger) -> None:
        answer: frames.Frame
        try:
            end = self._peers[call.end]
            args_type = self._declared.get(call.args_type, UNKNOWN)
            reply_type = self._declared.get(call.reply_type, UNKNOWN)
            request = _Carried(end, call.svc_meth, args_type, call.request, reply_type, passenger=passenger)
            answer = frames.Done(call.id, end.carry(request))
        except labrpc.LabrpcError as e:
            answer = frames.Mistake(call.id, shown(str(e), 5 * MAX_TEXT))
        try:
            self._send(answer)
        finally:
            passenger.arrive()

    def _put(self, put: frames.Put, message: Any) -> None:
        taken: bytes | None = b""
        try:
            self._applyCh.put(message, put.block, put.timeout)
        except queue.Full:
            taken = None
        self.trial.room.leave(0)
        self._send(frames.Done(put.id, taken))

    def _message(self, put: frames.Put) -> Any:
        if put.odd is not None:
            self.trial.room.apply(len(put.odd))
            return frames.Foreign(shown(put.odd))
        self.trial.room.apply(len(put.command))
        return ApplyMsg(
            CommandValid=put.command_valid,
            Command=frames.unbox(put.command),
            CommandIndex=put.command_index,
            SnapshotValid=put.snapshot_valid,
            Snapshot=cast(bytes, put.snapshot),
            SnapshotTerm=put.snapshot_term,
            SnapshotIndex=put.snapshot_index,
        )

    def _report(self, frame: frames.Died | frames.Complaint | frames.Leak) -> None:
        server = f"server {self.me}"
        match frame:
            case frames.Died(exit=True):
                if not self.trial.closing:
                    self.trial.found(
                        LabFailure(
                            f"thread '{shown(frame.thread)}' called sys.exit({shown(frame.what)}), "
                            "which ends the whole program in the lab",
                            f"{server}, {shown(frame.where)}",
                        )
                    )
            case frames.Died():
                if self.trial.observer is not None:
                    thread, what, where = shown(frame.thread), shown(frame.what), shown(frame.where)
                    self.trial.observer.died(self.me, thread, what, where)
                failure = LabFailure(
                    f"thread '{shown(frame.thread)}' died: {shown(frame.what)}",
                    f"{server}, {shown(frame.where)}, at {self.trial.seconds():.2f} s",
                )
                failure.__cause__ = RemoteTraceback(shown(frame.traceback, 5 * MAX_TEXT))
                self.trial.found(failure)
            case frames.Complaint():
                known = {"LabgobWarning": labgob.LabgobWarning} | vars(builtins)
                category = known.get(frame.category)
                if not (isinstance(category, type) and issubclass(category, Warning)):
                    category = UserWarning
                # No file is called <...>: Python would read it, whatever it is, to show the line.
                where = f"<{server}: {shown(frame.filename)}>" if frame.filename else f"<{server}>"
                self.trial.warn(shown(frame.message), category, where, frame.line)
            case frames.Leak():
                others = f" (and {frame.count - 1} others)" if frame.count > 1 else ""
                self.trial.note(f"LEAK {server}: {shown(frame.place)}{others}")
                self.trial.warn(
                    f"thread '{shown(frame.thread)}' of {server}{others} still runs {LEAK_PATIENCE:g} s after Kill, "
                    f"{shown(frame.place)}. Let every loop of a thread look at killed()",
                    LeakWarning,
                    f"<{server}>",
                    0,
                )

    def _print(self) -> None:
        """Show what it prints, line by line."""
        line = b""
        with self._output:
            while more := self._output.recv(1 << 16):
                *lines, line = (line + more).split(b"\n")
                line = line[: 4 * MAX_TEXT]  # the rest of a line that is longer is left out
                for whole in lines:
                    self._show(whole)
            if line:
                self._show(line)

    def _show(self, line: bytes) -> None:
        printed = self.trial.printed.get(self.me, 0)
        self.trial.printed[self.me] = printed + len(line) + 1
        if printed > PRINTED:
            return
        said = shown(line[: 4 * MAX_TEXT].decode(errors="backslashreplace"))
        if self.trial.observer is not None:
            self.trial.observer.printed(self.me, said)
        text = f"server {self.me}: {said}"
        if printed + len(line) + 1 > PRINTED:
            text += f"\nserver {self.me}: (has printed more than {PRINTED} bytes; the rest is left out)"
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding))


class _Raft:
    """What the harness takes for the Raft of a server."""

    def __init__(self, player: Player, made: frames.Made) -> None:
        self.player = player
        self.name = shown(made.service)
        self._shown = shown(made.shown)
        self._offered = made.methods

    def __repr__(self) -> str:
        return self._shown

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == "Kill" and name in self._offered:
            return self.player.kill
        if name in ("GetState", "Start", "Snapshot", "CondInstallSnapshot") and name in self._offered:
            return functools.partial(self.player.call, name)
        raise AttributeError(f"{self.name!r} object has no attribute {name!r}")


class _Service(labrpc.Service):
    """The RPC handlers of a server, which are in its process."""

    def __init__(self, rf: _Raft) -> None:
        self.name = rf.name
        self._player = rf.player

    def __repr__(self) -> str:
        return f"<Service {self.name} of server {self._player.me}>"

    def dispatch(self, request: labrpc.Request) -> bytes | None:
        assert isinstance(request, _Carried)
        assert request.passenger is not None
        return self._player.handle(request.method, request.passenger, request.args)
