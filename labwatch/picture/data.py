"""What a picture shows of a trial: its journal's lines, put in the order in which a page draws them.

`Trial.of` reads the lines of a journal as its file has them (labwatch.journal has the schema): a header, and events. It
passes over what it does not know and what is not as it should be, as the file may come from somewhere else. Times
become whole microseconds.

**Roles and terms** are what the trial has shown, and unknown where it has shown nothing:

- leader: it has said so, or has sent AppendEntries or InstallSnapshot, since the term was first seen at it;
- candidate: it has sent RequestVote in its term, and nothing of a leader's;
- follower: it has said that it does not lead, or has answered in a term in which it asked for no votes;
- unknown: since it was started, or since a reply told it of a newer term while it led or was a candidate, nothing of
  that kind was seen.

A term is what the server has said, sent or answered. It falls only if GetState says so that was asked for later. What a
crashed instance still does shows nothing. Fields are found by their names in Figure 2, whatever the case and the
underscores; RequestVote with fields of the solution's own (a PreVote flag) may mean another thing: it makes nobody a
candidate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

from labwatch.names import FIGURE, kind_of, plainly

__all__ = ["Alarm", "Trial"]

Role = Literal["unknown", "follower", "candidate", "leader"]
Kind = Literal["vote", "entries", "heartbeat", "snapshot", "other"]

LONGEST_TEXT = 300  # characters of a command, a note or a printed line
LONGEST_LIST = 12  # elements of a list in args or a reply
NEVER = -1  # in place of a time

KINDS: Final[dict[str, Kind]] = {"vote": "vote", "append": "entries", "install": "snapshot"}  # by names.kind_of


class Rule(msgspec.Struct):
    """A broken rule of the paper, in the header."""

    message: str
    t: float
    events: list[int] = []


class RaceFound(msgspec.Struct):
    """A data race, in the header."""

    summary: str
    t: float
    owner: str = ""  # "server 0", or nobody's
    report: str = ""


class Head(msgspec.Struct):
    """The header of a journal, as far as a picture shows it."""

    test: str = ""
    seed: int | None = None
    mode: str = ""
    solution: str = ""
    cause: str = ""
    message: str = ""  # of the failure; "" if there was none
    facts: str = ""  # all that it says
    repeat: str = ""
    causes: list[str] = []  # likely ones, a line each
    broken: list[Rule] = []
    races: list[RaceFound] = []
    dropped: int = 0


class Line(msgspec.Struct):
    """An event as it stands in a journal's file: what there is of all kinds of events."""

    n: int
    t: float
    kind: str
    server: int = -1
    incarnation: int = 0
    servers: int = 0
    yes: bool = False
    mode: str = ""
    call: int = 0
    to: int = -1
    method: str = ""
    args: Any = None
    reply: Any = None
    ms: int = 0
    why: str = ""
    state: int = 0
    snapshot: int = 0
    index: int | None = None
    command: Any = None
    size: int = 0
    term: int | None = None
    leads: bool | None = None
    text: str = ""
    thread: str = ""
    what: str = ""
    where: str = ""


class Message(msgspec.Struct):
    """A Call, as far as the journal has it. Times are in us, NEVER for what has not happened."""

    n: int  # number of the event that it was sent
    server: int
    incarnation: int
    to: int
    method: str
    kind: Kind
    term: int  # of the args; 0: none
    label: str  # what it asks
    args: Any
    sent: int
    reached: int = NEVER
    began: int = NEVER
    ended: int = NEVER
    left: int = NEVER  # the reply has left its server
    back: int = NEVER  # the Call has returned
    late: int = 0  # ms for which the reply was held back
    fate: str = ""  # "delivered", why it was lost, "" if it is under way when the journal ends
    reply: Any = None
    answer: str = ""  # what the reply says


class Stretch(msgspec.Struct):
    """A server was this for so long."""

    server: int
    begin: int  # us
    end: int
    role: Role
    term: int  # 0: unknown
    told: int = 0  # the newer term that it was told of


class Place(msgspec.Struct):
    """Where an event is drawn: at a server, at a time in us, and as part of the message or mark with number n."""

    n: int
    server: int
    time: int


class Alarm(msgspec.Struct):
    """Something that is wrong: a line through all lanes."""

    kind: Literal["failure", "paper", "race", "applied"]
    time: int  # us
    text: str
    detail: str = ""
    shows: list[Place] = []  # the events that do not agree


