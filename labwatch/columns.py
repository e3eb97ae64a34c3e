"""The journal of a trial as text: a column for each server, time at the left, what happened from top to bottom.

    print("\\n".join(columns(journal, width=100, last=60)))     # near the failure
    print(painted(line))                                       # for a terminal that has colours

       time  server 0                 server 1                   server 2
      0.411 |                        |CANDIDATE of term 1, asks |
            |                        |  for votes -> 0: yes, 2: |
            |                        |  yes                     |
      0.411 |votes for 1 in term 1   |                          |votes for 1 in term 1
      0.412 |                        |LEADER of term 1,         |
            |                        |  heartbeat -> 0: ok      |
      1.020 -- checkOneLeader: 1 of {0: (1, False), 1: (1, True), 2: (1, False)}
      1.020 |                        :CUT OFF                   |

The bar at the left of a column is `|` while the server is connected, `:` while it is cut off, and a blank while it is
down. A message stands where it was sent, with what became of it behind the number of the one it was sent to: `yes` or
`no` to a request for a vote, `ok` or `no` to entries, `lost`, or how late the answer was. Heartbeats that change
nothing are counted, and so are commands that are applied one after another. What the student's code has printed stands
behind `>>`; verbs and checks of the test, the failure, broken rules of the paper and races go across all columns.

Messages are read by the names of Figure 2, whatever their case and underscores; those of other methods are shown as
they are. Roles are those that messages and GetState show: nothing is known of a server that says nothing. Where the
columns would be narrower than NARROW, each server has only its bar, and the text stands at the right.

All text of a submission is cut and escaped.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import labgob
from labwatch import journal as j
from labwatch.names import METHODS

__all__ = ["columns", "painted"]

NARROW = 20  # characters of a column
TOGETHER = 0.01  # s, within which what one server sends to several stands in one row
LATE = 0.1  # s, after which an answer is called late
SHORT, MESSAGE = 16, 60  # characters of a command, and of a message that is shown as it is
LONGEST = 400  # characters of a row
UNTOLD = re.compile(r"(start|crash|connect|disconnect) \d+$|the test ends here|    ")  # what is noted, and seen anyway

LOST = {
    "disabled": "lost",
    "request dropped": "lost",
    "handler failed": "its handler failed",
    "server gone": "lost, it went down",
    "reply dropped": "answer lost",
    "network closed": "no answer",
}


@dataclass(eq=False)
class _Row:
    time: float
    server: int | None  # None: across all columns
    text: str
    bars: str  # of the servers, then
    roles: Sequence[str] = ()  # likewise, with their terms
    same: object = None  # rows are one in which this is equal


@dataclass(eq=False)
class _Call:
    """A Call, and what became of it."""

    sent: j.Sent
    kind: str  # a value of METHODS, or "other"
    args: dict[str, Any]
    names: _Names
    reply: dict[str, Any] = field(default_factory=dict)  # what the handler answered, whether it arrived or not
    end: j.Delivered | j.Lost | None = None

    @property
    def term(self) -> int:
        return _int(self.args, "term")

    @property
    def entries(self) -> list[Any]:
        entries = _value(self.args, "entries")
        return entries if isinstance(entries, list) else []

    @property
    def is_lost(self) -> bool:
        return not isinstance(self.end, j.Delivered)

    @property
    def is_plain_heartbeat(self) -> bool:
        """One that changed nothing."""
        tells = self.names.has("append reply", "success")
        refused = tells and not self.is_lost and not _value(self.reply, "success")
        return self.kind == "append" and not self.entries and not refused and not self._newer_term

    @property
    def _newer_term(self) -> int:
        """That the one who was asked knows."""
        return term if (term := _int(self.reply, "term")) > self.term else 0

    def outcome(self) -> str:
        """What became of it, in a few words."""
        if self.end is None:
            return "no answer"
        said = f"no, term {self._newer_term}" if self._newer_term else self._said()
        if isinstance(self.end, j.Lost):
            return f"answer lost ({said})" if self.end.why == "reply dropped" else LOST[self.end.why]
        late = self.end.time - self.sent.time
        return f"{said}, {late:.2f} s late" if late > LATE else said

    def _said(self) -> str:
        if self.kind == "vote" and self.names.has("vote reply", "votegranted"):
            return "yes" if _value(self.reply, "votegranted") else "no"
        if self.kind == "append" and self.names.has("append reply", "success"):
            return "ok" if _value(self.reply, "success") else "no"
        return "ok" if self.kind == "install" else _short(self.reply, MESSAGE)


@dataclass(eq=False)
class _Repeated:
    """What a leader has sent that changed nothing: heartbeats, and what was lost before and is again."""

    bars: str
    last: float = 0.0
    heartbeats: dict[int, Counter[str]] = field(default_factory=dict)  # by peer: how often what became of them
    others: dict[int, Counter[str]] = field(default_factory=dict)
    _word: str = ""

    def add(self, call: _Call) -> None:
        of = self.others if call.entries else self.heartbeats
        self._word = "heartbeats" if call.names.has("append", "entries") else "AppendEntries"
        became = "ok" if isinstance(call.end, j.Delivered) else "lost"
        of.setdefault(call.sent.to, Counter())[became] += 1
        self.last = call.sent.time

    def __str__(self) -> str:
        said = [(self._word, self.heartbeats), ("the same again", self.others)]
        return "; ".join(f"{what} -> {self._peers(of)}" for what, of in said if of)

    @staticmethod
    def _peers(of: dict[int, Counter[str]]) -> str:
        return ", ".join(
            f"{to}: {' and '.join(f'{n} {became}' for became, n in sorted(counts.items(), reverse=True))}"
            for to, counts in sorted(of.items())
        )


def columns(
    journal: j.Journal, *, width: int, last: int | None = None, marks: Iterable[tuple[float, str]] = ()
) -> list[str]:
    """Lines of at most `width` characters (at least 60).

    last    so many of them at the most, before the failure and some behind it; None for all
    marks   what else is to stand there, with its time in s: broken rules, races
    """
    events = list(journal.events)
    rows = _Story(events).rows
    for time, text in marks:
        rows.append(_Row(time, None, text, next((row.bars for row in reversed(rows) if row.time <= time), "")))
    rows.sort(key=lambda row: row.time)
    servers = max([e.servers for e in events if isinstance(e, j.Begin)] + [len(row.bars) for row in rows], default=0)
    width = max(width, 60)
    page = _Page(width, servers)
    lines: list[tuple[str, _Row]] = []
    failure = None
    for together in _alike(rows):
        lines += [(line, together[0]) for line in page.lines(together)]
        if failure is None and together[0].text.startswith("FAILED"):
            failure = len(lines)
    before = [f"(the first {journal.dropped} events are not kept)"] if journal.dropped else []
    after = []
    if last is not None and len(lines) > last:
        end = min(len(lines), (failure or len(lines)) + last // 6)
        begin, rest = max(0, end - last), len(lines) - end
        while lines[begin][0].startswith(" " * 10):  # in the middle of a row
            begin += 1
        lines = lines[begin:end]
        if begin:
            roles = (f"server {i} {role}" for i, role in enumerate(lines[0][1].roles) if role)
            before = textwrap.wrap(f"({begin} lines before these; then {', '.join(roles)})", width)
        after = [f"({rest} lines after these)"] if rest else []
    return [*before, page.head(), *(line for line, _ in lines), *after]


def _alike(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Rows that say the same of one server after another at one time stand together."""
    together: list[_Row] = []
    for row in rows:
        known = together[-1] if together else row
        if row is not known and (
            row.server is None
            or known.server is None
            or row.server <= known.server
            or row.text != known.text
            or row.time - known.time > 0.001
        ):
            yield together
            together = []
        together.append(row)
    if together:
        yield together


