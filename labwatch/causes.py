"""Likely causes of a failure: what the journal of the trial, and where its threads stood, show to be wrong.

    causes.likely(Evidence(journal, source, ...))      # at most three lines, the most telling first

Each line says what happened, with its servers and times, and where in the solution that is. It is a fact of the trial,
or a question to the reader; nothing that is only guessed is said as if it were known. Whether it is why the test failed
nobody can tell, so they are called likely. What a line needs and cannot be had (a field of the paper's under another
name, events that the journal has dropped) leaves the line out.

Each cause is a small function over Facts, which says in its docstring what it takes for certain.
"""

from __future__ import annotations

import difflib
import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import labgob
from labwatch import journal as j
from labwatch.names import Fields, kind_of, plainly
from labwatch.paper import Broken
from labwatch.source import CallSite, Complaint, OwnLock, Source

__all__ = ["Evidence", "likely"]

MOST = 3
LAG = 0.3  # s that a server may take to act on what it was told
TIMEOUT = 1.5  # s without a leader in which every Raft of the lab's tests has begun an election


@dataclass
class Evidence:
    journal: j.Journal
    source: Source
    sites: Sequence[CallSite] = ()
    own_locks: Sequence[OwnLock] = ()
    complaints: Sequence[Complaint] = ()
    broken: Sequence[Broken] = ()  # rules of the paper


def likely(evidence: Evidence) -> list[str]:
    """At most three lines. Where a defect is certain, what may only follow from it is left out."""
    facts = Facts(evidence)
    found = [said for cause in DEFECTS if (said := cause(facts))]
    if not any(cause(facts) for cause in LOCKS):
        found += [said for cause in SYMPTOMS if (said := cause(facts))]
    return list(dict.fromkeys(found))[:MOST]


@dataclass(slots=True, eq=False)
class Call:
    """One Call of the trial. Of what is not found in it, None."""

    sent: j.Sent
    kind: str
    args: dict[str, Any] | None = None
    term: int | None = None
    began: j.Began | None = None
    ended: float | None = None  # s, when it returned
    delivered: j.Delivered | None = None
    reply: dict[str, Any] | None = None
    reply_term: int | None = None
    yes: bool | None = None  # VoteGranted, or Success


@dataclass
class Server:
    """What is known of one server."""

    states: list[tuple[float, int, int, bool]] = field(default_factory=list)  # of GetState: s, incarnation, term, leads
    applied: dict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))  # by incarnation
    snapshots: set[int] = field(default_factory=set)  # incarnations that were given one
    starts: list[float] = field(default_factory=list)  # s
    saves: list[float] = field(default_factory=list)  # s
    connected: list[tuple[float, bool]] = field(default_factory=list)

    def was_connected(self, since: float, until: float) -> bool:
        """During all of that time."""
        before = [yes for time, yes in self.connected if time <= since]
        return bool(before and before[-1]) and all(yes for time, yes in self.connected if since < time <= until)


