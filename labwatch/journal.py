"""The journal of a trial: what happened, in one order, each event with its time, its server and that one's incarnation.

A Journal is an observer (raft.config.Observer). It turns what it is told into small events, keeps them, all or the last
so many, and passes each to its listeners as it happens. It is told of things by many threads, and makes one order of
them. Nothing is decoded before somebody reads it, so keeping a ring costs little.

The file that `write` makes has one JSON object a line. The first is the header:

    {"schema": 1, "events": 1234, "dropped": 0, ...}       dropped: events before those in the file, which are not kept
                                                           the rest is what the caller of `write` says of the trial:
     "test", "seed", "mode": "real", "virtual" or "isolated", "solution", "digest": of its files,
     "cause", "message": of the failure, "facts": all that it says, "causes": likely ones, "repeat": the command,
     "broken": rules of the paper, [{"rule", "message", "t", "events": numbers of the two that do not agree}, ...],
     "races": [{"summary", "owner": "server 0", say, "t", "report"}, ...]

Each other line is an event: `n` counts from 1, `t` is in s since the trial began, `kind` is one of these:

    begin        servers                              the trial begins; kills begin at its `end`
    start        server, incarnation                  incarnations count the starts of a server, from 1
    crash        server, incarnation
    connect      server, incarnation, yes             yes: false for disconnect
    network      mode, yes                            "Reliable", "LongReordering" or "LongDelays"
    sent         server, incarnation, call, to, method, args
    reached      server, incarnation, call            here and in the next three, server is the one that is asked
    began        server, incarnation, call            its handler
    ended        server, incarnation, call, reply     reply: null when the handler failed
    replied      server, incarnation, call            the reply has left the server
    held_back    server, incarnation, call, ms        here and below, server is the one that called
    delivered    server, incarnation, call, reply
    lost         server, incarnation, call, why       labrpc.Loss says which reasons there are
    saved        server, incarnation, state, snapshot, digest        sizes in bytes; equal digests: the same again
    applied      server, incarnation, index, command
    applied_snapshot   server, incarnation, index, size
    made_snapshot      server, incarnation, index, size
    asked        server, incarnation                  GetState
    said         server, incarnation, term, leads     its answer; both null if it was none
    took         server, incarnation, command, index, term, leads    the answer of Start, likewise
    noted        text                                 a verb of the lab's, or a check and what it saw
    printed      server, text                         a line that the solution printed
    died         server, thread, what, where          an exception has ended a thread, or an RPC handler
    failed       text, background                     the trial fails; `background`: the next verb will raise it

In `printed` and `died` the server is left out where it is not known. `call` counts the Calls of the trial from 1. Args
and replies are what travelled: fields that hold their zero value are left out, as on the wire; long strings, lists and
bytes are cut. A reader must pass over kinds and fields that it does not know. `schema` goes up when one of those above
changes its meaning or goes away.
"""

from __future__ import annotations

import collections
import itertools
import json
import math
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

import labgob
from labrpc import Loss, Request
from raft.api import ApplyMsg

__all__ = ["RING", "SCHEMA", "Event", "Journal"]

SCHEMA = 1

RING = 200_000  # events that are kept of a trial: those of the lab's tests have fewer, unless a Raft floods the network
MOST_BYTES = 64 << 20  # of messages that a ring keeps
LONGEST = 2000  # characters of what is said in words
CUT = 200  # characters of a string, elements of a list

NOBODYS = (-1, 0, -1)  # an end that belongs to no server: whose, its incarnation, and where it leads


class Event(msgspec.Struct, gc=False):
    """Something that happened. `number` counts from 1, `time` is in s."""

    number: int
    time: float


class Begin(Event, gc=False):
    servers: int


class End(Event, gc=False):
    pass


class OfServer(Event, gc=False):
    server: int
    incarnation: int


class Start(OfServer, gc=False):
    pass


class Crash(OfServer, gc=False):
    pass


class Connect(OfServer, gc=False):
    yes: bool


class Network(Event, gc=False):
    mode: str
    yes: bool


class OfCall(OfServer, gc=False):
    call: int


class Sent(OfCall, gc=False):
    to: int
    request: Request


class Reached(OfCall, gc=False):
    pass


class Began(OfCall, gc=False):
    pass


