"""The rules of the Raft paper (Ongaro and Ousterhout, extended version), judged over the journal of a trial.

    monitor = Monitor(durable=True, virtual=True)
    journal.listen(monitor.see, monitor.kinds)    # or, over a journal that has dropped nothing: judge(journal, monitor)
    monitor.broken                                # what the paper forbids, each rule once, first things first
    monitor.hints                                 # what costs more than it should, or is only likely to be wrong
    monitor.unchecked                             # which rules were not judged, and why

**Soundness.** No right Raft, of whatever style, may break a rule under any schedule; where that and finding more are at
odds, less is found. What it takes:

- A reply is judged once it has been delivered. A handler may run on behind a crash, and grant what never leaves.
- A request is judged when a live instance sends it; an instance is dead from its crash on.
- Requests and replies leave in another order than they were made in, and threads lag behind what they were told.
- Where a solution may mean something else by a name of the paper's, its first messages must show that it does not.

**Names.** labwatch.names finds the paper's fields and methods in the solution's. A field that is not found, or holds
something else, leaves the rules unchecked that need it. A field in RequestVote's args that Figure 2 does not have (a
PreVote flag, say) leaves all rules about RequestVote unchecked; elsewhere fields of one's own are welcome.

**Indices.** The rules about the log hold only for one that counts as the lab does: each command that Start accepted is
sent by its leader at the index and in the term that Start returned. Until the first one was seen nothing is judged, and
from the first one that is elsewhere on nothing any more. LeaderCommit and LastLogIndex must be 0 in the first messages.

**Acknowledgements.** What may count for one does, where a leader must have enough of them: heartbeats, snapshots, and
where a success says something of the solution's own (a match index, in group commit) all that had come to the follower.
Only what surely is one counts where a follower must keep to it: a success for entries, and if its class has fields of
the solution's own, only once a leader has committed something on plain successes.

**Crashes.** Parts 2A and 2B ask for no saving: without `durable`, nothing is judged any more once a server was
restarted.

What a message says ends with its place in the paper. Figures are cited by box and number: "Figure 2, RequestVote, rule
2" is the second rule for its receiver.
"""

from __future__ import annotations

import bisect
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import labgob
from labwatch import journal as j
from labwatch.names import FIGURE, METHODS, SPELT, Fields, kind_of, plainly

__all__ = ["Broken", "Monitor", "judge"]

PATIENCE = 0.3  # s that a leader has to notice what it has been told
ROUND = 0.02  # s between the first and the last Call of a round, at most
NEXT = 0.005  # s after the end of a Call in which the one is sent that waited for it: in a pool, or one after another
MOST_HEARTBEATS = 14  # in a second to a peer; the lab allows about ten


@dataclass(frozen=True)
class Broken:
    """A rule of the paper that was broken. `events` are the numbers in the journal of the two that do not agree."""

    rule: str  # a word or two, such as "two votes"
    message: str
    time: float  # s, of the second event
    events: tuple[int, int]


@dataclass(slots=True, eq=False)
class _Call:
    """One Call of a trial, as far as it has come. Of what is not found in it, None."""

    sent: j.Sent
    live: bool  # whether its sender was when it sent
    kind: str  # a key of FIGURE, or "other"
    term: int | None = None
    began: j.Began | None = None
    # RequestVote: of the candidate's log
    last_index: int | None = None
    last_term: int | None = None
    # AppendEntries
    prev: int | None = None
    count: int | None = None  # of entries
    last_entry_term: int | None = None
    commit: int = 0  # what its receiver may take to be committed
    # InstallSnapshot
    included: int | None = None

    @property
    def last(self) -> int | None:
        """The index up to which the receiver's log is the sender's once it has said yes."""
        return None if self.prev is None or self.count is None else self.prev + self.count


@dataclass(slots=True, eq=False)
class _Leader:
    """What a leader has sent in one term."""

    log: dict[int, tuple[int, Any, int]] = field(default_factory=dict)  # index: term, command, number of the event
    first_of_term: int | None = None  # the lowest index known to be of the leader's own term: acknowledged, it commits
    first_entry: int | None = None  # the same, of entries sent
    first_commit: int | None = None
    acknowledged: dict[int, int] = field(default_factory=dict)  # by peer: whatever may count for one
    stored: dict[int, int] = field(default_factory=dict)  # by peer: what it surely has
    reached: dict[int, int] = field(default_factory=dict)  # by peer: what has come to it
    committed: int = 0  # the highest index of its term that a majority has acknowledged; 0: none
    surely_committed: int = 0


@dataclass(slots=True, eq=False)
class _Told:
    """A newer term that an instance was told of in a reply."""

    term: int
    event: j.Delivered
    round: set[int]  # the Calls that it may wait for before it looks at that reply, as far as they are under way
    earlier: set[int]  # others that were under way then, and are
    known: float  # s, when the last of the round ended
    freed: float = -1.0  # s, when the last of either ended: then one that waited for that may be sent