class Facts:
    """One look at the journal, in tables."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.source = evidence.source
        self.complete = not evidence.journal.dropped
        self.n = 0
        self.end = 0.0  # s
        self.calls: dict[int, Call] = {}
        self.servers: dict[int, Server] = defaultdict(Server)
        self.wrong_start: j.Took | None = None
        self.wrong_state: j.Said | None = None
        self._fields: dict[tuple[type, str], Fields] = {}
        self.own_fields: set[str] = set()  # kinds of messages that have fields which the paper has not
        for event in list(evidence.journal.events):
            if isinstance(event, j.End):
                break
            self.end = event.time
            see = _SEERS.get(type(event))
            if see is not None:
                see(self, event)

    # --- the events ---

    def _begin(self, e: j.Begin) -> None:
        self.n = e.servers

    def _start(self, e: j.Start) -> None:
        self.servers[e.server].starts.append(e.time)

    def _crash(self, e: j.Crash) -> None:
        self.servers[e.server].connected.append((e.time, False))

    def _connect(self, e: j.Connect) -> None:
        self.servers[e.server].connected.append((e.time, e.yes))

    def _saved(self, e: j.Saved) -> None:
        self.servers[e.server].saves.append(e.time)

    def _applied(self, e: j.Applied) -> None:
        if type(e.index) is int:
            self.servers[e.server].applied[e.incarnation].append((e.time, e.index))

    def _applied_snapshot(self, e: j.AppliedSnapshot) -> None:
        self.servers[e.server].snapshots.add(e.incarnation)

    def _said(self, e: j.Said) -> None:
        if e.term is None or e.leads is None:
            self.wrong_state = self.wrong_state or e
        else:
            self.servers[e.server].states.append((e.time, e.incarnation, e.term, e.leads))

    def _took(self, e: j.Took) -> None:
        if e.index is None or e.term is None or e.leads is None:
            self.wrong_start = self.wrong_start or e

    def _sent(self, e: j.Sent) -> None:
        kind = kind_of(e.request.method)
        call = self.calls[e.call] = Call(e, kind)
        call.args = _plain(e.request.args)
        fields = self._bound(e.request.args_type, kind)
        call.term = fields.of(call.args, "term", int)

    def _began(self, e: j.Began) -> None:
        if e.call in self.calls:
            self.calls[e.call].began = e

    def _delivered(self, e: j.Delivered) -> None:
        call = self.calls.get(e.call)
        if call is None:
            return
        call.delivered, call.ended = e, e.time
        call.reply = _plain(e.reply)
        kind = f"{call.kind} reply" if call.kind != "other" else "other"
        fields = self._bound(call.sent.request.reply_type, kind)
        call.reply_term = fields.of(call.reply, "term", int)
        name = {"vote": "votegranted", "append": "success"}.get(call.kind, "")
        call.yes = fields.of(call.reply, name, bool) if fields.has(name) else None

    def _lost(self, e: j.Lost) -> None:
        if e.call in self.calls:
            self.calls[e.call].ended = e.time

    def _bound(self, cls: type, kind: str) -> Fields:
        found = self._fields.get((cls, kind))
        if found is None:
            found = self._fields[cls, kind] = Fields(cls, kind)
            if found.own:
                self.own_fields.add(kind)
        return found

    # --- what several causes ask ---

    def of_kind(self, kind: str) -> Iterator[Call]:
        return (call for call in self.calls.values() if call.kind == kind)

    def commit(self, call: Call) -> int:
        """LeaderCommit in the args of AppendEntries; 0 if there is none."""
        return self._bound(call.sent.request.args_type, call.kind).of(call.args, "leadercommit", int) or 0

    def is_full(self) -> bool:
        """Whether what is not in the journal has not happened."""
        return self.complete and self.n > 0

    def votes(self) -> dict[tuple[int, int, int], set[int]]:
        """By candidate, incarnation and term: who has voted for it, as delivered; itself too, as it need not ask."""
        votes: dict[tuple[int, int, int], set[int]] = defaultdict(set)
        for call in self.of_kind("vote"):
            if call.term is not None:
                votes[call.sent.server, call.sent.incarnation, call.term].add(call.sent.server)
                if call.yes:
                    votes[call.sent.server, call.sent.incarnation, call.term].add(call.sent.to)
        return votes

    def leaders(self) -> dict[tuple[int, int, int], tuple[float, bool]]:
        """By server, incarnation and term: when it first showed that it leads, and whether by more than GetState."""
        found: dict[tuple[int, int, int], tuple[float, bool]] = {}
        for server, known in self.servers.items():
            for time, incarnation, term, leads in known.states:
                if leads:
                    found.setdefault((server, incarnation, term), (time, False))
        for call in self.of_kind("append"):
            if call.term is not None:
                who = call.sent.server, call.sent.incarnation, call.term
                found[who] = min(call.sent.time, found.get(who, (call.sent.time, True))[0]), True
        return found

    def handler(self, kind: str) -> str:
        """Where the handler of a method of the paper's is, to be put behind its name."""
        line = self.source.head(HANDLERS[kind], *_other_spellings(HANDLERS[kind]))
        return f"{HANDLERS[kind]} ({line})" if line else HANDLERS[kind]

    def call_of(self, kind: str) -> str:
        """Where it is called, likewise."""
        lines = self.source.calls(HANDLERS[kind])
        return f"the Call of {HANDLERS[kind]} ({lines[0]})" if lines else f"the Call of {HANDLERS[kind]}"


HANDLERS = {"vote": "RequestVote", "append": "AppendEntries", "install": "InstallSnapshot"}