class Ended(OfCall, gc=False):
    reply: bytes | None


class Replied(OfCall, gc=False):
    pass


class HeldBack(OfCall, gc=False):
    ms: int


class Delivered(OfCall, gc=False):
    reply: bytes


class Lost(OfCall, gc=False):
    why: Loss


class Saved(OfServer, gc=False):
    state: int
    snapshot: int
    digest: int


class Applied(OfServer, gc=False):
    index: int
    command: Any


class AppliedSnapshot(OfServer, gc=False):
    index: int
    size: int


class MadeSnapshot(OfServer, gc=False):
    index: int
    size: int


class Asked(OfServer, gc=False):
    pass


class Said(OfServer, gc=False):
    term: int | None
    leads: bool | None


class Took(OfServer, gc=False):
    command: Any
    index: int | None
    term: int | None
    leads: bool | None


class Noted(Event, gc=False):
    text: str


class Printed(Event, gc=False):
    server: int | None
    text: str


class Died(Event, gc=False):
    server: int | None
    thread: str
    what: str
    where: str


class Failed(Event, gc=False):
    text: str
    background: bool


class _Told(msgspec.Struct, gc=False):
    """What was told of a Call; who it was is looked up when the event is read."""

    number: int
    time: float
    kind: type[OfCall]
    request: Request
    more: Any = None


KINDS: Final[dict[type[Event], str]] = {
    Begin: "begin",
    End: "end",
    Start: "start",
    Crash: "crash",
    Connect: "connect",
    Network: "network",
    Sent: "sent",
    Reached: "reached",
    Began: "began",
    Ended: "ended",
    Replied: "replied",
    HeldBack: "held_back",
    Delivered: "delivered",
    Lost: "lost",
    Saved: "saved",
    Applied: "applied",
    AppliedSnapshot: "applied_snapshot",
    MadeSnapshot: "made_snapshot",
    Asked: "asked",
    Said: "said",
    Took: "took",
    Noted: "noted",
    Printed: "printed",
    Died: "died",
    Failed: "failed",
}

AT_RECEIVER = (Reached, Began, Ended, Replied)

_PLAIN = (type(None), bool, int, float, str, bytes)


class Unread:
    """In place of a command that is no number, string or bytes: what it holds may change, so it is not kept."""

    def __init__(self, value: object) -> None:
        self._kind = type(value).__name__

    def __repr__(self) -> str:
        return f"<{self._kind}>"