class Monitor:
    """Judges one trial.

    durable   whether servers must keep what they say through a crash (parts 2C and 2D)
    virtual   whether time is: on a busy machine a thread may lag for longer than PATIENCE
    """

    def __init__(self, *, durable: bool, virtual: bool) -> None:
        self.broken: list[Broken] = []
        self.hints: list[str] = []
        self._durable = durable
        self._virtual = virtual
        self._unchecked: dict[str, None] = {}
        self._unchecked_of_logs: dict[str, None] = {}
        self._over = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            j.Begin: self._begin,
            j.End: self._end,
            j.Start: self._start,
            j.Crash: self._crash,
            j.Sent: self._sent,
            j.Began: self._began,
            j.Delivered: self._delivered,
            j.Lost: self._lost,
            j.Saved: self._saved,
            j.Applied: self._applied,
            j.MadeSnapshot: self._made_snapshot,
            j.Asked: self._asked,
            j.Said: self._said,
            j.Took: self._took,
        }

        # servers
        self._n = 0
        self._live: dict[int, int] = {}  # server: its incarnation, unless it is down
        self._incarnations: dict[int, int] = defaultdict(int)  # server: its last one
        self._calls: dict[int, _Call] = {}  # under way
        self._under_way: dict[tuple[int, int], set[int]] = defaultdict(set)  # by instance
        self._kinds: dict[str, str] = {}  # of methods
        self._bound: dict[tuple[type, str], Fields] = {}
        self._highest = 0  # of all terms heard of

        # elections
        self._leads: dict[int, tuple[int, j.Event]] = {}  # term: who has sent as its leader
        self._claims: dict[int, tuple[int, j.Event]] = {}  # term: who has said that it leads
        self._votes: dict[tuple[int, int], tuple[int, j.Event]] = {}  # voter and term: candidate
        self._candidacies: dict[tuple[int, int], j.Event] = {}  # candidate and term: when it had asked all others
        self._asked_by: dict[tuple[int, int], set[int]] = defaultdict(set)  # candidate and term: whom it asked
        self._asks_itself = False
        self._vote_reached: dict[tuple[int, int, int], j.Event] = {}  # voter, candidate and term: its first RPC there
        self._spoke: dict[tuple[int, int], j.Event] = {}  # voter and candidate: its first RPC of an unknown term

        # terms
        self._terms_are_told = False  # whether Term in a reply is known to be the server's
        self._pending_of_terms: list[tuple[str, str, j.Event, j.Event]] = []  # what is broken if it is
        self._terms: dict[int, list[tuple[int, int, j.Event]]] = defaultdict(list)  # server: (event, term), both rising
        self._told: dict[tuple[int, int], list[_Told]] = defaultdict(list)  # by instance, the terms rising
        self._asking: dict[tuple[int, int], list[float]] = defaultdict(list)  # by instance: when GetState was called

        # logs
        self._counts: bool | None = None  # whether indices are the lab's; None: not seen yet
        self._starts: dict[tuple[int, int], dict[int, Any]] = defaultdict(dict)  # term and leader: what Start accepted
        self._leaders: dict[tuple[int, int], _Leader] = defaultdict(_Leader)  # term and server
        self._terms_of: dict[int, list[int]] = defaultdict(list)  # server: the terms that it led
        self._commands: dict[tuple[int, int], tuple[Any, int, int, float]] = {}  # index and term: command, who, when
        self._applied_first: dict[int, tuple[Any, int, j.Applied]] = {}  # index: command, highest term then
        self._commit_counts: bool | None = None  # whether LeaderCommit does
        self._vote_counts: bool | None = None  # whether LastLogIndex does
        self._highest_index = 0
        self._known: dict[tuple[int, int], int] = defaultdict(int)  # by instance: what it may know to be committed
        self._other_methods = False
        self._trusted: bool | None = None  # whether a plain success is an acknowledgement; None: not seen yet
        self._successes: dict[
            str, bool
        ] = {}  # the classes of replies that said so: whether they have fields of one's own
        self._pending: list[Callable[[], None]] = []  # what is broken if it is
        self._stored_in: dict[int, dict[int, int]] = defaultdict(dict)  # server: term, and what it surely had then
        self._surely_committed: dict[int, int] = {}  # term: the highest index committed in it, an entry of that term

        # stable storage
        self._last_save: dict[int, int] = {}
        self._received: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        # server: by term of the RPC, (event, highest index that had come), both rising
        self._snapshot_of: dict[int, int] = defaultdict(int)  # server: what its snapshots may cover
        self._snapshots: set[int] = set()  # indices of which services made one

        # cost
        self._heartbeats: dict[tuple[int, int], list[float]] = defaultdict(list)

    @property
    def leader(self) -> int | None:
        """Who has sent as the leader of the newest term. None: nobody yet, or not under the paper's names."""
        return self._leads[max(self._leads)][0] if self._leads else None

    def state(self) -> int:
        """A number for the state that the cluster shows: equal for those that look alike, in any process.

        Which servers are up; relative to the newest term, the terms in which each has led, and told that it is in;
        how far each log that a leader knows of lies behind the longest, and what each knows to be committed.
        """
        highest = self._highest
        servers = []
        for i in range(self._n):
            led, told = self._terms_of.get(i), self._terms.get(i)
            term = led[-1] if led else 0
            leader = self._leaders.get((term, i))
            acknowledged = sorted(leader.acknowledged.values()) if leader else []
            known = self._known.get((i, self._live.get(i, 0)), 0)
            servers.append(
                (
                    i in self._live,
                    min(highest - term, 3),
                    min(highest - told[-1][1], 3) if told else -1,
                    [min(self._highest_index - index, 5) for index in acknowledged],
                    min(self._highest_index - known, 5),
                )
            )
        return zlib.crc32(repr(sorted(servers)).encode())

    @property
    def unchecked(self) -> list[str]:
        """Which rules were not judged, and why, in sentences; those about logs if there was anything in one."""
        if not self._starts:
            return list(self._unchecked)
        unseen = (
            {"not checked: logs, as no entry was sent where Start had put it": None} if self._counts is None else {}
        )
        return list(self._unchecked | self._unchecked_of_logs | unseen)

    @property
    def kinds(self) -> tuple[type[j.Event], ...]:
        """Which events it has to see."""
        return tuple(self._handlers)

    def see(self, event: j.Event) -> None:
        """The next event. They must be all of a trial that are of these kinds, in their order."""
        if self._over:
            return
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    # --- what is found ---

    def _break(self, rule: str, message: str, first: j.Event | int, second: j.Event) -> None:
        if all(known.rule != rule for known in self.broken):
            number = first if isinstance(first, int) else first.number
            self.broken.append(Broken(rule, message, second.time, (number, second.number)))

    def _break_of_logs(self, rule: str, message: str, first: j.Event | int, second: j.Event) -> None:
        if self._counts:
            self._break(rule, message, first, second)

    def _hint(self, kind: str, text: str) -> None:
        if not any(hint.startswith(kind) for hint in self.hints):
            self.hints.append(kind + text)

    def _leave(self, what: str) -> None:
        self._unchecked[f"not checked: {what}"] = None

    def _leave_logs(self, what: str) -> None:
        self._unchecked_of_logs[f"not checked: {what}"] = None

    # --- servers ---

    def _begin(self, e: j.Begin) -> None:
        self._n = e.servers

    def _end(self, e: j.End) -> None:
        self._over = True

    def _start(self, e: j.Start) -> None:
        if e.incarnation > 1 and not self._durable:
            self._leave("what happened after a server was restarted, as these parts of the lab ask for no saving")
            self._over = True
        self._live[e.server] = self._incarnations[e.server] = e.incarnation

    def _crash(self, e: j.Crash) -> None:
        self._live.pop(e.server, None)

    def _is_live(self, e: j.OfServer) -> bool:
        return self._live.get(e.server) == e.incarnation

    # --- the way of a Call ---

    def _fields(self, cls: type, kind: str) -> Fields:
        found = self._bound.get((cls, kind))
        if found is None:
            found = self._bound[cls, kind] = Fields(cls, kind)
            self._name_what_is_missing(found, kind)
        return found

    def _name_what_is_missing(self, found: Fields, kind: str) -> None:
        optional = ("leaderid", "offset", "data", "done", "lastincludedterm")
        for name in FIGURE[kind] if kind != "other" else ():
            if not found.has(name) and name not in optional:
                leave = self._leave if name in ("term", "candidateid", "votegranted") else self._leave_logs
                leave(f"no field like {SPELT.get(name, name.capitalize())} in {found.name}")
        if found.has("entries") and (
            found.entry is None or not (found.entry.has("term") and found.entry.has("command"))
        ):
            found.entry = None
            self._leave_logs(f"what is in logs, as {found.name} says of no class with Term and Command in its entries")
        if kind == "vote" and found.own:
            self._leave(f"votes, as {found.name} has {found.own[0][0]}, which Figure 2 has not")

    def _sent(self, e: j.Sent) -> None:
        request = e.request
        kind = self._kinds.get(request.method)
        if kind is None:
            kind = self._kinds[request.method] = kind_of(request.method)
        call = self._calls[e.call] = _Call(e, self._is_live(e), kind)
        instance = e.server, e.incarnation
        self._under_way[instance].add(e.call)
        if told := self._told.get(instance):
            self._see_what_may_be_of_the_round(told, e)
        try:
            args = labgob.plain(request.args)
        except labgob.LabgobError:
            call.kind = "other"
            return
        fields = self._fields(request.args_type, kind)
        term = fields.of(args, "term", int)
        if term is not None and term > 0:  # nobody asks in term 0; what is below may mean anything
            call.term = term
            if term > self._highest:
                self._highest = term
            if told and told[0].term <= term:  # it has acted on that
                told[:] = [later for later in told if later.term > term]
        if fields.own:
            call.commit = fields.commit(args, self._known_by(e.server))
        if kind == "other":
            self._see_other_method(request.method)
        elif kind == "vote":
            if fields.own or fields.of(args, "candidateid", int) != e.server:
                if not fields.own:
                    self._leave(f"votes, as CandidateId in {fields.name} is not the candidate's place among the peers")
                call.kind = "unknown vote"
                return
            call.last_index = fields.of(args, "lastlogindex", int)
            call.last_term = fields.of(args, "lastlogterm", int)
            if call.live:
                self._see_candidate(call)
        else:
            if call.term is not None and call.live:
                self._one_leader_a_term(call)
            if kind == "install":
                call.included = fields.of(args, "lastincludedindex", int)
                if call.live:
                    self._see_snapshot_sent(call)
            elif call.live:
                self._see_entries(call, fields, args)

    def _see_other_method(self, method: str) -> None:
        if not self._other_methods and "prevote" not in plainly(method):
            self._other_methods = True
            self._leave_logs(f"commitment and what was saved, as servers also call {method[:60]}")

    def _began(self, e: j.Began) -> None:
        call = self._calls.get(e.call)
        if call is None:
            return
        call.began = e
        sent = call.sent
        if call.commit:
            self._may_know(e.server, e.incarnation, call.commit)
        if call.kind in ("vote", "other", "unknown vote"):
            if call.term is None:
                self._spoke.setdefault((e.server, sent.server), e)
            else:
                self._vote_reached.setdefault((e.server, sent.server, call.term), e)
                if call.kind != "vote":  # a PreVote says the term that it would ask for, or the one before
                    self._vote_reached.setdefault((e.server, sent.server, call.term + 1), e)
        elif call.kind == "append" and call.last is not None and call.term is not None:
            leader = self._leaders[call.term, sent.server]
            leader.reached[e.server] = max(leader.reached.get(e.server, 0), call.last)
            if call.count:
                received = self._received[e.server][call.term]
                if not received or received[-1][1] < call.last:
                    received.append((e.number, call.last))
        elif call.kind == "install" and call.included is not None:
            self._may_know(e.server, e.incarnation, call.included)
            self._snapshot_of[e.server] = max(self._snapshot_of[e.server], call.included)

    def _lost(self, e: j.Lost) -> None:
        self._calls.pop(e.call, None)
        self._ended(e)

    def _see_what_may_be_of_the_round(self, known: list[_Told], e: j.Sent) -> None:
        for told in known:
            if e.time <= told.event.time + ROUND or e.time <= told.freed + NEXT:
                told.round.add(e.call)

    def _ended(self, e: j.OfCall) -> None:
        instance = e.server, e.incarnation
        self._under_way[instance].discard(e.call)
        for told in self._told.get(instance, ()):
            if e.call in told.round:
                told.round.discard(e.call)
                told.known = told.freed = e.time
            elif e.call in told.earlier:
                told.earlier.discard(e.call)
                told.freed = e.time

    def _delivered(self, e: j.Delivered) -> None:
        call = self._calls.pop(e.call, None)
        self._ended(e)
        if call is None or call.began is None:
            return
        try:
            reply = labgob.plain(e.reply)
        except labgob.LabgobError:
            return
        papers = call.kind in METHODS.values()
        fields = self._fields(call.sent.request.reply_type, f"{call.kind} reply" if papers else "other")
        if fields.own:
            self._may_know(e.server, e.incarnation, fields.commit(reply, self._known_by(call.sent.to)))
        if not papers:
            return
        term = fields.of(reply, "term", int) or 0
        if term > 0:
            self._term_of_a_reply(call, e, term)
            self._hear_newer_term(call, e, term)
        if call.term is None or term > call.term:
            return  # a refusal, whatever it says besides. (Some fill the term in before they follow a newer one.)
        if call.kind == "vote":
            if fields.of(reply, "votegranted", bool):
                self._see_vote(call, e)
        elif call.kind == "install":
            if call.included is not None and call.included in self._snapshots:
                self._acknowledge(call, e, call.included)
        elif fields.of(reply, "success", bool):
            self._see_success(call, e, fields, fields.says_more(reply))

    # --- elections (5.2) ---

    def _one_leader_a_term(self, call: _Call) -> None:
        """5.2, Figure 3, Election Safety: "at most one leader can be elected in a given term"."""
        e, term = call.sent, call.term
        assert term is not None
        server, first = self._leads.setdefault(term, (e.server, e))
        if first is e:
            self._terms_of[e.server].append(term)
        elif server != e.server:
            self._break(
                "two leaders",
                f"servers {server} and {e.server} both sent as leader of term {term}, at {_s(first)} and {_s(e)} "
                "(section 5.2, Figure 3, Election Safety)",
                first,
                e,
            )

    def _one_claim_a_term(self, e: j.Said) -> None:
        """5.2, Figure 3, Election Safety: "at most one leader can be elected in a given term", as GetState tells."""
        assert e.term is not None
        server, first = self._claims.setdefault(e.term, (e.server, e))
        if server != e.server:
            self._break(
                "two leaders in GetState",
                f"servers {server} and {e.server} both said that they lead term {e.term}, at {_s(first)} and {_s(e)} "
                "(section 5.2, Figure 3, Election Safety)",
                first,
                e,
            )

    def _see_candidate(self, call: _Call) -> None:
        e, term = call.sent, call.term
        if term is None:
            return
        if self._vote_counts is None and call.last_index is not None:
            self._vote_counts = call.last_index == 0
            if not self._vote_counts:
                self._leave_logs(f"logs of candidates, as LastLogIndex is {call.last_index} where there is no entry")
        if e.to == e.server:
            self._asks_itself = True
        asked = self._asked_by[e.server, term]
        asked.add(e.to)
        if len(asked) >= self._n - 1 and e.server not in asked and (e.server, term) not in self._candidacies:
            self._candidacies[e.server, term] = e
            vote = self._votes.get((e.server, term))
            if vote is not None and self._virtual and e.time >= vote[1].time + PATIENCE:
                self._one_vote_a_candidate(e.server, term, vote[0], vote[1], e)

    def _see_vote(self, call: _Call, e: j.Delivered) -> None:
        voter, candidate, term = call.sent.to, call.sent.server, call.term
        assert term is not None
        self._one_vote_a_term(voter, candidate, term, e)
        candidacy = self._candidacies.get((voter, term))
        assert call.began is not None
        if candidacy is not None and candidacy.number < call.began.number:
            self._one_vote_a_candidate(voter, term, candidate, candidacy, e)
        self._vote_for_a_complete_log(call, e)
        if self._durable and voter != candidate:
            self._vote_is_saved(voter, candidate, term, e)

    def _one_vote_a_term(self, voter: int, candidate: int, term: int, e: j.Delivered) -> None:
        """5.2: "Each server will vote for at most one candidate in a given term"; Figure 2, RequestVote, rule 2."""
        other, first = self._votes.setdefault((voter, term), (candidate, e))
        if other != candidate:
            self._break(
                "two votes",
                f"server {voter} voted for {other} at {_s(first)} and for {candidate} at {_s(e)}, both in term {term} "
                "(Figure 2, RequestVote, rule 2)",
                first,
                e,
            )

    def _one_vote_a_candidate(self, voter: int, term: int, candidate: int, first: j.Event, second: j.Event) -> None:
        """Figure 2, Candidates: "Vote for self"; and 5.2: "at most one candidate in a given term".

        There are Rafts in which a candidate asks itself, by RPC or not, and may have voted otherwise by then. So it
        must have asked all others before the vote, or long after it; and an election in an earlier term must have shown
        that nobody here asks itself by RPC.
        """
        earlier = any(known < term for _, known in self._candidacies)
        if candidate != voter and not self._asks_itself and earlier:
            self._break(
                "two votes",
                f"server {voter} was a candidate and voted for {candidate}, both in term {term}, "
                f"at {_s(first)} and {_s(second)} (Figure 2, Candidates: vote for self; RequestVote, rule 2)",
                first,
                second,
            )

    # --- terms (5.1) ---

    def _term_of_a_reply(self, call: _Call, e: j.Delivered, term: int) -> None:
        """5.1: the current term "increases monotonically over time"; Figure 2, State: currentTerm likewise.

        A handler that began after a reply of its server was delivered knows the term in that reply. That Term is the
        server's, and no echo of the one in the request, must have been seen in an answer to an old request.
        """
        assert call.began is not None
        if not self._terms_are_told and call.term is not None and term > call.term:
            self._terms_are_told = True
            for found in self._pending_of_terms:
                self._break(*found)
        if term > self._highest:
            self._highest = term
        server = call.sent.to
        known = self._terms[server]
        place = bisect.bisect_left(known, call.began.number, key=lambda told: told[0]) - 1
        if place >= 0 and known[place][1] > term:
            before = known[place][2]
            self._break_of_terms(
                "older term",
                f"server {server} answered with term {known[place][1]} at {_s(before)}, and with term {term} to a "
                f"{call.sent.request.method} that came later, at {_s(call.began)} "
                "(Figure 2, State: currentTerm increases monotonically)",
                before,
                e,
            )
        if not known or known[-1][1] < term:
            known.append((e.number, term, e))

    def _break_of_terms(self, rule: str, message: str, first: j.Event, second: j.Event) -> None:
        if self._terms_are_told:
            self._break(rule, message, first, second)
        else:
            self._pending_of_terms.append((rule, message, first, second))

    def _hear_newer_term(self, call: _Call, e: j.Delivered, term: int) -> None:
        instance = e.server, e.incarnation
        told = self._told[instance]
        if (call.term is not None and term > call.term) and (not told or told[-1].term < term):
            begun = call.sent.time - ROUND
            under_way = self._under_way[instance]
            together = {c for c in under_way if self._calls[c].sent.time >= begun}
            told.append(_Told(term, e, together, under_way - together, e.time))

    def _asked(self, e: j.Asked) -> None:
        self._asking[e.server, e.incarnation].append(e.time)

    def _said(self, e: j.Said) -> None:
        # Of several threads that ask, nobody can tell whose answer this is: take it for the one who asked first.
        asking = self._asking[e.server, e.incarnation]
        asked = asking[0] if asking else e.time
        if asking:
            asking.pop()
        if e.term is None or not self._is_live(e):
            return
        self._highest = max(self._highest, e.term)
        if e.leads:
            self._one_claim_a_term(e)
            self._no_leader_of_an_old_term(e, asked)

    def _no_leader_of_an_old_term(self, e: j.Said, asked: float) -> None:
        """5.1: if a "leader discovers that its term is out of date, it immediately reverts to follower state".

        Immediately: PATIENCE after the reply that told it, and after all Calls of the same round, for which a Raft may
        wait before it looks at any reply. Those are Calls that it sent together with that one, or soon after that one's
        reply; and as a round may be made one Call after another, or by a pool that is busy with earlier ones, any that
        it sent as one of these ended.
        """
        assert e.term is not None
        for told in self._told.get((e.server, e.incarnation), ()):
            if told.term > e.term and not told.round and asked >= told.known + PATIENCE:
                message = (
                    f"server {e.server} said at {_s(e)} that it leads term {e.term}, and had been answered with term "
                    f"{told.term} at {_s(told.event)} (Figure 2, All Servers, rule 2)"
                )
                if self._virtual:
                    self._break("leads an old term", message, told.event, e)
                else:
                    self._hint(f"server {e.server} may lead an old term: ", message)
                return

    # --- logs (5.3) ---

    def _see_entries(self, call: _Call, fields: Fields, args: dict[str, Any]) -> None:
        term, e = call.term, call.sent
        call.prev = prev = fields.of(args, "prevlogindex", int)
        entries = fields.of(args, "entries", list)
        if entries is None and fields.has("entries"):
            entries = [] if fields.place("entries")[0] not in args else None
        call.count = None if entries is None else len(entries)
        if term is None or prev is None or entries is None:
            return
        leader = self._leaders[term, e.server]
        first = leader.first_of_term
        if (first is None or prev < first) and fields.of(args, "prevlogterm", int) == term:
            leader.first_of_term = prev
        if not entries:
            self._see_heartbeat(e)
        elif fields.entry is not None:
            self._see_log(call, leader, prev, entries, fields.entry, e)
        commit = fields.of(args, "leadercommit", int)
        if commit is not None:
            if commit > call.commit:
                call.commit = commit
            self._commit_within_majority(call, leader, commit)

    def _see_log(self, call: _Call, leader: _Leader, prev: int, entries: list[Any], names: Fields, e: j.Sent) -> None:
        term_name, term_default = names.place("term")
        command_name, command_default = names.place("command")
        log, term = leader.log, call.term
        assert term is not None
        index = prev
        entry_term: Any = None
        for entry in entries:
            index += 1
            if type(entry) is not dict:
                return
            entry_term = entry.get(term_name, term_default)
            command = entry.get(command_name, command_default)
            known = log.get(index)
            if known is None:
                if type(entry_term) is not int:
                    return
                log[index] = entry_term, command, e.number
                self._see_entry(leader, term, index, entry_term, command, e)
            elif known[0] != entry_term:
                self._leader_append_only(index, known, entry_term, term, e)
            elif known[1] != command:
                self._one_command(index, entry_term, known[1], command, known[2], e.server, e)
        call.last_entry_term = entry_term
        if index > self._highest_index:
            self._highest_index = index

    def _see_entry(self, leader: _Leader, term: int, index: int, entry_term: int, command: Any, e: j.Sent) -> None:
        """An entry that this leader sends for the first time."""
        if entry_term == term:
            leader.first_of_term = min(index, leader.first_of_term or index)
            leader.first_entry = min(index, leader.first_entry or index)
        started = self._starts.get((term, e.server))
        if started is not None and index in started:
            self._compare_with_start(started[index], term, entry_term, command)
        known = self._commands.setdefault((index, entry_term), (command, e.server, e.number, e.time))
        if known[0] != command:
            self._one_command(index, entry_term, known[0], command, known[2], e.server, e)
        self._leader_is_complete(term, index, entry_term, command, e)

    def _took(self, e: j.Took) -> None:
        if not e.leads or e.index is None or e.term is None or not self._is_live(e):
            return
        self._starts[e.term, e.server][e.index] = e.command
        self._highest_index = max(self._highest_index, e.index)
        self._highest = max(self._highest, e.term)
        leader = self._leaders.get((e.term, e.server))
        if leader is not None and e.index in leader.log:
            entry_term, command, _ = leader.log[e.index]
            self._compare_with_start(e.command, e.term, entry_term, command)

    def _compare_with_start(self, started: Any, term: int, entry_term: int, command: Any) -> None:
        if isinstance(started, j.Unread) or self._counts is False:
            return
        self._counts = _same(started, command) and entry_term == term
        if not self._counts:
            self._leave_logs("logs, as leaders do not send what Start accepted at the index and term that it returned")

    def _leader_append_only(
        self, index: int, known: tuple[int, Any, int], entry_term: Any, term: int, e: j.Sent
    ) -> None:
        """5.3, Figure 3, Leader Append-Only: a leader "never overwrites or deletes entries in its log"."""
        self._break_of_logs(
            "overwrites its log",
            f"server {e.server}, leader of term {term}, sent entry {index} with term {known[0]}, and at {_s(e)} with "
            f"term {entry_term} (section 5.3, Figure 3, Leader Append-Only)",
            known[2],
            e,
        )

    def _one_command(self, index: int, term: int, known: Any, command: Any, first: int, server: int, e: j.Sent) -> None:
        """5.3: "If two entries in different logs have the same index and term, then they store the same command"."""
        if _same(known, command) or (known != known and command != command):  # not a number
            return
        self._break_of_logs(
            "two commands",
            f"entry {index} of term {term} had the command {_short(known)}, and from server {server} at {_s(e)} "
            f"the command {_short(command)} (section 5.3, Figure 3, Log Matching)",
            first,
            e,
        )

    # --- safety (5.4) ---

    def _applied(self, e: j.Applied) -> None:
        if self._is_live(e) and type(e.index) is int:
            self._applied_first.setdefault(e.index, (e.command, self._highest, e))
            led = self._terms_of[e.server]
            if not led or not self._leaders[led[-1], e.server].acknowledged:
                # It may have kept its commitIndex through a crash, and applies what that covers as soon as it is back.
                self._may_know(e.server, e.incarnation, e.index)

    def _leader_is_complete(self, term: int, index: int, entry_term: int, command: Any, e: j.Sent) -> None:
        """5.4, Figure 3, Leader Completeness: a committed entry is "in the logs of the leaders for all higher-numbered
        terms".

        What a server applies is committed, in a term that somebody has heard of by then.
        """
        applied = self._applied_first.get(index)
        if applied is None:
            return
        known, highest, first = applied
        if term > highest and not isinstance(known, j.Unread) and not _same(known, command):
            self._break_of_logs(
                "leader lacks a committed entry",
                f"server {first.server} applied {_short(known)} at index {index} at {_s(first)}, and server "
                f"{e.server}, leader of the later term {term}, sent {_short(command)} there at {_s(e)} "
                "(section 5.4, Figure 3, Leader Completeness)",
                first,
                e,
            )

    def _vote_for_a_complete_log(self, call: _Call, e: j.Delivered) -> None:
        """5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate".

        A voter has an entry for good that it acknowledged in the term in which that was committed, or later.
        """
        voter, term = call.sent.to, call.term
        if not self._vote_counts or call.last_index is None or call.last_term is None:
            return
        assert term is not None
        for committed_in, index in self._surely_committed.items():
            if committed_in < term and (call.last_term, call.last_index) < (committed_in, index):
                for acknowledged_in, last in self._stored_in[voter].items():
                    if committed_in <= acknowledged_in < term and last >= index:
                        self._break_a_promise(
                            "vote for an older log",
                            f"server {voter} voted for {call.sent.server} in term {term} at {_s(e)}, whose log ends "
                            f"with entry {call.last_index} of term {call.last_term}; it had acknowledged the committed "
                            f"entry {index} of term {committed_in} (section 5.4.1; Figure 2, RequestVote, rule 2)",
                            call.sent,
                            e,
                        )
                        return

    def _see_success(self, call: _Call, e: j.Delivered, fields: Fields, says_more: bool) -> None:
        last, term, peer = call.last, call.term, call.sent.to
        if last is None or term is None:
            return
        leader = self._leaders[term, call.sent.server]
        self._successes[fields.name] = bool(fields.own)
        own = any(self._successes.values())
        if self._trusted is None and not own:
            self._trust()
        if self._trusted is not False and own and (says_more or len(self._successes) > 1):
            self._distrust()
        self._acknowledge(call, e, max(last, leader.reached.get(peer, 0)) if says_more else last)
        if not call.count or self._trusted is False or self._other_methods:
            return  # that of a heartbeat may be said without a look at the log
        leader.stored[peer] = max(leader.stored.get(peer, 0), last)
        stored = self._stored_in[peer]
        stored[term] = max(stored.get(term, 0), last)
        majority = _majority(leader.stored, self._n, call.sent.server)
        if leader.first_entry is not None and majority >= leader.first_entry:
            self._surely_committed[term] = max(self._surely_committed.get(term, 0), majority)
        if self._durable:
            self._entries_are_saved(call, e, last)

    def _distrust(self) -> None:
        """A success says something of the solution's own, which may be how much of it counts; or has two classes."""
        self._trusted = False
        self._pending.clear()
        self._surely_committed.clear()
        self._stored_in.clear()
        self._leave_logs("votes for older logs and saving of entries, as successes say something of their own")

    def _trust(self) -> None:
        self._trusted = True
        for found in self._pending:
            found()
        self._pending.clear()

    def _break_a_promise(self, rule: str, message: str, first: j.Event | int, second: j.Event) -> None:
        """What is broken if plain successes are acknowledgements."""
        if self._trusted:
            self._break_of_logs(rule, message, first, second)
        elif self._trusted is None:
            self._pending.append(lambda: self._break_of_logs(rule, message, first, second))

    def _acknowledge(self, call: _Call, e: j.Delivered, index: int) -> None:
        assert call.term is not None
        leader = self._leaders[call.term, call.sent.server]
        if index <= leader.acknowledged.get(call.sent.to, 0):
            return
        leader.acknowledged[call.sent.to] = index
        majority = _majority(leader.acknowledged, self._n, call.sent.server)
        if leader.first_of_term is not None and majority >= leader.first_of_term:
            leader.committed = max(leader.committed, majority)
            self._may_know(e.server, e.incarnation, majority)

    def _may_know(self, server: int, incarnation: int, index: int) -> None:
        """An instance may take this index to be committed from now on."""
        if index > self._known[server, incarnation]:
            self._known[server, incarnation] = index

    def _commit_within_majority(self, call: _Call, leader: _Leader, commit: int) -> None:
        """5.4.2: "only log entries from the leader's current term are committed by counting replicas"; Figure 2,
        Leaders, rule 4.

        A leader also knows what was committed by others, or by itself in an earlier term: from a LeaderCommit that has
        reached it, a snapshot, fields of the solution's own, and if it keeps its commitIndex through crashes, from
        before. In its first message it may say so; one that sends min(commitIndex, matchIndex) says so later.
        """
        if self._commit_counts is None:
            self._commit_counts = commit == 0
            if not self._commit_counts:
                self._leave_logs(f"commitment, as LeaderCommit is {commit} where nothing is committed")
        if not self._commit_counts or self._other_methods:
            return
        if commit > self._highest_index:
            self._commit_counts = False
            self._leave_logs("commitment, as LeaderCommit goes beyond every log")
            return
        if leader.first_commit is None:
            leader.first_commit = commit
        elif commit > leader.first_commit and commit > leader.committed and commit > self._known_to(call.sent):
            entry = leader.log.get(commit)
            of = f"an entry of term {entry[0]}, " if entry else ""
            acknowledged = {
                peer: leader.acknowledged.get(peer, 0) for peer in range(self._n) if peer != call.sent.server
            }
            self._break_of_logs(
                "commits too early",
                f"server {call.sent.server}, leader of term {call.term}, sent LeaderCommit {commit} at "
                f"{_s(call.sent)}, {of}when its followers had acknowledged {acknowledged} "
                "(section 5.4.2; Figure 2, Leaders, rule 4)",
                entry[2] if entry else call.sent,
                call.sent,
            )
        self._may_know(call.sent.server, call.sent.incarnation, commit)
        if self._trusted is None and leader.first_entry is not None and commit >= leader.first_entry:
            self._trust()  # it counted what it was told by then, and no success had said anything of its own

    def _known_to(self, e: j.Sent) -> int:
        """Up to which index a leader may know that its log is committed, but for its own counting in this term."""
        if self._virtual:
            return max(self._snapshot_of[e.server], self._known[e.server, e.incarnation])
        return self._known_by(e.server)  # the applier of one that kept its commitIndex may lag

    def _known_by(self, server: int) -> int:
        """The same for all incarnations of a server."""
        incarnations = range(1, self._incarnations[server] + 1)
        return max([self._snapshot_of[server], *(self._known.get((server, i), 0) for i in incarnations)])

    # --- stable storage (Figure 2: "updated on stable storage before responding to RPCs") ---

    def _saved(self, e: j.Saved) -> None:
        # Of a dead instance too: the copy that its successor gets may be made a moment after its crash.
        self._last_save[e.server] = e.number

    def _made_snapshot(self, e: j.MadeSnapshot) -> None:
        self._snapshots.add(e.index)
        self._snapshot_of[e.server] = max(self._snapshot_of[e.server], e.index)

    def _vote_is_saved(self, voter: int, candidate: int, term: int, e: j.Delivered) -> None:
        """Figure 2, State: votedFor is "updated on stable storage before responding to RPCs"."""
        known = self._spoke.get((voter, candidate)), self._vote_reached.get((voter, candidate, term))
        first = min(filter(None, known), key=lambda event: event.number, default=None)
        if first is not None and self._last_save.get(voter, 0) < first.number:
            self._break(
                "vote not saved",
                f"server {voter} voted for {candidate} in term {term} at {_s(e)}, and has saved nothing since that "
                f"candidate first asked it, at {_s(first)} (Figure 2, State: updated before responding to RPCs)",
                first,
                e,
            )

    def _entries_are_saved(self, call: _Call, e: j.Delivered, index: int) -> None:
        """Figure 2, State: log[] is "updated on stable storage before responding to RPCs".

        Unless it was saved before it came: by the server as the leader that sent it, or with a snapshot.
        """
        server, entry_term = call.sent.to, call.last_entry_term
        assert call.began is not None
        save = self._last_save.get(server, 0)
        if entry_term is None or save > call.began.number or self._snapshot_of[server] >= index:
            return
        came = [
            number
            for term, received in self._received[server].items()
            if term >= entry_term
            for number, last in received
            if last >= index
        ]
        if not came or save > min(came) or server == call.sent.server:
            return
        led = self._terms_of[server]
        if entry_term in led or (entry_term, server) in self._starts:
            return
        if any((known := self._leaders[term, server].log.get(index)) and known[0] == entry_term for term in led):
            return
        self._break_a_promise(
            "entry not saved",
            f"server {server} acknowledged entry {index} of term {entry_term} at {_s(e)}, and has saved nothing since "
            f"it came, at {_s(call.began)} (Figure 2, State: updated before responding to RPCs)",
            min(came),
            e,
        )

    # --- cost: hints only ---

    def _see_heartbeat(self, e: j.Sent) -> None:
        times = self._heartbeats[e.server, e.to]
        times.append(e.time)
        while times[0] < e.time - 1.0:
            del times[0]
        if len(times) > MOST_HEARTBEATS:
            self._hint(
                "many heartbeats: ",
                f"server {e.server} sent {len(times)} to server {e.to} in the second before {_s(e)}; the lab allows "
                "about ten",
            )

    def _see_snapshot_sent(self, call: _Call) -> None:
        e = call.sent
        if call.term is None or call.included is None:
            return
        leader = self._leaders[call.term, e.server]
        if leader.acknowledged.get(e.to, 0) >= call.included > 0:
            self._hint(
                "needless snapshot: ",
                f"server {e.server} sent server {e.to} one up to index {call.included} at {_s(e)}, which that had "
                f"acknowledged up to {leader.acknowledged[e.to]}",
            )


def judge(journal: j.Journal, monitor: Monitor) -> None:
    """Judge a trial that is over. Raises ValueError for a journal that has dropped events: nothing follows from it."""
    if journal.dropped:
        raise ValueError(f"{journal.dropped} events of the trial are gone, and the rules need all of them")
    for event in journal.events:
        monitor.see(event)


def _majority(acknowledged: dict[int, int], n: int, leader: int) -> int:
    """The highest index that the leader and enough others to make a majority of n have; 0 if there is none."""
    others = sorted((index for peer, index in acknowledged.items() if peer != leader), reverse=True)
    needed = n // 2
    if needed == 0:
        return 0  # there is nobody to send anything to
    return others[needed - 1] if len(others) >= needed else 0


def _same(one: Any, other: Any) -> bool:
    return bool(one == other)


def _s(e: j.Event) -> str:
    return f"{e.time:.3f} s"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