class Mark(msgspec.Struct):
    """Something that one server did."""

    n: int
    time: int
    server: int
    kind: str  # "applied", "accepted", "saved", "snapshot", "installed", "printed", "died"
    text: str


class Election(msgspec.Struct):
    """A candidacy, and what became of its requests: the servers, by answer."""

    server: int
    term: int
    time: int
    granted: list[int] = []
    refused: list[int] = []
    lost: list[int] = []
    waiting: list[int] = []


class _Lane:
    """What has been shown of one server so far."""

    def __init__(self, server: int) -> None:
        self.server = server
        self.incarnation = 0
        self.up = False
        self.role: Role = "unknown"
        self.term = 0
        self.told = 0
        self.since = 0
        self.term_since = 0.0
        self.asked = 0.0
        self.stretches: list[Stretch] = []
        self.down: list[list[int]] = []  # from, to
        self.cut: list[list[int]] = []

    def become(self, time: int, role: Role, term: int, told: int = 0) -> None:
        if (role, term, told) == (self.role, self.term, self.told):
            return
        self.close(time)
        if term != self.term:
            self.term_since = time
        self.role, self.term, self.told = role, term, told

    def close(self, time: int) -> None:
        """End the stretch that goes on."""
        if self.up and time > self.since:
            self.stretches.append(Stretch(self.server, self.since, time, self.role, self.term, self.told))
        self.since = time