class Journal:
    """Keeps the events of one trial: the last `limit` of them, or all.

    clock   gives s; the first event is at 0. It must take no lock of the trial's, and no virtual time
    """

    def __init__(self, clock: Callable[[], float], limit: int | None = None) -> None:
        self.origin = clock()  # when the trial began: the time 0 of its events, on the clock
        self._clock = clock
        self._next = itertools.count(1).__next__  # of numbers, which make the order
        self._kept: collections.deque[Event | _Told] = collections.deque(maxlen=limit)
        self._bytes = 0  # of the messages in what is kept, about
        self._keeps = limit != 0
        self._last = 0  # the number of the last event, as far as listeners have been told
        self._mu = threading.RLock()  # of listening. A thread that is interrupted in here by a collection may come back
        self._listens = False
        self._listeners: dict[type[Event], list[Callable[[Event], None]]] = {kind: [] for kind in KINDS}
        self.calls: Callable[[Request, int], None] | None = None  # told of each Call, and whose, in its own thread
        self.failures: list[Exception] = []  # of listeners, each of which was then called no more: defects of ours
        self._ends: dict[Any, tuple[int, int, int]] = {}  # of each end: server, incarnation, and where it leads
        self._incarnations: dict[int, int] = {}
        self._starts: list[Start] = []  # all of them: a ring may have let them go

    def __repr__(self) -> str:
        return f"<Journal: {len(self._kept)} events, and {self.dropped} dropped>"

    def listen(self, listener: Callable[[Event], None], kinds: Iterable[type[Event]] = tuple(KINDS)) -> None:
        """Call `listener` with each event of these kinds from now on, in their order, one at a time.

        Events that are neither kept nor listened to are only counted, which costs less.
        """
        self._listens = True
        for kind in kinds:
            self._listeners[kind].append(listener)

    @property
    def events(self) -> list[Event]:
        """What is kept, in order. Made anew each time."""
        events: list[Event] = []
        starts = collections.deque(self._starts)
        incarnations: dict[int, int] = {}
        for kept in sorted(self._kept.copy(), key=lambda event: event.number):
            while starts and starts[0].number <= kept.number:
                start = starts.popleft()
                incarnations[start.server] = start.incarnation
            event = self._made(kept, incarnations) if isinstance(kept, _Told) else kept
            if events and event.time < events[-1].time:
                event.time = events[-1].time  # a thread was interrupted between taking its number and the time
            events.append(event)
        return events

    @property
    def dropped(self) -> int:
        """How many events are not kept any more."""
        kept = self._kept.copy()
        return max([self._last, *(event.number for event in kept)]) - len(kept)

    def write(self, path: Path, **header: Any) -> None:
        """Write what is kept as JSON lines; `header` says which trial it is."""
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            for line in self.lines(**header):
                file.write(line + "\n")

    def lines(self, **header: Any) -> Iterator[str]:
        events, dropped = self.events, self.dropped
        yield json.dumps({"schema": SCHEMA, "events": len(events), "dropped": dropped} | header)
        for event in events:
            yield json.dumps(as_json(event))

    def _add(self, kind: type[Event], *fields: Any) -> Event | None:
        """The event, unless nobody wants it."""
        if self._listens:
            return self._tell(kind, lambda number, time: kind(number, time, *fields))
        event = kind(self._next(), self._clock() - self.origin, *fields)  # no lock: the number makes the order
        self._kept.append(event)
        return event

    def _tell(self, kind: type[Event], make: Callable[[int, float], Event]) -> Event | None:
        with self._mu:
            self._last = self._next()
            listeners = self._listeners[kind]
            if not (self._keeps or listeners):
                return None
            event = make(self._last, self._clock() - self.origin)
            self._kept.append(event)
            for listener in listeners[:]:
                try:
                    listener(event)
                except Exception as e:  # never into the solution's thread, which is not to blame
                    self.failures.append(e)
                    for others in self._listeners.values():
                        if listener in others:
                            others.remove(listener)
        return event

    def _let_go(self) -> None:
        """Too many bytes are kept: do without the older half of the events."""
        if self._kept.maxlen is not None:
            self._bytes //= 2
            for _ in range(len(self._kept) // 2):
                self._kept.popleft()

    # --- what raft.config tells ---

    def began_trial(self, servers: int) -> None:
        self.origin = self._clock()
        self._add(Begin, servers)

    def ended_trial(self) -> None:
        self._add(End)

    def started(self, server: int, incarnation: int, endnames: list[str]) -> None:
        self._incarnations[server] = incarnation
        for to, endname in enumerate(endnames):
            self._ends[endname] = (server, incarnation, to)
        start = self._add(Start, server, incarnation)
        if isinstance(start, Start):
            self._starts.append(start)

    def crashed(self, server: int) -> None:
        self._add(Crash, server, self._incarnations[server])

    def connected(self, server: int, yes: bool) -> None:
        self._add(Connect, server, self._incarnations[server], yes)

    def saved(self, server: int, incarnation: int, state: bytes, snapshot: bytes) -> None:
        self._add(Saved, server, incarnation, len(state), len(snapshot), zlib.crc32(state, zlib.crc32(snapshot)))

    def applied(self, server: int, incarnation: int, message: ApplyMsg) -> None:
        if message.CommandValid:
            self._add(Applied, server, incarnation, message.CommandIndex, _kept(message.Command))
        elif message.SnapshotValid:
            self._add(AppliedSnapshot, server, incarnation, message.SnapshotIndex, len(message.Snapshot or b""))

    def made_snapshot(self, server: int, incarnation: int, index: int, snapshot: bytes) -> None:
        self._add(MadeSnapshot, server, incarnation, index, len(snapshot))

    def asked(self, server: int, incarnation: int) -> None:
        self._add(Asked, server, incarnation)

    def said(self, server: int, incarnation: int, state: Any) -> None:
        self._add(Said, server, incarnation, *_answer(state, int, bool))

    def took(self, server: int, incarnation: int, command: Any, answer: Any) -> None:
        self._add(Took, server, incarnation, _kept(command), *_answer(answer, int, int, bool))

    def noted(self, event: str) -> None:
        self._add(Noted, event[:LONGEST])

    def printed(self, server: int | None, line: str) -> None:
        self._add(Printed, server, line[:LONGEST])

    def died(self, server: int | None, thread: str, what: str, where: str) -> None:
        self._add(Died, server, thread[:LONGEST], what[:LONGEST], where[:LONGEST])

    def failed(self, what: str, background: bool) -> None:
        self._add(Failed, what[:LONGEST], background)

    # --- what labrpc tells ---
    # Nearly all events are these, told by threads that others wait for: what can be looked up later is.

    def sent(self, request: Request) -> None:
        self._bytes += len(request.args)
        self._call(Sent, request)
        if self.calls is not None:
            self.calls(request, self._ends.get(request.end.endname, NOBODYS)[0])

    def reached(self, request: Request) -> None:
        self._call(Reached, request)

    def began(self, request: Request) -> None:
        self._call(Began, request)

    def ended(self, request: Request, reply: bytes | None) -> None:
        self._bytes += len(reply or b"")
        self._call(Ended, request, reply)

    def replied(self, request: Request) -> None:
        self._call(Replied, request)

    def held_back(self, request: Request, ms: int) -> None:
        self._call(HeldBack, request, ms)

    def delivered(self, request: Request, reply: bytes) -> None:
        self._call(Delivered, request, reply)

    def lost(self, request: Request, why: Loss) -> None:
        self._call(Lost, request, why)

    def _call(self, kind: type[OfCall], request: Request, more: Any = None) -> None:
        if self._listens:
            now = self._incarnations
            self._tell(kind, lambda number, time: self._made(_Told(number, time, kind, request, more), now))
        else:
            self._kept.append(_Told(self._next(), self._clock() - self.origin, kind, request, more))
            if self._bytes > MOST_BYTES:
                self._let_go()

    def _made(self, told: _Told, incarnations: dict[int, int]) -> Event:
        """The event; `incarnations` are those of all servers then."""
        request, kind = told.request, told.kind
        server, incarnation, to = self._ends.get(request.end.endname, NOBODYS)
        if kind in AT_RECEIVER:
            # A handler that runs on behind a restart gets the wrong incarnation; its reply is never delivered.
            server, incarnation = to, incarnations.get(to, 0)
        if kind is Sent:
            return Sent(told.number, told.time, server, incarnation, request.number, to, request)
        more = (told.more,) if len(kind.__struct_fields__) > len(OfCall.__struct_fields__) else ()
        return kind(told.number, told.time, server, incarnation, request.number, *more)

    def network(self, mode: str, yes: bool) -> None:
        self._add(Network, mode, yes)


def _kept(command: Any) -> Any:
    """A command, if it cannot change any more; what stands for it if it may."""
    return command if type(command) in _PLAIN else Unread(command)


def _answer(answer: Any, *kinds: type) -> Iterable[Any]:
    """The parts of what a solution returned; as many None if they are not what they should be."""
    if isinstance(answer, tuple) and list(map(type, answer)) == list(kinds):
        return answer
    return (None,) * len(kinds)


def as_json(event: Event) -> dict[str, Any]:
    """The object that stands for an event in the file."""
    shown: dict[str, Any] = {"n": event.number, "t": round(event.time, 6), "kind": KINDS[type(event)]}
    for name in event.__struct_fields__[2:]:
        value = getattr(event, name)
        if name == "request":
            shown |= {"method": _cut(value.method), "args": _message(value.args)}
        elif name == "reply":
            shown[name] = None if value is None else _message(value)
        elif name in ("text", "what", "where"):
            shown[name] = value
        elif name == "server" and value is None:
            pass
        else:
            shown[name] = _cut(value)
    return shown


def _message(data: bytes) -> Any:
    try:
        return _cut(labgob.plain(data))
    except labgob.LabgobError as e:
        return str(e)


def _cut(value: Any) -> Any:
    """A value as JSON has it, and not longer than anybody reads."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return value if len(value) <= CUT else f"{value[:CUT]}... of {len(value)} characters"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return {str(_cut(key)): _cut(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_cut(part) for part in value[:CUT]]
        return parts if len(value) <= CUT else [*parts, f"... of {len(value)}"]
    return repr(value) if isinstance(value, Unread) else f"<{type(value).__name__}>"