_SEERS: dict[type[j.Event], Callable[[Facts, Any], None]] = {
    j.Begin: Facts._begin,
    j.Start: Facts._start,
    j.Crash: Facts._crash,
    j.Connect: Facts._connect,
    j.Saved: Facts._saved,
    j.Applied: Facts._applied,
    j.AppliedSnapshot: Facts._applied_snapshot,
    j.Said: Facts._said,
    j.Took: Facts._took,
    j.Sent: Facts._sent,
    j.Began: Facts._began,
    j.Delivered: Facts._delivered,
    j.Lost: Facts._lost,
}


# --- threads and locks ---------------------------------------------------------------------------------------------


def a_rule_of_the_paper(f: Facts) -> str:
    """What labwatch.paper has found is certain."""
    if not f.evidence.broken:
        return ""
    broken = f.evidence.broken[0]
    kind = RULES.get(broken.rule)
    where = f"; {f.handler(kind)} answers that" if kind else ""
    return f"the paper forbids this: {broken.message}{where}"


RULES = {
    "two votes": "vote",
    "vote not saved": "vote",
    "vote for an older log": "vote",
    "entry not saved": "append",
}
"""By rule: the kind of message whose handler breaks it."""


def a_call_with_the_lock_held(f: Facts) -> str:
    """The line was seen inside `with`, or between acquire and release, as it called."""
    for site in f.evidence.sites:
        if site.held:
            return (
                f"server {site.server} calls {site.method} at {site.line}, in {site.line.function}, and holds "
                f"{' and '.join(site.held)} meanwhile: a Call can take seconds, in which nobody else gets the lock"
            )
    return ""


def a_lock_taken_twice(f: Facts) -> str:
    """The thread stands where it takes the lock, and in the body of a `with` of that lock."""
    for own in f.evidence.own_locks:
        return (
            f"{own.thread} waits at {own.at}, in {own.at.function}, for {own.lock}, which it holds itself: "
            f"it came there from {own.held_at}, in {own.held_at.function}"
        )
    return ""


# --- what the solution returns, and what it sends ------------------------------------------------------------------


def a_wrong_answer(f: Facts) -> str:
    """It was neither that many values nor of these types."""
    for name, event, wanted in (
        ("Start", f.wrong_start, "(index, term, isLeader), an int, an int and a bool"),
        ("GetState", f.wrong_state, "(term, isLeader), an int and a bool"),
    ):
        if event is not None:
            line = f.source.head(name)
            return f"{name}{f' ({line})' if line else ''} of server {event.server} did not return {wanted}"
    return ""


def an_undeclared_field(f: Facts) -> str:
    """labgob found the attribute on a message, and no field of that name in its class; or one that is private."""
    for complaint in f.evidence.complaints:
        if complaint.kind == "private":
            return f"{complaint.field} of {complaint.cls} begins with _, so it is not sent"
        if complaint.kind == "undeclared":
            lines = f.source.sets(complaint.field)
            where = f" at {lines[0]}" if lines else ""
            declared = _declared(f, complaint)
            return (
                f"{complaint.field} is set{where}, and {complaint.cls} declares no such field, so it is not sent"
                f"{declared}"
            )
    return ""


def _declared(f: Facts, complaint: Complaint) -> str:
    for cls, _ in f._fields:
        if cls.__name__ == complaint.cls:
            names = list(getattr(cls, "__dataclass_fields__", {}))
            close = [n for n in names if plainly(n) == plainly(complaint.field)]
            close += difflib.get_close_matches(complaint.field, names, n=1)
            return f" (there is {close[0]})" if close else f" (there are {', '.join(names)})" if names else ""
    return ""


def a_reply_used_again(f: Facts) -> str:
    """labgob decoded into a message that held something already."""
    for complaint in f.evidence.complaints:
        if complaint.kind == "used":
            return (
                f"the reply of the Call at {complaint.line} is no new one: {complaint.cls}.{complaint.field} held "
                "something when the answer arrived, and what an answer leaves out (False, 0) stays as it was"
            )
    return ""


# --- elections -----------------------------------------------------------------------------------------------------


def nobody_asked_for_votes(f: Facts) -> str:
    """Nothing of the journal is gone, and it has lasted for longer than any election timeout."""
    if not f.is_full() or f.end < TIMEOUT or any(f.of_kind("vote")):
        return ""
    if any(call.kind == "other" for call in f.calls.values()):
        return ""  # it may have another name
    lines = f.source.calls("RequestVote")
    never = f"; the Call at {lines[0]} was never reached" if lines else "; no line of the solution calls it"
    return f"no server ever sent RequestVote in {f.end:.1f} s{never}"