class _Story:
    """Makes rows of events."""

    def __init__(self, events: Sequence[j.Event]) -> None:
        self.rows: list[_Row] = []
        self._bars: list[str] = []
        self._calls = _calls_of(events)
        self._role: dict[int, str] = {}
        self._term: dict[int, int] = {}
        self._leader: dict[int, tuple[int, int]] = {}  # whom a server follows, and in which term
        self._commit: dict[int, int] = {}  # of each leader, as it has sent it
        self._latest: dict[int | None, _Row] = {}  # of each server
        self._repeated: dict[int, _Repeated] = {}
        self._lost: dict[tuple[int, int], str] = {}  # by sender and peer: the entries that were lost last
        self._applied: dict[int, tuple[int, int, float]] = {}  # the first and last index in a server's row, and when
        tellers = {
            j.Begin: self._begin,
            j.Start: self._start,
            j.Crash: self._crash,
            j.Connect: self._connect,
            j.Network: self._network,
            j.Sent: self._sent,
            j.Ended: self._ended,
            j.Applied: self._apply,
            j.AppliedSnapshot: self._apply_snapshot,
            j.MadeSnapshot: self._make_snapshot,
            j.Said: self._said,
            j.Took: self._took,
            j.Noted: self._noted,
            j.Printed: self._printed,
            j.Died: self._died,
            j.Failed: self._failed,
        }
        for event in events:
            if isinstance(event, j.End):
                break
            tell: Any = tellers.get(type(event))
            if tell is not None:
                tell(event)
        for server in list(self._repeated):
            self._tell_repeated(server)

    def _tell(self, e: j.Event, server: int | None, text: str, same: object = None) -> None:
        if server is not None:
            self._tell_repeated(server)
        row = _Row(e.time, server, text, "".join(self._bars), [self._is(i) for i in range(len(self._bars))], same)
        self.rows.append(row)
        self._latest[server] = row

    def _tell_repeated(self, server: int) -> None:
        repeated = self._repeated.pop(server, None)
        if repeated is not None:
            roles = [self._is(i) for i in range(len(self._bars))]
            self.rows.append(_Row(repeated.last, server, str(repeated), repeated.bars, roles))

    # --- servers ---

    def _begin(self, e: j.Begin) -> None:
        self._bars = [" "] * e.servers

    def _bar(self, server: int, bar: str) -> None:
        if server >= len(self._bars):
            self._bars += [" "] * (server + 1 - len(self._bars))
        self._bars[server] = bar

    def _start(self, e: j.Start) -> None:
        self._bar(e.server, ":")
        self._role.pop(e.server, None)
        self._tell(e, e.server, "starts" if e.incarnation == 1 else "starts again")

    def _crash(self, e: j.Crash) -> None:
        self._tell(e, e.server, "CRASHES")
        self._bar(e.server, " ")

    def _connect(self, e: j.Connect) -> None:
        bar = "|" if e.yes else ":"
        self._bar(e.server, bar)
        self._tell(e, e.server, "connected" if e.yes else "CUT OFF")

    def _network(self, e: j.Network) -> None:
        if self.rows or (e.mode, e.yes) == ("Reliable", False):
            self._tell(e, None, f"-- network: {e.mode}({e.yes})")

    def _is(self, server: int) -> str:
        """What a server is, as far as it has shown."""
        if self._bars[server] == " ":
            return "down"
        term = self._term.get(server)
        return f"{self._role.get(server) or 'follower'} of term {term}" if term else ""

    def _is_in(self, server: int, role: str, term: int) -> str:
        """Let a server have a role in a term; what there is to say of that, if it is new."""
        known, in_term = self._role.get(server), self._term.get(server, 0)
        if term < in_term or (term == in_term and known in (role, "LEADER")):
            return ""  # a thread that sends late
        self._role[server], self._term[server] = role, term
        return f"{role} of term {term}, "

    # --- messages ---

    def _sent(self, e: j.Sent) -> None:
        call = self._calls[e.call]
        change = ""
        if call.kind == "vote" and call.term:
            change = self._is_in(e.server, "CANDIDATE", call.term)
        elif call.kind in ("append", "install") and call.term:
            change = self._is_in(e.server, "LEADER", call.term)
        commit = _int(call.args, "leadercommit")
        news = change or (call.kind == "append" and commit != self._commit.get(e.server, 0))
        what = self._what(call)
        again = call.is_lost and self._lost.get((e.server, e.to)) == what
        if call.kind == "append":
            self._lost[e.server, e.to] = what if call.is_lost else ""
        if (call.is_plain_heartbeat or again) and not news:
            self._repeated.setdefault(e.server, _Repeated("".join(self._bars))).add(call)
            return
        outcome = f"{e.to}: {call.outcome()}"
        latest = self._latest.get(e.server)
        if latest is not None and not change and latest.same == what and e.time - latest.time < TOGETHER:
            latest.text += f", {outcome}"
            return
        if call.kind == "append" and commit != self._commit.get(e.server, 0):
            self._commit[e.server] = commit
            change += f"commit {commit}, "
        self._tell(e, e.server, f"{change}{what} -> {outcome}", what)

    def _what(self, call: _Call) -> str:
        args = call.args
        if call.kind == "vote":
            last = _int(args, "lastlogindex")
            log = f" (log ends at {last} of term {_int(args, 'lastlogterm')})" if last else ""
            return f"asks for votes{log}"
        if call.kind == "install":
            return f"snapshot up to {_int(args, 'lastincludedindex')}"
        if call.kind == "append":
            prev = _int(args, "prevlogindex")
            if not call.entries:
                return "heartbeat" if call.names.has("append", "entries") else "AppendEntries"
            behind = f" behind {prev} of term {_int(args, 'prevlogterm')}" if prev else ""
            return f"{_entries(prev, call.entries)}{behind}"
        method = call.sent.request.method.rpartition(".")[2]
        return f"{_safe(method)}{_short(args, MESSAGE)}"

    def _ended(self, e: j.Ended) -> None:
        """A handler has answered: what that says of the one who was asked."""
        call = self._calls.get(e.call)
        if call is None or e.reply is None:
            return
        term = _int(call.reply, "term") or call.term
        news = term > self._term.get(e.server, 0)
        if call.kind == "vote" and _value(call.reply, "votegranted"):
            self._role[e.server], self._term[e.server] = "", max(term, self._term.get(e.server, 0))
            self._tell(e, e.server, f"votes for {call.sent.server} in term {call.term}")
        elif call.kind in ("append", "install") and term and term == call.term:
            leader = call.sent.server, term
            if e.server != call.sent.server and self._leader.get(e.server) != leader:
                self._leader[e.server] = leader
                self._role[e.server], self._term[e.server] = "", term
                self._tell(e, e.server, f"follows {leader[0]} in term {term}")
        elif news:
            self._role[e.server], self._term[e.server] = "", term
            self._tell(e, e.server, f"term {term}")

    # --- logs ---

    def _apply(self, e: j.Applied) -> None:
        latest, (first, last, time) = self._latest.get(e.server), self._applied.get(e.server, (0, -1, 0.0))
        goes_on = latest is not None and latest.same == "applies" and e.index == last + 1 and e.time < time + TOGETHER
        if latest is not None and goes_on and e.server not in self._repeated:
            latest.text = f"applies {first} to {e.index}: ... {_short(e.command)}"
        else:
            first = e.index
            self._tell(e, e.server, f"applies {e.index}: {_short(e.command)}", "applies")
        self._applied[e.server] = first, e.index, e.time

    def _apply_snapshot(self, e: j.AppliedSnapshot) -> None:
        self._tell(e, e.server, f"takes the snapshot up to {e.index}")

    def _make_snapshot(self, e: j.MadeSnapshot) -> None:
        self._tell(e, e.server, f"its service has a snapshot up to {e.index}")

    def _took(self, e: j.Took) -> None:
        if e.leads:
            self._tell(e, e.server, f"Start({_short(e.command)}): index {e.index}, term {e.term}")
        elif e.leads is None:
            self._tell(e, e.server, f"Start({_short(e.command)}) returned no (index, term, isLeader)")

    def _said(self, e: j.Said) -> None:
        if e.term is None:
            self._tell(e, e.server, "GetState returned no (term, isLeader)")
        elif e.leads and self._is_in(e.server, "LEADER", e.term):
            self._tell(e, e.server, f"says that it is LEADER of term {e.term}")
        elif not e.leads and (self._role.get(e.server) == "LEADER" or e.term != self._term.get(e.server, 0)):
            self._role[e.server], self._term[e.server] = "", e.term
            self._tell(e, e.server, f"says that it does not lead, term {e.term}")

    # --- the test, and the student's code ---

    def _noted(self, e: j.Noted) -> None:
        if not UNTOLD.match(e.text):
            self._tell(e, None, f"-- {_safe(e.text)}")

    def _printed(self, e: j.Printed) -> None:
        self._tell(e, e.server, f">> {_safe(e.text)}")

    def _died(self, e: j.Died) -> None:
        where = re.sub(r"\S*[/\\]", "", _safe(e.where))  # without folders
        self._tell(e, e.server, f"DIED: thread {_safe(e.thread)}: {_safe(e.what)} {where}")

    def _failed(self, e: j.Failed) -> None:
        first_line = e.text.strip().partition("\n")[0]
        self._tell(e, None, f"FAILED{' in the background' if e.background else ''}: {_safe(first_line)}")


