"""An in-process network for any number of simulated servers. It can lose, delay and reorder messages, and cut wires.

The student's Raft sees one thing of it, a `ClientEnd` for each peer:

    reply = RequestVoteReply()
    if peer.Call("Raft.RequestVote", args, reply):     # blocks; call it in a thread of its own, never under a lock
        ...

The harness sees the rest, under the lab's names:

    net = MakeNetwork()                        net.Enable(endname, True)
    end = net.MakeEnd(endname)                 net.Reliable(False)
    net.Connect(endname, servername)           net.LongDelays(True), net.LongReordering(True)
    server = MakeServer()                      net.GetCount(servername), GetTotalCount(), GetTotalBytes()
    server.AddService(MakeService(receiver))   net.DeleteServer(servername), net.DeleteEnd(endname)
    net.AddServer(servername, server)          net.Cleanup()

An end is one direction of one wire. It is made disabled and connected to nothing. Names are any hashable value. A
service is named after its receiver's class and offers the receiver's methods whose names begin with a capital letter
and that take exactly `(args, reply)`. A server may hold several services.

What `Call(svcMeth, args, reply)` promises:

- It encodes `args` at once, in the caller's thread; what the caller changes afterwards is not seen by the server.
- It returns True exactly when the handler ran and its reply arrived; `reply`, a dataclass instance, is then filled.
- It returns False, and leaves `reply` alone, when the request or the reply was lost, the end is disabled or connected
  to nothing, the server was deleted or replaced before the reply was on its way, or the network was cleaned up. Nobody
  can tell from False whether the handler ran.
- It always returns, except while a handler of a live, connected server does not.
- Any number of Calls on one end may be under way; they may arrive and be answered in any order.

The way of a request, in this order: it is counted; an unreachable server costs a wait and False; on an unreliable
network it is delayed and perhaps dropped; the handler runs in another thread on a fresh copy of `args` and a reply of
zero values, while the caller looks every 100 ms whether the wire still holds; on an unreliable network the reply is
perhaps dropped; with long reordering it is perhaps held back; its bytes are counted and it is delivered.

Mistakes (an unknown service or method, a reply that is no dataclass, a value that labgob cannot carry) are raised in
the caller, as LabrpcError or labgob.LabgobError. Like an exception in a handler, which is a crash of the student's
code, they also go to `threading.excepthook`, so that a harness learns of them whatever the caller catches.

A network can be watched: MakeNetwork takes an `Observer`, which is told what becomes of each Call.

Cost: one handoff to a waiting worker thread and back for each call; delays are slept in the caller's thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import random
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import labgob

__all__ = [
    "ClientEnd",
    "LabrpcError",
    "Loss",
    "MakeNetwork",
    "MakeServer",
    "MakeService",
    "Network",
    "Observer",
    "Request",
    "Server",
    "Service",
]

__tracebackhide__ = True  # a failure points at the line that called, not in here

# As in the lab's network; all in milliseconds or in thousandths.
UNREACHABLE_MS = 100  # an unreachable server is noticed after 0..99 ms,
LONG_DELAY_MS = 7000  # or 0..6999 ms: catches a leader that sends one RPC after another, or under its lock
SHORT_DELAY_MS = 27  # an unreliable network delays a request by 0..26 ms
DROP_PER_MILLE = 100  # and drops one request, and one reply, in ten
POLL_MS = 100  # how often a caller looks whether its server is still there
REORDER_PER_900 = 600  # long reordering holds back two replies in three,
REORDER_MIN_MS, REORDER_SPREAD_MS = 200, 2000  # by 200 ms up to 2199 ms


class LabrpcError(Exception):
    """A call that can never work, such as one of a method that does not exist."""


@dataclass(eq=False)
class Request:
    """One Call on its way: what is asked, as bytes, and from which end."""

    end: ClientEnd
    method: str  # "Raft.AppendEntries"
    args_type: type
    args: bytes  # as labgob.encode made them
    reply_type: type
    number: int = 0  # counts the Calls of a network, from 1; 0 until it has been counted


Loss = Literal["disabled", "request dropped", "handler failed", "server gone", "reply dropped", "network closed"]
"""Why a Call returned False. "disabled": its end is, or leads to no server; "server gone": deleted or replaced."""


class Observer(Protocol):
    """Somebody who is told what becomes of each Call.

    Each method is called in the thread in which it happens, and before anybody can act on it: `sent` before the
    request can arrive, `began` before the handler runs, `ended` when it has returned, `delivered` before Call returns.
    It must return soon, and must call nothing of the network. Args and replies are bytes, so they are those of that
    moment whatever becomes of the objects; labgob.plain reads them.
    """

    def sent(self, request: Request) -> None:
        """It has been counted, and is on its way if there is one."""

    def reached(self, request: Request) -> None:
        """It has come to its server, whose handler will begin."""

    def began(self, request: Request) -> None: ...

    def ended(self, request: Request, reply: bytes | None) -> None:
        """The handler has returned; None: it, or the call of it, failed. The reply may still come to nothing."""

    def replied(self, request: Request) -> None:
        """The reply has left its server, which was still there."""

    def held_back(self, request: Request, ms: int) -> None:
        """The reply has been put aside for so long, and will be late."""

    def delivered(self, request: Request, reply: bytes) -> None:
        """The reply has arrived, and Call returns True."""

    def lost(self, request: Request, why: Loss) -> None:
        """Call returns False."""

    def network(self, mode: str, yes: bool) -> None:
        """`mode` is "Reliable", "LongReordering" or "LongDelays"."""


def MakeNetwork(rng: random.Random | None = None, observer: Observer | None = None) -> Network:
    """A reliable network without long delays or reordering. `rng` decides delays and losses."""
    return Network(rng or random.Random(), observer)


def MakeServer() -> Server:
    """A server that offers nothing yet."""
    return Server()


def MakeService(receiver: object) -> Service:
    """The RPC handlers of `receiver`, under the name of its class."""
    return Service(receiver)


class Network:
    """All wires and servers of one test. Every method may be called from any thread."""

    def __init__(self, rng: random.Random, observer: Observer | None = None) -> None:
        self._rng = rng
        self._observer = observer
        self._mu = threading.Lock()  # guards everything below, and the state of the ends
        self._ends: dict[Hashable, ClientEnd] = {}
        self._servers: dict[Hashable, Server] = {}
        self._reliable = True
        self._long_delays = False
        self._long_reordering = False
        self._count = 0
        self._bytes = 0
        self._closed = False
        self._waiting: dict[_Gate, None] = {}  # a set whose order does not depend on addresses
        self._idle: list[_Worker] = []

    def __repr__(self) -> str:
        return f"<Network: {len(self._ends)} ends, servers {list(self._servers)}, {self._count} calls so far>"

    # --- building ---

    def MakeEnd(self, endname: Hashable) -> ClientEnd:
        """A new end, disabled and connected to nothing. Raises LabrpcError if the name is in use."""
        with self._mu:
            if endname in self._ends:
                raise LabrpcError(f"MakeEnd: {endname!r} already exists")
            end = self._ends[endname] = ClientEnd(endname, self)
            return end

    def DeleteEnd(self, endname: Hashable) -> None:
        """Remove an end: calls on it fail from now on, and the name is free again."""
        with self._mu:
            self._end(endname)._enabled = False
            del self._ends[endname]

    def Connect(self, endname: Hashable, servername: Hashable) -> None:
        """Let an end lead to the server of that name, whichever server that is at the time of a call."""
        with self._mu:
            self._end(endname)._servername = servername

    def Enable(self, endname: Hashable, enabled: bool) -> None:
        with self._mu:
            self._end(endname)._enabled = enabled

    def AddServer(self, servername: Hashable, server: Server) -> None:
        """Put a server under a name, in place of the one that was there."""
        with self._mu:
            self._servers[servername] = server

    def DeleteServer(self, servername: Hashable) -> None:
        """Remove the server of that name, if there is one. Replies that it has not sent yet are never delivered."""
        with self._mu:
            self._servers.pop(servername, None)

    def _end(self, endname: Hashable) -> ClientEnd:
        if endname not in self._ends:
            raise LabrpcError(f"there is no end named {endname!r}")
        return self._ends[endname]

    # --- faults; they touch the calls that start later ---

    def Reliable(self, yes: bool) -> None:
        """Whether no message is delayed or dropped."""
        with self._mu:
            self._reliable = yes
        if self._observer is not None:
            self._observer.network("Reliable", yes)

    def LongReordering(self, yes: bool) -> None:
        """Whether two replies in three are held back for 200 ms or more."""
        with self._mu:
            self._long_reordering = yes
        if self._observer is not None:
            self._observer.network("LongReordering", yes)

    def LongDelays(self, yes: bool) -> None:
        """Whether it takes up to 7 s, rather than up to 0.1 s, until a call to an unreachable server fails."""
        with self._mu:
            self._long_delays = yes
        if self._observer is not None:
            self._observer.network("LongDelays", yes)

    # --- counting ---

    def GetCount(self, servername: Hashable) -> int:
        """The number of requests that the server now under that name has received."""
        with self._mu:
            if servername not in self._servers:
                raise LabrpcError(f"GetCount: there is no server named {servername!r}")
            return self._servers[servername].GetCount()

    def GetTotalCount(self) -> int:
        """The number of calls made, hopeless ones included."""
        with self._mu:
            return self._count

    def GetTotalBytes(self) -> int:
        """The bytes of all args, and of the replies that were delivered."""
        with self._mu:
            return self._bytes

    # --- calling ---

    def Cleanup(self) -> None:
        """Let every call under way, and every later one, return False at once, and end the network's idle threads.

        A worker that runs a handler ends when the handler does.
        """
        idle = []
        with self._mu:
            self._closed = True
            with contextlib.suppress(IndexError):  # a call may take one meanwhile
                while True:
                    idle.append(self._idle.pop())
            for gate in list(self._waiting):  # meanwhile some may come back by themselves
                gate.open()
        for worker in idle:
            worker.give(None)
        for worker in idle:
            worker.join()

    def _carry(self, request: Request) -> bytes | None:
        gate = _Gate()
        try:
            answer = self._way(request, gate)
        finally:
            self._waiting.pop(gate, None)  # in one step, for which nobody needs a lock
        if isinstance(answer, str):
            if self._observer is not None:
                self._observer.lost(request, answer)
            return None
        if self._observer is not None:
            self._observer.delivered(request, answer)
        return answer

    def _way(self, request: Request, gate: _Gate) -> bytes | Loss:
        """The way of one request, as the module says. Returns the encoded reply, or why none arrived."""
        rng, end, observer = self._rng, request.end, self._observer
        with self._mu:
            self._count += 1
            self._bytes += len(request.args)
            request.number = self._count
            if not self._closed:
                self._waiting[gate] = None
            server = self._servers.get(end._servername) if end._enabled else None
            closed, reliable = self._closed, self._reliable
            long_reordering, long_delays = self._long_reordering, self._long_delays
        if observer is not None:
            observer.sent(request)
        if closed:
            return "network closed"
        if server is None:
            closed = gate.wait(rng.randrange(LONG_DELAY_MS if long_delays else UNREACHABLE_MS))
            return "network closed" if closed else "disabled"
        if not reliable:
            if gate.wait(rng.randrange(SHORT_DELAY_MS)):
                return "network closed"
            if rng.randrange(1000) < DROP_PER_MILLE:
                return "request dropped"

        if observer is not None:
            observer.reached(request)
        self._run((server, request, gate))
        while not gate.wait(POLL_MS):
            with self._mu:
                broken = self._broken(end, server)
            if broken:
                return broken
        with self._mu:
            # Once more: a server that was deleted must not acknowledge what only its superseded persister knows. And
            # the gate may have been opened because the network closed: then the handler is still at work.
            broken = self._broken(end, server)
            if not broken and gate.answer is not None and reliable and not long_reordering:
                self._bytes += len(gate.answer)
        if broken:
            return broken
        if gate.mistake is not None:
            raise gate.mistake
        if gate.answer is None:
            return "handler failed"
        if observer is not None:
            observer.replied(request)
        if reliable and not long_reordering:
            return gate.answer
        if not reliable and rng.randrange(1000) < DROP_PER_MILLE:
            return "reply dropped"
        if long_reordering and rng.randrange(900) < REORDER_PER_900:
            ms = REORDER_MIN_MS + rng.randrange(1 + rng.randrange(REORDER_SPREAD_MS))
            if observer is not None:
                observer.held_back(request, ms)
            gate.wait(ms)
        with self._mu:
            closed = self._closed
            if not closed:
                self._bytes += len(gate.answer)
        return "network closed" if closed else gate.answer

    def _broken(self, end: ClientEnd, server: Server) -> Loss | None:
        """Why no reply can come back this way any more; None if it still can. Needs the lock."""
        if self._closed:
            return "network closed"
        if not end._enabled:
            return "disabled"
        return None if self._servers.get(end._servername) is server else "server gone"

    def _run(self, task: _Task) -> None:
        """Let an idle worker, or a new one, run a handler."""
        try:
            worker = self._idle.pop()  # in one step, too
        except IndexError:
            _Worker(self, task)
        else:
            worker.give(task)

    def _rest(self, worker: _Worker) -> bool:
        """Take back a worker that has run its handler. False when the network is closed and the worker must end."""
        with self._mu:
            if not self._closed:
                self._idle.append(worker)
            return not self._closed


class ClientEnd:
    """One end of a wire, for calls in one direction. Its state belongs to the network."""

    def __init__(self, endname: Hashable, network: Network) -> None:
        self.endname = endname
        self._network = network
        self._enabled = False
        self._servername: Hashable = None

    def __repr__(self) -> str:
        state = "enabled" if self._enabled else "disabled"
        return f"<ClientEnd {self.endname!r} to {self._servername!r}, {state}>"

    def Call(self, svcMeth: str, args: Any, reply: Any) -> bool:
        """Send `args` to the handler `svcMeth` ("Raft.AppendEntries") and fill in `reply`. Whether a reply arrived.

        The module's docstring says what this promises. Raises LabrpcError or labgob.LabgobError on a mistake.
        """
        try:
            if "." not in svcMeth:
                raise LabrpcError(f"labrpc: a method is called by service and name, as in Raft.X, not {svcMeth!r}")
            if not _is_message(type(reply)):
                raise LabrpcError(f"labrpc: the reply of {svcMeth} must be a dataclass instance, not {reply!r}")
            answer = self.carry(Request(self, svcMeth, type(args), labgob.encode(args), type(reply)))
            if answer is None:
                return False
            labgob.fill(answer, reply)
        except (LabrpcError, labgob.LabgobError) as e:
            _report(e)
            raise
        return True

    def carry(self, request: Request) -> bytes | None:
        """The way of a request that is encoded already; the encoded reply, or None if none arrived.

        This is what lies within a Call, for a harness whose callers are elsewhere. Raises LabrpcError on a mistake, and
        does not report it.
        """
        return self._network._carry(request)


class Service:
    """The handlers of one receiver, by name."""

    def __init__(self, receiver: object) -> None:
        self.name = type(receiver).__name__
        self._handlers: dict[str, Callable[[Any, Any], object]] = {
            name: getattr(receiver, name)
            for name in dir(type(receiver))
            if name[0].isupper() and _takes_args_and_reply(inspect.getattr_static(type(receiver), name))
        }

    def __repr__(self) -> str:
        return f"<Service {self.name}: {sorted(self._handlers)}>"

    def dispatch(self, request: Request) -> bytes | None:
        """Run the handler that the request names, in this thread; the encoded reply, or None if there will be none."""
        name = request.method.rpartition(".")[2]
        handler = self._handlers.get(name)
        if handler is None:
            raise LabrpcError(
                f"labrpc.Service.dispatch(): unknown method {name} in {request.method}; "
                f"expecting one of {sorted(self._handlers)}"
            )
        try:
            args = labgob.decode(request.args, request.args_type)
        except labgob.LabgobError as e:
            raise LabrpcError(
                f"labrpc: {request.method} was called with args that do not fit their own class: {e}"
            ) from None
        reply = labgob.zero(request.reply_type)
        handler(args, reply)
        return labgob.encode(reply)


_is_message: Callable[[type], bool] = functools.lru_cache(maxsize=256)(dataclasses.is_dataclass)


@functools.lru_cache(maxsize=256)
def _takes_args_and_reply(member: Any) -> bool:
    if not inspect.isroutine(member):
        return False
    try:
        inspect.signature(member).bind("self", "args", "reply")
    except (TypeError, ValueError):
        return False
    return True


class Server:
    """A collection of services under one name on the network."""

    def __init__(self) -> None:
        self._mu = threading.Lock()
        self._services: dict[str, Service] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<Server: {list(self._services.values())}, {self._count} requests so far>"

    def AddService(self, service: Service) -> None:
        with self._mu:
            self._services[service.name] = service

    def GetCount(self) -> int:
        """The number of requests that reached this server, whatever became of the replies."""
        return self._count

    def dispatch(self, request: Request) -> bytes | None:
        """Let the service that the request names run its handler, in this thread; what it answers."""
        name = request.method.rpartition(".")[0]
        with self._mu:
            self._count += 1
            service = self._services.get(name)
        if service is None:
            raise LabrpcError(
                f"labrpc.Server.dispatch(): unknown service {name} in {request.method}; "
                f"expecting one of {sorted(self._services)}"
            )
        return service.dispatch(request)


class _Gate:
    """What one caller waits at: for the answer, for a delay to pass, or for the network to close.

    A bare lock, held until the gate opens: the cheapest thing that two threads can meet at.
    """

    __slots__ = ("_lock", "answer", "mistake")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.answer: bytes | None = None
        self.mistake: Exception | None = None

    def wait(self, ms: int) -> bool:
        """Wait up to `ms` milliseconds; whether the gate was opened. One wait is let through for each opening."""
        return self._lock.acquire(timeout=ms / 1000)

    def open(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # open already: the answer and the end of the network came together


_Task = tuple[Server, Request, _Gate]


IDLE_NAME = "labrpc handler"


class _Worker(threading.Thread):
    """A thread that runs one handler at a time, and waits for the next instead of ending."""

    def __init__(self, network: Network, task: _Task) -> None:
        super().__init__(name=IDLE_NAME, daemon=True)
        self._network = network
        self._task: _Task | None = task
        self._given = threading.Lock()
        self.start()

    def give(self, task: _Task | None) -> None:
        """Let the thread, which the network has taken back, run another handler, or end."""
        self._task = task
        self._given.release()

    def run(self) -> None:
        self._given.acquire()  # from now on it is free only when something has been given
        observer = self._network._observer
        going = True
        while going and self._task is not None:
            server, request, gate = self._task
            self._task = None
            if observer is not None:
                observer.began(request)
            try:
                gate.answer = server.dispatch(request)
            except LabrpcError as e:
                gate.mistake = e
            except (Exception, SystemExit) as e:  # nothing else is the handler's: it ends a test, or a world
                self.name = f"RPC handler {request.method}"
                _report(e)
                self.name = IDLE_NAME
            if observer is not None:
                observer.ended(request, gate.answer)
            going = self._network._rest(self)  # before the answer is out, so that the caller's next call finds a worker
            gate.open()
            if going:
                self._given.acquire()


def _report(e: BaseException) -> None:
    """Hand an exception to threading.excepthook, as if it had ended the thread."""
    threading.excepthook(threading.ExceptHookArgs((type(e), e, e.__traceback__, threading.current_thread())))