def nobody_gave_a_vote(f: Facts) -> str:
    """Answers of several servers were delivered, and from some time to the end all of them said no."""
    answers = [c for c in f.of_kind("vote") if c.yes is not None and c.delivered and c.sent.to != c.sent.server]
    last = max((number for number, call in enumerate(answers) if call.yes), default=-1)
    refused = answers[last + 1 :]
    if len(refused) < 10 or len({c.sent.to for c in refused}) < f.n // 2 + 1 or f.end - _at(refused[0]) < TIMEOUT:
        return ""
    return (
        f"none of {len(refused)} answers to RequestVote granted a vote, from {_at(refused[0]):.3f} s to the end at "
        f"{f.end:.1f} s: see {f.handler('vote')}"
    )


def _at(call: Call) -> float:
    return call.delivered.time if call.delivered else call.sent.time


def a_leader_without_votes(f: Facts) -> str:
    """It showed that it leads, and fewer than a majority had voted for it, itself counted, as was delivered by then."""
    if not f.is_full() or "vote" in f.own_fields or any(c.kind == "other" for c in f.calls.values()):
        return ""
    for (server, incarnation, term), (time, sends) in sorted(f.leaders().items(), key=lambda item: item[1]):
        asked = [
            c
            for c in f.of_kind("vote")
            if (c.sent.server, c.sent.incarnation, c.term) == (server, incarnation, term) and c.sent.time <= time
        ]
        if not asked or any(c.delivered is not None and c.yes is None for c in asked):
            continue
        voters = {server} | {c.sent.to for c in asked if c.yes and c.delivered and c.delivered.time <= time}
        if len(voters) > f.n // 2:
            continue
        refused = sum(bool(c.delivered and c.delivered.time <= time and not c.yes) for c in asked)
        no = f", and {refused} answer{'s' * (refused != 1)} that granted none" if refused else ""
        votes = f"{len(voters)} of {f.n} votes, its own included{no}"
        if not sends:
            line = f.source.head("GetState")
            where = f" ({line})" if line else ""
            return (
                f"server {server} said at {time:.3f} s that it leads term {term}, with {votes}, and sent nothing as "
                f"its leader: what does GetState{where} take for a leader?"
            )
        return (
            f"server {server} led term {term} at {time:.3f} s, with {votes}: see what is counted after "
            f"{f.call_of('vote')}{_unread(f, asked[0])}"
        )
    return ""


def _unread(f: Facts, call: Call) -> str:
    """Whether no line reads what says that a vote was granted."""
    fields = f._bound(call.sent.request.reply_type, "vote reply")
    if not fields.has("votegranted"):
        return ""
    name = fields.place("votegranted")[0]
    return "" if f.source.reads(name) else f", as no line reads {name}"


def elected_and_silent(f: Facts) -> str:
    """A majority had voted, as was delivered, and the server went on living without ever showing that it leads."""
    if not f.is_full():
        return ""
    leaders = f.leaders()
    seen = Counter[int]()
    for (server, incarnation, term), voters in f.votes().items():
        if len(voters) <= f.n // 2 or (server, incarnation, term) in leaders:
            continue
        last = max(
            c.delivered.time
            for c in f.of_kind("vote")
            if c.delivered and c.yes and (c.sent.server, c.sent.incarnation, c.term) == (server, incarnation, term)
        )
        later = [s for s in f.servers[server].states if s[0] > last + LAG and s[1] == incarnation]
        if later and later[0][2] == term:
            seen[server] += 1
            return (
                f"server {server} had {len(voters)} of {f.n} votes in term {term} by {last:.3f} s, its own included, "
                f"and said at {later[0][0]:.3f} s that it does not lead: see what is counted after {f.call_of('vote')}"
            )
    return ""