class Trial:
    """All of a trial that a page draws; `of` makes one."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.servers = 0
        self.begin = 0  # us: of the first event that there is
        self.end = 0  # of the trial: clean-up begins, or the journal ends
        self.messages: list[Message] = []
        self.marks: list[Mark] = []
        self.story: list[tuple[int, int, str]] = []  # number, time, text
        self.network: list[tuple[int, str, bool]] = []  # time, mode, yes
        self.failed: int | None = None  # us: when it failed; None if it did not
        self.threads: list[str] = []  # where they were when the test failed
        self.lanes: list[_Lane] = []
        self._wanted = {number for rule in head.broken for number in rule.events}
        self._places: dict[int, Place] = {}  # of these
        self._differs: Alarm | None = None
        self._calls: dict[int, Message] = {}
        self._applied: dict[int, Mark] = {}
        self._over = False

    @classmethod
    def of(cls, lines: Iterable[Any]) -> Trial:
        """Read a journal, each of whose lines is as JSON has it: a dict, or something that is passed over."""
        events = iter(lines)
        trial = cls(_head(next(events, None)))
        time = None
        for event in _events(events):
            now = max(time or 0, _us(event.t))
            if time is None:
                trial.begin = now
            time = now
            if event.n in trial._wanted:
                message = trial._calls.get(event.call)
                trial._places[event.n] = Place(message.n if message else event.n, event.server, time)
            see = getattr(trial, f"_see_{event.kind}", None)
            if see is not None and not trial._over:
                see(event, time)
        if not trial._over:
            trial._finish(time or 0)
        return trial

    def _finish(self, time: int) -> None:
        self._over = True
        self.end = time
        for lane in self.lanes:
            lane.close(time)
            for spans in (lane.down, lane.cut):
                if spans and spans[-1][1] == NEVER:
                    spans[-1][1] = time

    @property
    def stretches(self) -> list[Stretch]:
        return [stretch for lane in self.lanes for stretch in lane.stretches]

    @property
    def elections(self) -> list[Election]:
        """In their order. What the servers answered in time; `waiting` for those that never did."""
        found: dict[tuple[int, int, int], Election] = {}
        for m in self.messages:
            if m.kind != "vote" or m.term == 0 or not _is_plain_vote(m.args) or m.to == m.server:
                continue
            election = found.setdefault((m.server, m.incarnation, m.term), Election(m.server, m.term, m.sent))
            if m.fate == "delivered":
                answers = election.granted if _field(m.reply, "votegranted") is True else election.refused
            else:
                answers = election.lost if m.fate else election.waiting
            if m.to not in answers:
                answers.append(m.to)
        for election in found.values():
            for answers in (election.granted, election.refused, election.lost, election.waiting):
                answers.sort()
        return list(found.values())

    @property
    def alarms(self) -> list[Alarm]:
        """In the order of their times."""
        head = self.head
        found = [Alarm("paper", _us(b.t), b.message, shows=self._shown(b.events)) for b in head.broken]
        found += [Alarm("race", _us(r.t), r.summary, detail=r.report, shows=self._owner(r)) for r in head.races]
        if self._differs:
            found.append(self._differs)
        if head.message and not any(alarm.kind == head.cause for alarm in found):
            failed = self.failed
            if failed is None:  # it failed outside the test's own checks
                failed = min((alarm.time for alarm in found), default=self.end)
            first_line = head.message.partition("\n")[0]
            short = first_line if len(first_line) <= LONGEST_TEXT else f"{first_line[:LONGEST_TEXT]}..."
            facts = head.facts or head.message
            found.append(Alarm("failure", failed, short, detail="" if facts == short else facts))
        return sorted(found, key=lambda alarm: alarm.time)

    def _owner(self, race: RaceFound) -> list[Place]:
        """Whose variable it is: no event stands for that."""
        word, _, server = race.owner.partition(" ")
        is_known = word == "server" and server.isdecimal() and int(server) < self.servers
        return [Place(0, int(server), _us(race.t))] if is_known else []

    def _shown(self, numbers: list[int]) -> list[Place]:
        return [self._places[number] for number in numbers if number in self._places]

    # --- servers ---

    def _lane(self, event: Line) -> _Lane | None:
        """The lane of a live instance."""
        self._servers(event.server + 1)
        if not 0 <= event.server < len(self.lanes):
            return None
        lane = self.lanes[event.server]
        if lane.incarnation == 0:  # its start is not in the journal any more
            lane.incarnation, lane.up = event.incarnation, True
            lane.since = self.begin
        return lane if lane.up and lane.incarnation == event.incarnation else None

    def _see_begin(self, event: Line, time: int) -> None:
        self._servers(event.servers)

    def _servers(self, n: int) -> None:
        self.servers = max(self.servers, min(n, 99))
        while len(self.lanes) < self.servers:
            self.lanes.append(_Lane(len(self.lanes)))

    def _see_end(self, event: Line, time: int) -> None:
        self._finish(time)

    def _see_start(self, event: Line, time: int) -> None:
        self._servers(event.server + 1)
        if not 0 <= event.server < len(self.lanes):
            return
        lane = self.lanes[event.server]
        if lane.down and lane.down[-1][1] == NEVER:
            lane.down[-1][1] = time
        lane.incarnation, lane.up, lane.since = event.incarnation, True, time
        lane.role, lane.term, lane.told = "unknown", 0, 0

    def _see_crash(self, event: Line, time: int) -> None:
        lane = self._lane(event)
        if lane:
            lane.close(time)
            lane.up = False
            lane.down.append([time, NEVER])

    def _see_connect(self, event: Line, time: int) -> None:
        if not 0 <= event.server < len(self.lanes):
            return
        cut = self.lanes[event.server].cut
        if event.yes and cut and cut[-1][1] == NEVER:
            cut[-1][1] = time
        elif not event.yes and not (cut and cut[-1][1] == NEVER):
            cut.append([time, NEVER])

    def _see_network(self, event: Line, time: int) -> None:
        self.network.append((time, event.mode, event.yes))

    def _see_asked(self, event: Line, time: int) -> None:
        lane = self._lane(event)
        if lane:
            lane.asked = time

    def _see_said(self, event: Line, time: int) -> None:
        lane = self._lane(event)
        if lane and event.term is not None:
            self._says(lane, time, event.term, bool(event.leads), lane.asked)

    def _see_took(self, event: Line, time: int) -> None:
        lane = self._lane(event)
        if lane is None or event.term is None:
            return
        self._says(lane, time, event.term, bool(event.leads), 0)
        if event.leads:
            self._mark(event, time, "accepted", f"Start({_text(event.command)}): index {event.index}")

    def _says(self, lane: _Lane, time: int, term: int, leads: bool, asked: float) -> None:
        if term < lane.term and not asked > lane.term_since:
            return  # what it was before it came to the newer term
        if leads:
            lane.become(time, "leader", term)
        elif lane.role != "candidate" or term != lane.term:
            lane.become(time, "follower", term)

    # --- messages ---

    def _see_sent(self, event: Line, time: int) -> None:
        kind = KINDS.get(kind_of(event.method), "other")
        args = _cut(event.args)
        term = _number(args, "term")
        if kind == "entries" and not _field(args, "entries"):
            kind = "heartbeat"
        label = _request_label(kind, event.method, args, term)
        message = Message(
            event.n, event.server, event.incarnation, event.to, event.method, kind, term, label, args, time
        )
        self._calls[event.call] = message
        self._servers(max(event.server, event.to) + 1)
        if not (0 <= event.server < len(self.lanes) and 0 <= event.to < len(self.lanes)):
            return
        self.messages.append(message)
        lane = self._lane(event)
        if lane is None or term == 0 or term < lane.term or event.to == event.server:
            return
        if kind in ("entries", "heartbeat", "snapshot"):
            lane.become(time, "leader", term)
        elif kind == "vote" and _is_plain_vote(args) and not (lane.role == "leader" and term == lane.term):
            lane.become(time, "candidate", term)

    def _see_reached(self, event: Line, time: int) -> None:
        if message := self._calls.get(event.call):
            message.reached = time

    def _see_began(self, event: Line, time: int) -> None:
        if message := self._calls.get(event.call):
            message.began = time

    def _see_ended(self, event: Line, time: int) -> None:
        if message := self._calls.get(event.call):
            message.ended = time
            message.reply = _cut(event.reply)

    def _see_replied(self, event: Line, time: int) -> None:
        """The reply has left a server that is alive: it shows how that stood."""
        message = self._calls.get(event.call)
        if message is None:
            return
        message.left = time
        message.answer = _answer_label(message)
        lane = self._lane(event)
        term = _number(message.reply, "term")
        if lane is None or message.kind == "other" or message.server == message.to:
            return
        if message.kind == "vote" and not _is_plain_vote(message.args):
            return
        agreed = _field(message.reply, "votegranted") is True or _field(message.reply, "success") is True
        if agreed:
            term = max(term, message.term)
        if term == 0 or term < lane.term:
            return
        obeys = agreed or (message.kind != "vote" and term == message.term)
        if term > lane.term or obeys:
            lane.become(time, "follower", term)

    def _see_held_back(self, event: Line, time: int) -> None:
        if message := self._calls.get(event.call):
            message.late = event.ms

    def _see_delivered(self, event: Line, time: int) -> None:
        message = self._calls.pop(event.call, None)
        if message is None:
            return
        message.back, message.fate = time, "delivered"
        lane = self._lane(event)
        term = _number(message.reply, "term")
        if lane and lane.role in ("leader", "candidate") and term > max(lane.term, lane.told):
            lane.become(time, "unknown", lane.term, told=term)

    def _see_lost(self, event: Line, time: int) -> None:
        message = self._calls.pop(event.call, None)
        if message:
            message.back, message.fate = time, event.why[:LONGEST_TEXT] or "lost"

    # --- what servers do ---

    def _mark(self, event: Line, time: int, kind: str, text: str) -> Mark | None:
        if not 0 <= event.server < len(self.lanes):
            return None
        mark = Mark(event.n, time, event.server, kind, text)
        self.marks.append(mark)
        return mark

    def _see_applied(self, event: Line, time: int) -> None:
        if event.index is None:
            return
        command = _text(event.command)
        mark = self._mark(event, time, "applied", f"{event.index}: {command}")
        if mark is None:
            return
        first = self._applied.setdefault(event.index, mark)
        if first.text != mark.text and self._differs is None:
            before = first.text.partition(": ")[2]
            self._differs = Alarm(
                "applied",
                time,
                f"server {mark.server} applied {command} at index {event.index}, where server {first.server} had "
                f"applied {before} at {first.time / 1e6:.3f} s",
                shows=[Place(m.n, m.server, m.time) for m in (first, mark)],
            )

    def _see_applied_snapshot(self, event: Line, time: int) -> None:
        self._mark(event, time, "installed", f"took a snapshot up to index {event.index}, {event.size} bytes")

    def _see_made_snapshot(self, event: Line, time: int) -> None:
        self._mark(event, time, "snapshot", f"made a snapshot up to index {event.index}, {event.size} bytes")

    def _see_saved(self, event: Line, time: int) -> None:
        snapshot = f" and a snapshot of {event.snapshot}" if event.snapshot else ""
        self._mark(event, time, "saved", f"saved {event.state} bytes{snapshot}")

    def _see_printed(self, event: Line, time: int) -> None:
        text = event.text[:LONGEST_TEXT]
        if self._mark(event, time, "printed", text) is None:
            self.story.append((event.n, time, f"prints: {text}"))

    def _see_died(self, event: Line, time: int) -> None:
        text = f"{event.thread} died: {event.what}, {event.where}"[: 2 * LONGEST_TEXT]
        if self._mark(event, time, "died", text) is None:
            self.story.append((event.n, time, text))

    def _see_failed(self, event: Line, time: int) -> None:
        if self.failed is None:
            self.failed = time

    def _see_noted(self, event: Line, time: int) -> None:
        text = event.text
        ended = bool(self.story) and self.story[-1][2].startswith("the test ends here")
        if ended and text.startswith("    "):
            self.threads.append(text.strip()[:LONGEST_TEXT])
            return
        if text.startswith(("FAILED", "the test ends here")) and self.failed is None:
            self.failed = time
        self.story.append((event.n, time, text[:LONGEST_TEXT]))


def _head(line: Any) -> Head:
    try:
        return msgspec.convert(line, Head)
    except msgspec.ValidationError:
        return Head()


def _events(lines: Iterable[Any]) -> Iterator[Line]:
    for line in lines:
        try:
            yield msgspec.convert(line, Line)
        except msgspec.ValidationError:
            continue


def _us(seconds: float) -> int:
    return round(min(max(seconds, 0.0), 1e6) * 1e6)


# --- what messages say ---------------------------------------------------------------------------------------------


def _field(message: Any, name: str) -> Any:
    """A field by its name in Figure 2; None if it was not sent, as when it is zero."""
    if type(message) is dict:
        for own, value in message.items():
            if type(own) is str and plainly(own) == name:
                return value
    return None


def _number(message: Any, name: str) -> int:
    value = _field(message, name)
    return value if type(value) is int and 0 < value < 2**53 else 0


def _is_plain_vote(args: Any) -> bool:
    return type(args) is dict and all(plainly(str(name)) in FIGURE["vote"] for name in args)


def _request_label(kind: Kind, method: str, args: Any, term: int) -> str:
    of_term = f", term {term}" if term else ""
    commit = f", commit {index}" if (index := _number(args, "leadercommit")) else ""
    if kind == "vote":
        return f"vote?{of_term}"
    if kind == "heartbeat":
        return f"heartbeat{of_term}{commit}"
    if kind == "entries":
        return f"{_entries_label(_field(args, 'entries'), _number(args, 'prevlogindex'))}{commit}"
    if kind == "snapshot":
        return f"snapshot to {_number(args, 'lastincludedindex')}{of_term}"
    return method.rpartition(".")[2][:40]


def _entries_label(entries: Any, previous: int) -> str:
    """Which entries: their indices, as the lab counts, and their terms."""
    if type(entries) is not list:
        return "entries"
    count = _length(entries)
    places = f"entry {previous + 1}" if count == 1 else f"entries {previous + 1} to {previous + count}"
    terms = sorted({term for entry in entries if (term := _number(entry, "term"))})
    if not terms:
        return places
    return f"{places} of term {terms[0]}" if len(terms) == 1 else f"{places} of terms {terms[0]} to {terms[-1]}"


def _answer_label(m: Message) -> str:
    reply, term = m.reply, _number(m.reply, "term")
    newer = f"term {term}" if term > m.term > 0 else ""
    if m.kind == "vote":
        word = "granted" if _field(reply, "votegranted") is True else "refused"
    elif m.kind in ("entries", "heartbeat"):
        word = "ok" if _field(reply, "success") is True else "refused"
    else:
        word = ""
    return ", ".join(filter(None, (word, newer)))


def _length(values: list[Any]) -> int:
    """How long a list was before it was cut, here or by the journal."""
    last = values[-1] if values else None
    if type(last) is str and last.startswith("... of ") and last[7:].isdigit():
        return int(last[7:])
    return len(values)


def _cut(value: Any) -> Any:
    """Shorter than the journal has it: nobody reads so much in a picture."""
    if type(value) is dict:
        return {str(name)[:LONGEST_TEXT]: _cut(part) for name, part in list(value.items())[:100]}
    if type(value) is list and len(value) > LONGEST_LIST:
        return [*map(_cut, value[:LONGEST_LIST]), f"... of {_length(value)}"]
    if type(value) is list:
        return [_cut(part) for part in value]
    return value[:LONGEST_TEXT] if type(value) is str else value


def _text(value: Any) -> str:
    return str(value)[:LONGEST_TEXT]