class _Page:
    """Sets rows in columns."""

    def __init__(self, width: int, servers: int) -> None:
        self._column = (width - 10) // max(servers, 1)
        self._narrow = self._column < NARROW
        self._servers = servers
        self._width = width

    def head(self) -> str:
        if self._narrow:
            return f"     time {' '.join(map(str, range(self._servers)))}"
        names = (f" server {server}".ljust(self._column) for server in range(self._servers))
        return f"     time {''.join(names)}".rstrip()

    def lines(self, together: Sequence[_Row]) -> list[str]:
        """Of rows that are alike but for their servers."""
        row, those = together[-1], [row.server for row in together]
        time = f"{row.time:9.3f} "
        bars = row.bars.ljust(self._servers)
        if row.server is None:
            return self._set(time, row.text, self._width - 10, lambda text: text)
        if self._narrow:
            lane = "".join(f"{'*' if i in those else bar} " for i, bar in enumerate(bars))
            text = f"{', '.join(map(str, those))}: {row.text}"
            return self._set(time, text, self._width - 10 - len(lane) - 1, lambda text: f"{lane} {text}")

        def placed(text: str) -> str:
            cells = (text if i in those else "" for i in range(self._servers))
            return "".join(f"{bar}{_padded(cell, self._column - 1)}" for bar, cell in zip(bars, cells, strict=False))

        return self._set(time, row.text, self._column - 2, placed)

    def _set(self, time: str, text: str, width: int, placed: Any) -> list[str]:
        parts = textwrap.wrap(text[:LONGEST], width, subsequent_indent="  ", break_on_hyphens=False) or [""]
        return [f"{' ' * 10 if i else time}{placed(part)}".rstrip() for i, part in enumerate(parts)]