def elections_in_spite_of_heartbeats(f: Facts) -> str:
    """Servers asked for votes soon after they had answered AppendEntries of that term or an earlier one, as if nothing
    had come: sooner than the next was due. No right Raft's election timeout is that short. (A timer may go off just as
    a heartbeat comes; so this counts only if it happens often.)
    """
    gaps = []
    last: dict[tuple[int, int | None, int], float] = {}
    for call in f.of_kind("append"):
        who = call.sent.server, call.term, call.sent.to
        if who in last and 0.02 < call.sent.time - last[who] < 1.0:
            gaps.append(call.sent.time - last[who])
        last[who] = call.sent.time
    if len(gaps) < 5:
        return ""
    pause = statistics.median(gaps)
    heard: dict[int, Call] = {}
    elections: dict[tuple[int, int], tuple[Call, float]] = {}
    for call, arrives in _in_order(f):
        if arrives:
            heard[call.sent.to] = call
        elif call.term is not None and (call.sent.server, call.term) not in elections:
            known = heard.get(call.sent.server)
            since = call.sent.time - known.began.time if known and known.began else call.sent.time
            elections[call.sent.server, call.term] = call, since
    soon = [(call, since) for call, since in elections.values() if 0.005 < since < 0.6 * pause]
    near = sum(since < 3 * pause for _, since in elections.values())
    if len(soon) < 3 or len(soon) * 5 < near:
        return ""
    call, since = soon[0]
    return (
        f"{len(soon)} times a server asked for votes shortly after it had answered AppendEntries: server "
        f"{call.sent.server} at {_s(call.sent)} after {1000 * since:.0f} ms, though they come every "
        f"{1000 * pause:.0f} ms: does {f.handler('append')} reset the election timer?"
    )


def _in_order(f: Facts) -> Iterator[tuple[Call, bool]]:
    """AppendEntries that were taken as they arrive (True), and RequestVotes as they are sent."""
    events = [(c.began.number, c, True) for c in f.of_kind("append") if c.began and c.reply_term in (c.term, 0)]
    events += [(c.sent.number, c, False) for c in f.of_kind("vote")]
    return ((call, arrives) for _, call, arrives in sorted(events, key=lambda event: event[0]))


def split_votes(f: Facts) -> str:
    """Terms in which several asked for votes, and were heard, and nobody led."""
    candidates: dict[int, set[int]] = defaultdict(set)
    for call in f.of_kind("vote"):
        if call.term is not None and call.began:
            candidates[call.term].add(call.sent.server)
    led = {term for _, _, term in f.leaders()}
    split = [term for term, servers in candidates.items() if len(servers) > 1 and term not in led]
    if len(split) < 4 or len(split) * 3 < len(candidates) * 2:
        return ""
    return (
        f"in {len(split)} of {len(candidates)} terms two or more servers asked for votes and nobody led: are election "
        "timeouts random, different on each server, and drawn anew each time?"
    )


def one_call_after_another(f: Facts) -> str:
    """Of the Calls that a server made in one term no two were under way at once, though some took long and the next,
    to another server, came as they ended.
    """
    if not f.is_full():
        return ""
    for kind in ("vote", "append"):
        by_term: dict[tuple[int, int, int | None], list[Call]] = defaultdict(list)
        for call in f.of_kind(kind):
            by_term[call.sent.server, call.sent.incarnation, call.term].append(call)
        pairs = [pair for calls in by_term.values() for pair in itertools.pairwise(calls)]
        pairs = [(a, b) for a, b in pairs if a.ended is not None]
        if any(b.sent.time < (a.ended or 0.0) for a, b in pairs):
            continue
        for a, b in pairs:
            took = (a.ended or 0.0) - a.sent.time
            if took > LAG and b.sent.to != a.sent.to and b.sent.time < a.sent.time + took + 0.05:
                return (
                    f"server {a.sent.server} calls one peer after another: its Call to server {a.sent.to} took "
                    f"{took:.1f} s from {_s(a.sent)} on, and only then came the one to server {b.sent.to}; each wants "
                    f"a thread of its own: see {f.call_of(kind)}"
                )
    return ""


def an_election_in_term_0(f: Facts) -> str:
    """As the message says."""
    for call in f.of_kind("vote"):
        if call.term == 0:
            return (
                f"server {call.sent.server} asked for votes in term 0, at {_s(call.sent)}: a candidate increments its "
                f"term first (Figure 2, Candidates); see {f.call_of('vote')}"
            )
    return ""


def heartbeats_to_itself(f: Facts) -> str:
    """It leads, calls AppendEntries of itself, and then said in the same term that it does not lead."""
    for call in f.of_kind("append"):
        server = call.sent.server
        if call.sent.to == server and call.began:
            later = [s for s in f.servers[server].states if s[0] > call.began.time and s[1] == call.sent.incarnation]
            if later and later[0][2] == call.term and not later[0][3]:
                return (
                    f"server {server} sent AppendEntries of term {call.term} to itself, at {_s(call.sent)}, and said "
                    f"at {later[0][0]:.3f} s that it does not lead that term: see {f.call_of('append')}"
                )
    return ""


def a_leader_without_heartbeats(f: Facts) -> str:
    """It said that it leads, for longer than a heartbeat may be away, and has sent none in that term."""
    if not f.is_full() or any(c.kind == "other" for c in f.calls.values()):
        return ""
    sent = {(c.sent.server, c.term) for kind in ("append", "install") for c in f.of_kind(kind)}
    for server, known in f.servers.items():
        led: dict[int, float] = {}
        for time, _, term, leads in known.states:
            if leads and (server, term) not in sent and time > led.setdefault(term, time) + LAG:
                lines = f.source.calls("AppendEntries")
                where = f"the Call at {lines[0]} was not reached" if lines else "no line of the solution calls it"
                return (
                    f"server {server} said from {led[term]:.3f} s to {time:.3f} s that it leads term {term}, and sent "
                    f"no AppendEntries in it; {where}"
                )
    return ""


def rare_heartbeats(f: Facts) -> str:
    """What a leader sent to a follower while both were connected all the time."""
    if not f.is_full():
        return ""
    sent: dict[tuple[int, int | None, int], list[float]] = defaultdict(list)
    for call in f.of_kind("append"):
        sent[call.sent.server, call.term, call.sent.to].append(call.sent.time)
    for (server, term, to), times in sent.items():
        gaps = [b - a for a, b in itertools.pairwise(times)]
        if len(gaps) < 3 or statistics.median(gaps) < 0.4:
            continue
        if all(f.servers[s].was_connected(times[0], times[-1]) for s in (server, to)):
            return (
                f"server {server}, leader of term {term}, sent AppendEntries to server {to} every "
                f"{statistics.median(gaps):.2f} s, from {times[0]:.3f} s on: election timeouts must be several times "
                "longer than that, and the lab wants a new leader within 5 s"
            )
    return ""


def no_election_without_a_leader(f: Facts) -> str:
    """For so long no AppendEntries reached a connected server, and none of them asked for votes."""
    if not f.is_full():
        return ""
    signs = sorted(
        [c.began.time for c in f.calls.values() if c.began and c.kind in ("append", "install", "other")]
        + [c.sent.time for c in f.calls.values() if c.kind in ("vote", "other")]
    )
    pauses = zip([0.0, *signs], [*signs, f.end], strict=False)
    since, until = max(pauses, key=lambda pause: pause[1] - pause[0], default=(0.0, 0.0))
    if until - since < 2 * TIMEOUT or not any(f.of_kind("vote")):
        return ""
    connected = [s for s, known in f.servers.items() if known.was_connected(since + 0.01, until - 0.01)]
    if len(connected) <= f.n // 2:
        return ""
    return (
        f"servers {_list(connected)} were connected and heard no leader from {since:.3f} s to {until:.3f} s, and none "
        "of them asked for votes: is the election timeout too long? The lab wants a new leader within 5 s"
    )


# --- terms ---------------------------------------------------------------------------------------------------------


def a_newer_term_in_a_request(f: Facts) -> str:
    """It has answered a request of that term, and says an older one afterwards."""
    return _older_afterwards(
        f,
        [(c, c.term, c.sent.to, c.began) for c in f.calls.values() if c.delivered and c.kind in ("vote", "append")],
        lambda c, said: (
            f"server {c.sent.to} answered {c.sent.request.method} of term {c.term} from server {c.sent.server} at "
            f"{_s(c.began)}, and said at {said[0]:.3f} s that its term is {said[1]}: does {f.handler(c.kind)} take "
            "over a newer term?"
        ),
    )


def a_newer_term_in_a_reply(f: Facts) -> str:
    """It was told of that term a second ago or more, and says an older one."""
    told = [(c, c.reply_term, c.sent.server, c.delivered) for c in f.calls.values() if c.delivered]
    return _older_afterwards(
        f,
        [t for t in told if t[0].term is not None and (t[1] or 0) > t[0].term],
        lambda c, said: (
            (
                f"server {c.sent.server} was answered with term {c.reply_term} at {_s(c.delivered)}, and said at "
                f"{said[0]:.3f} s that its term is {said[1]}: is a newer term taken over after {f.call_of(c.kind)}?"
            )
            if c.kind in HANDLERS
            else ""
        ),
        patience=1.0,
    )