# --- reading messages ----------------------------------------------------------------------------------------------


class _Names:
    """Which fields there are in a solution's messages: what holds zero does not travel, but is no unknown field."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}
        self._classes: set[tuple[str, type]] = set()

    def has(self, kind: str, name: str) -> bool:
        return name in self._known.get(kind, ())

    def learn(self, kind: str, message: dict[str, Any], cls: Any) -> None:
        known = self._known.setdefault(kind, set())
        known.update(map(_plainly, message))
        if dataclasses.is_dataclass(cls) and (kind, cls) not in self._classes:
            self._classes.add((kind, cls))  # type: ignore[arg-type]
            known.update(_plainly(f.name) for f in dataclasses.fields(cls))


def _calls_of(events: Iterable[j.Event]) -> dict[int, _Call]:
    calls: dict[int, _Call] = {}
    names = _Names()
    for e in events:
        if isinstance(e, j.Sent):
            kind = METHODS.get(_plainly(e.request.method.rpartition(".")[2]), "other")
            call = calls[e.call] = _Call(e, kind, _message(e.request.args), names)
            names.learn(kind, call.args, e.request.args_type)
            names.learn(f"{kind} reply", {}, e.request.reply_type)
        elif isinstance(e, j.Ended) and (known := calls.get(e.call)) is not None:
            known.reply = _message(e.reply)
            names.learn(f"{known.kind} reply", known.reply, None)
        elif isinstance(e, (j.Delivered, j.Lost)) and (known := calls.get(e.call)) is not None:
            known.end = e
    return calls


def _plainly(name: object) -> str:
    return str(name).replace("_", "").lower()


def _message(data: bytes | None) -> dict[str, Any]:
    try:
        message = labgob.plain(data) if data is not None else {}
    except labgob.LabgobError:
        return {}
    return message if isinstance(message, dict) else {}


def _value(message: Any, name: str) -> Any:
    """Of the field with such a name; None if it was not sent."""
    if isinstance(message, dict):
        for known, value in message.items():
            if _plainly(known) == name:
                return value
    return None


def _int(message: Any, name: str) -> int:
    value = _value(message, name)
    return value if type(value) is int else 0


def _entries(prev: int, entries: Sequence[Any]) -> str:
    """Which entries a message has: their indices and terms, and of a single one the command."""
    terms = [_int(entry, "term") for entry in entries]
    of = f"of term {terms[0]}" if len(set(terms)) == 1 else f"of terms {', '.join(map(str, sorted(set(terms))))}"
    if len(entries) == 1:
        command = _short(_value(entries[0], "command"))
        return f"entry {prev + 1} {of} ({command})"
    return f"entries {prev + 1} to {prev + len(entries)} {of}"


# --- text ----------------------------------------------------------------------------------------------------------


def _short(value: Any, most: int = SHORT) -> str:
    text = _safe(repr(value))
    return text if len(text) <= most else f"{text[:most]}..."


def _safe(text: str) -> str:
    """What does not print is escaped."""
    text = text[:LONGEST].expandtabs(4)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _padded(text: str, width: int) -> str:
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text) if not text.isascii() else 0
    return text + " " * (width - len(text) - wide)


COLOURS = (  # what a line holds, and how a terminal is told to show that
    (re.compile(r"FAILED.*|DIED:|PAPER:.*|RACE:.*"), "1;31"),
    (re.compile(r"\bLEADER\b"), "1;32"),
    (re.compile(r"\bCANDIDATE\b"), "1;33"),
    (re.compile(r"\bCRASHES|CUT OFF\b"), "31"),
    (re.compile(r">> .*?(?=  |\s*$)"), "36"),
    (re.compile(r"-- .*"), "1"),
)


def painted(line: str) -> str:
    """A line of `columns` for a terminal with colours."""
    for what, colour in COLOURS:
        found = what.search(line)
        if found:
            return f"{line[: found.start()]}\033[{colour}m{found[0]}\033[0m{line[found.end() :]}"
    return line