_Told = tuple[Call, int | None, int, j.OfServer | None]


def _older_afterwards(
    f: Facts, told: Iterable[_Told], say: Callable[[Call, tuple[float, int]], str], patience: float = LAG
) -> str:
    for call, term, server, event in told:
        if term is None or event is None:
            continue
        for time, incarnation, said, _ in f.servers[server].states:
            over = call.delivered.time if call.delivered else event.time
            if time > over + patience and incarnation == event.incarnation and said < term:
                return say(call, (time, said))
    return ""


# --- logs ----------------------------------------------------------------------------------------------------------


def nothing_applied(f: Facts) -> str:
    """A server took AppendEntries with a LeaderCommit, said yes, lived on, and never put anything on applyCh."""
    told: dict[int, Call] = {}
    for call in f.of_kind("append"):
        if call.yes and f.commit(call) > 0 and call.began and call.sent.to not in told:
            told[call.sent.to] = call
    silent = []
    for server, call in sorted(told.items()):
        assert call.began is not None
        known = f.servers[server]
        if f.end > call.began.time + 1.0 and not any(known.applied.values()) and not known.snapshots:
            silent.append(server)
    if not f.is_full() or not silent:
        return ""
    call = told[silent[0]]
    others = [s for s, known in f.servers.items() if any(known.applied.values())]
    where = f.handler("append")
    if others:
        return (
            f"{_servers(silent)} said yes to AppendEntries with LeaderCommit {f.commit(call)} or more, the first at "
            f"{_s(call.began)}, and put nothing on applyCh by {f.end:.1f} s, as {_servers(others)} did: does {where} "
            "take LeaderCommit over?"
        )
    lines = f.source.reads("applyCh")
    return f"nobody put anything on applyCh, though LeaderCommit was {f.commit(call)} at {_s(call.sent)}" + (
        f"; applyCh is used at {', '.join(map(str, lines[:3]))}" if lines else "; no line reads self.applyCh"
    )


def nothing_committed(f: Facts) -> str:
    """A majority said yes to entries, the leader led on, and its LeaderCommit stayed 0."""
    yes: dict[tuple[int, int | None], dict[int, Call]] = defaultdict(dict)
    for call in f.of_kind("append"):
        entries = f._bound(call.sent.request.args_type, "append").of(call.args, "entries", list)
        if entries and call.yes and call.delivered:
            yes[call.sent.server, call.term].setdefault(call.sent.to, call)
    if any(any(known.applied.values()) for known in f.servers.values()):
        return ""
    for (server, term), calls in yes.items():
        later = [c for c in f.of_kind("append") if (c.sent.server, c.term) == (server, term)]
        times = sorted(c.delivered.time for c in calls.values() if c.delivered)
        if len(times) >= f.n // 2 and f.is_full() and not any(f.commit(c) for c in f.of_kind("append")):
            at = times[f.n // 2 - 1]
            if any(c.sent.time > at + LAG for c in later):
                return (
                    f"{len(times)} followers had said yes to entries of server {server}, leader of term {term}, by "
                    f"{at:.3f} s, and it never sent a LeaderCommit above 0: see what follows {f.call_of('append')}"
                )
    return ""


def applied_out_of_order(f: Facts) -> str:
    """By the indices that the service got, one after another."""
    for server, known in sorted(f.servers.items()):
        for incarnation, applied in known.applied.items():
            if incarnation in known.snapshots:
                continue
            last = 0
            for time, index in applied:
                if index != last + 1 and (last or incarnation == 1):
                    lines = f.source.reads("applyCh")
                    where = f" (applyCh is used at {lines[-1]})" if lines else ""
                    after = f"index {last}" if last else "nothing, where 1 is the first"
                    return f"server {server} put index {index} on applyCh after {after}, at {time:.3f} s{where}"
                last = index
    return ""


# --- what is saved -------------------------------------------------------------------------------------------------


def forgotten_in_a_crash(f: Facts) -> str:
    """Before the crash a server was in a term, as it sent or said, or had applied an entry; afterwards it was in a
    lower term, or asked for votes with a log that ends before that entry.
    """
    if not f.is_full():
        return ""
    for server, known in sorted(f.servers.items()):
        for incarnation, start in enumerate(known.starts[1:], 2):
            lost = _lost_term(f, server, incarnation, start) or _lost_log(f, server, incarnation)
            if not lost:
                continue
            saved = sum(time < start for time in known.saves)
            said = f"server {server} {lost[0]} before it was restarted at {start:.3f} s, and {lost[1]} afterwards"
            lines, make = f.source.reads("ReadRaftState"), f.source.head("Make")
            if not saved:
                return f"{said}; it had saved nothing"
            if not lines:
                where = f" ({make})" if make else ""
                return (
                    f"{said}; no line reads what it had saved, ReadRaftState of the persister that Make{where} is given"
                )
            times = "once" if saved == 1 else f"{saved} times"
            return f"{said}; it had saved {times}, and what was saved is read at {lines[0]}"
    return ""


def _lost_term(f: Facts, server: int, incarnation: int, start: float) -> tuple[str, str] | None:
    terms = _terms_of(f, server)
    before = max((term for time, term, i in terms if i < incarnation and time < start), default=0)
    after = next(((time, term) for time, term, i in terms if i == incarnation), None)
    if after is None or after[1] >= before:
        return None
    return f"was in term {before}", f"in term {after[1]}"


def _lost_log(f: Facts, server: int, incarnation: int) -> tuple[str, str] | None:
    votes = list(f.of_kind("vote"))
    ends = [f._bound(c.sent.request.args_type, "vote").of(c.args, "lastlogindex", int) for c in votes]
    if not ends or ends[0] != 0:
        return None  # it counts otherwise
    known = f.servers[server]
    applied = max((i for k, of in known.applied.items() if k < incarnation for _, i in of), default=0)
    if known.snapshots:
        return None
    for call, end in zip(votes, ends, strict=True):
        if (call.sent.server, call.sent.incarnation) == (server, incarnation) and end is not None:
            if end < applied:
                return f"had applied index {applied}", f"asked for votes with LastLogIndex {end}"
            return None
    return None


def _terms_of(f: Facts, server: int) -> list[tuple[float, int, int]]:
    """Terms in which a server has shown itself: s, term, incarnation."""
    found = [(time, term, i) for time, i, term, _ in f.servers[server].states]
    found += [
        (c.sent.time, c.term, c.sent.incarnation)
        for c in f.calls.values()
        if c.sent.server == server and c.kind in ("vote", "append") and c.term
    ]
    return sorted(found)


def nothing_saved(f: Facts) -> str:
    """A restarted server has had votes or entries, and saved nothing."""
    if not f.is_full() or any(known.saves for known in f.servers.values()):
        return ""
    for server, known in sorted(f.servers.items()):
        if len(known.starts) > 1:
            return f"server {server} was restarted at {known.starts[1]:.3f} s, and no server has ever saved anything"
    return ""


_Causes = tuple[Callable[[Facts], str], ...]

LOCKS: _Causes = (a_call_with_the_lock_held, a_lock_taken_twice)
DEFECTS: _Causes = (a_rule_of_the_paper, *LOCKS, a_wrong_answer, an_undeclared_field, a_reply_used_again)
"""What is wrong wherever it is seen. Where threads wait for each other, nothing else can be expected to work."""

SYMPTOMS: _Causes = (
    nobody_asked_for_votes,
    an_election_in_term_0,
    a_leader_without_votes,
    elected_and_silent,
    a_leader_without_heartbeats,
    rare_heartbeats,
    elections_in_spite_of_heartbeats,
    one_call_after_another,
    nobody_gave_a_vote,
    split_votes,
    heartbeats_to_itself,
    no_election_without_a_leader,
    a_newer_term_in_a_request,
    a_newer_term_in_a_reply,
    nothing_saved,
    forgotten_in_a_crash,
    nothing_applied,
    nothing_committed,
    applied_out_of_order,
)


def _plain(data: bytes) -> dict[str, Any] | None:
    try:
        value = labgob.plain(data)
    except labgob.LabgobError:
        return None
    return value if type(value) is dict else None


def _other_spellings(name: str) -> list[str]:
    return [name[0].lower() + name[1:]]


def _s(e: j.Event | None) -> str:
    return f"{e.time:.3f} s" if e is not None else "an unknown time"


def _list(servers: Sequence[int]) -> str:
    *most, last = map(str, sorted(servers))
    return f"{', '.join(most)} and {last}" if most else last


def _servers(servers: Sequence[int]) -> str:
    return f"server{'s' if len(servers) > 1 else ''} {_list(servers)}"
