"""The shipped Raft, rule by rule: each test says which place of the paper asks for what it checks.

"The paper" is Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", extended version. A rule of
its Figure 2 or 13 is cited by box and number: "Figure 2, AppendEntries RPC, 1" is the first rule for its receiver. What
only the lab asks for cites raft.api, and what is this Raft's own way cites the docstring of raft.raft.

One real server, number 0, stands in a world (labsim) among peers that answer what the test lets them answer. A test
steps into that world with the methods of `Server`. Between two of them the world stands still, with the server's lock
free, and the test may look at all its fields. Entry 3 of a log that `hold` has made has the command "c3".
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labsim import World

REPOSITORY = Path(__file__).parents[3]
LAB = [REPOSITORY / package for package in ("labgob", "labrpc", "raft")]

Entry = tuple[int, str]  # (term, command)
Answer = Callable[[Any], dict[str, Any] | None]  # from an RPC's arguments to the reply's fields; None: no reply comes

SOON = 0.01  # s, in which whatever happens at once has happened; far below a heartbeat


def silent(args: Any) -> None:
    """A peer that is dead or out of reach."""


def granting(args: Any) -> dict[str, Any]:
    return {"VoteGranted": True}


def accepting(args: Any) -> dict[str, Any]:
    return {"Success": True}


def installing(args: Any) -> dict[str, Any]:
    return {}


def refusing(**fields: Any) -> Answer:
    """A peer that says no, and what else a test gives."""
    return lambda args: fields


def newer(term: int) -> Answer:
    """A peer that knows of a newer term."""
    return lambda args: {"Term": term}


@dataclass
class Sent:
    """An RPC that the server has sent."""

    at: float  # s of virtual time
    to: int
    args: Any
    disk: Any  # a copy of what the server had saved by then


class Wire:
    """The server's end to one peer. A reply has the term of the question, unless the script says another one."""

    def __init__(self, server: Server, peer: int) -> None:
        self.server = server
        self.peer = peer

    def Call(self, svcMeth: str, args: Any, reply: Any) -> bool:
        server, method = self.server, svcMeth.removeprefix("Raft.")
        server.expect_free_lock(f"Call of {method}")
        sent = Sent(server.world.now(), self.peer, copy.deepcopy(args), server.disk.Copy())
        server.calls.setdefault(method, []).append(sent)
        answer = server.answers.get((method, self.peer), silent)(args)
        if answer is None:
            return False
        for name, value in ({"Term": args.Term} | answer).items():
            setattr(reply, name, value)
        return True


class Server:
    """The server under test in its world, with its wires, its disk and its service."""

    def __init__(self, world: World, servers: int) -> None:
        self.world = world
        names = ("raft.raft", "raft.api", "raft.persister", "threading", "time")
        modules: list[Any] = [world.import_module(name) for name in names]
        self.raft, self.api, persister, self.threading, self.time = modules
        self.threading.excepthook = lambda crash: self.faults.append(f"{crash.thread.name}: {crash.exc_value!r}")
        self.faults: list[str] = []  # what no test allows: threads that crash, waiting with the lock held
        self.calls: dict[str, list[Sent]] = {}  # by method
        self.answers: dict[tuple[str, int], Answer] = {}  # by method and peer; peers are silent otherwise
        self.peers = range(1, servers)
        self.rf: Any = None
        self.channel: Any = None
        self.start_on(persister.Persister())

    # -- life ----------------------------------------------------------------------------------------------------------

    def start_on(self, disk: Any, *, serving: bool = True) -> None:
        """Crash the server if it runs, and start it on what is on `disk`, with a service that has forgotten all."""
        if self.rf:
            self.run(self.rf.Kill)
            self.run(self.channel.close)
        self.disk = disk.Copy()
        self.saves: list[Any] = []  # a copy of the disk after each save
        for save in (self.disk.SaveRaftState, self.disk.SaveStateAndSnapshot):
            setattr(self.disk, save.__name__, self._keeping(save))
        self.applied: list[tuple[Any, ...]] = []  # (index, command), and ("snapshot", index, term, bytes)
        self.channel = self.api.ApplyCh()
        self.channel.put = self._with_free_lock(self.channel.put)
        self.calls.clear()
        self.rf = self.run(self.raft.Make, [Wire(self, i) for i in (0, *self.peers)], 0, self.disk, self.channel)
        if serving:
            self.serve()

    def restart(self) -> None:
        self.start_on(self.disk)

    def serve(self) -> None:
        """Start the service's thread, which takes what comes on applyCh."""
        channel, applied = self.channel, self.applied

        def take() -> None:
            while (msg := channel.get()) is not None:
                command = (msg.CommandIndex, msg.Command)
                applied.append(
                    command if msg.CommandValid else ("snapshot", msg.SnapshotIndex, msg.SnapshotTerm, msg.Snapshot)
                )

        self.run(self.threading.Thread(target=take, name="service").start)
        self.wait()

    def _keeping(self, save: Callable[..., None]) -> Callable[..., None]:
        disk, saves = self.disk, self.saves

        def save_and_keep(*what: bytes) -> None:
            save(*what)
            saves.append(disk.Copy())

        return save_and_keep

    def _with_free_lock(self, put: Callable[..., None]) -> Callable[..., None]:
        def checked(msg: Any) -> None:
            self.expect_free_lock("put")
            put(msg)

        return checked

    def expect_free_lock(self, what: str) -> None:
        """Whoever calls this must not have the server's lock. Others have it for less than a second."""
        if self.rf.mu.acquire(timeout=1):
            self.rf.mu.release()
        else:
            self.faults.append(f"{what} with the lock held")

    # -- verbs ---------------------------------------------------------------------------------------------------------

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function in the world, and leave when no thread is half-way through a change of the state."""

        def call() -> Any:
            result = function(*args)
            for _ in range(1000):  # a Raft that never lets go of its lock is for the test to notice
                if not (self.rf and self.rf.mu.locked()):
                    break
                self.time.sleep(0.0001)
            return result

        return self.world.run(call)

    def wait(self, seconds: float = SOON) -> None:
        self.run(self.time.sleep, seconds)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until the condition holds, 5 s at most."""
        for _ in range(5000):
            if condition():
                return
            self.wait(0.001)
        pytest.fail(f"not within 5 s: {what}")

    def receive(self, method: str, **fields: Any) -> Any:
        """Handle an RPC with these arguments; the reply."""
        if "Entries" in fields:
            fields["Entries"] = [self.raft.LogEntry(term, command) for term, command in fields["Entries"]]
        reply = getattr(self.raft, f"{method}Reply")()
        self.run(getattr(self.rf, method), getattr(self.raft, f"{method}Args")(**fields), reply)
        return reply

    def hold(self, *terms: int, commit: int = 0) -> None:
        """Receive from peer 1, leader of the last of these terms, a log with an entry for each of them."""
        log = [(term, f"c{i}") for i, term in enumerate(terms, 1)]
        assert self.receive("AppendEntries", Term=terms[-1], LeaderId=1, Entries=log, LeaderCommit=commit).Success
        self.wait()

    def answer(self, method: str, answer: Answer, *peers: int) -> None:
        """From now on these peers, or all, answer so."""
        for peer in peers or self.peers:
            self.answers[method, peer] = answer

    def slowly(self, seconds: float, answer: Answer) -> Answer:
        def wait_and_answer(args: Any) -> dict[str, Any] | None:
            self.time.sleep(seconds)
            return answer(args)

        return wait_and_answer

    def become_candidate(self) -> int:
        """Wait until the server stands for election, of which nobody hears; its term."""
        self.answer("RequestVote", silent)
        self.until(lambda: self.role == "candidate", "an election")
        return self.term

    def become_leader(self) -> int:
        """Wait until the server is elected, by all; its term."""
        self.answer("RequestVote", granting)
        self.until(lambda: self.role == "leader", "to be elected")
        self.answer("RequestVote", silent)
        self.wait()
        return self.term

    def start(self, command: str) -> tuple[int, int, bool]:
        answer: tuple[int, int, bool] = self.run(self.rf.Start, command)
        return answer

    def snapshot(self, index: int) -> None:
        """The service makes a snapshot."""
        self.run(self.rf.Snapshot, index, b"up to %d" % index)

    # -- looks ---------------------------------------------------------------------------------------------------------

    @property
    def term(self) -> int:
        return int(self.rf.currentTerm)

    @property
    def role(self) -> str:
        return str(self.rf.role.value)

    @property
    def log(self) -> list[Entry]:
        """The entries that no snapshot covers."""
        return [(entry.Term, entry.Command) for entry in self.rf.log[1:]]

    def sent(self, method: str, *peers: int) -> list[Sent]:
        """What the server has sent to these peers, or all, since it started or `forget`."""
        return [sent for sent in self.calls.get(method, []) if sent.to in (peers or self.peers)]

    def forget(self) -> None:
        """Let `sent` begin again."""
        self.calls.clear()

    def threads(self) -> list[str]:
        return [thread.name for thread in self.run(self.threading.enumerate) if thread.name.startswith("server")]


def entries(sent: Sent) -> list[Entry]:
    return [(entry.Term, entry.Command) for entry in sent.args.Entries]


@pytest.fixture
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Server]]:
    """Makes the server of a cluster of so many."""
    monkeypatch.syspath_prepend(str(REPOSITORY))
    with World(request.node.name, fresh=LAB, limit=1000) as world:
        made: list[Server] = []

        def make_server(servers: int) -> Server:
            made.append(Server(world, servers))
            return made[-1]

        yield make_server
        assert [fault for server in made for fault in server.faults] == []


@pytest.fixture
def server(make: Callable[[int], Server]) -> Server:
    """One of three."""
    return make(3)


# -- terms -------------------------------------------------------------------------------------------------------------

NEWER = {
    "RequestVote": {"Term": 7, "CandidateId": 1},
    "AppendEntries": {"Term": 7, "LeaderId": 1},
    "InstallSnapshot": {"Term": 7, "LeaderId": 1},
}


@pytest.mark.parametrize("method", NEWER)
@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_a_newer_term_in_an_rpc_makes_everybody_a_follower_in_it(server: Server, role: str, method: str) -> None:
    """Section 5.1; Figure 2, Rules for Servers, All Servers."""
    if role == "candidate":
        server.become_candidate()
    elif role == "leader":
        server.become_leader()
    assert server.receive(method, **NEWER[method]).Term == 7
    assert (server.role, server.term) == ("follower", 7)
    server.restart()
    assert server.term == 7


REPLIES = {
    "RequestVote": Server.become_candidate,
    "AppendEntries": Server.become_leader,
}


@pytest.mark.parametrize("method", REPLIES)
def test_a_newer_term_in_a_reply_makes_a_follower_in_it(server: Server, method: str) -> None:
    """Section 5.1; Figure 2, Rules for Servers, All Servers."""
    REPLIES[method](server)
    server.wait(1)  # longer than any election timeout
    server.answer(method, newer(9), 2)
    server.until(lambda: server.term == 9, "term 9")
    assert server.role == "follower"
    assert server.rf.votedFor is None
    server.wait()  # an RPC of the old term may be just leaving
    server.forget()
    server.wait(0.3)
    assert server.calls == {}
    server.until(lambda: server.sent("RequestVote"), "an election of its own")  # its timer runs, and not in vain
    assert server.term == 10


def test_a_newer_term_is_saved_even_where_the_vote_is_refused(server: Server) -> None:
    """Figure 2, State: currentTerm is updated on stable storage before responding to RPCs."""
    server.hold(1, 2)
    assert not server.receive("RequestVote", Term=5, CandidateId=1).VoteGranted
    server.restart()
    assert server.term == 5


# -- RequestVote -------------------------------------------------------------------------------------------------------


def test_a_candidate_of_an_older_term_gets_no_vote_but_the_current_term(server: Server) -> None:
    """Figure 2, RequestVote RPC, 1."""
    server.hold(1)
    server.receive("AppendEntries", Term=3, LeaderId=2)
    reply = server.receive("RequestVote", Term=2, CandidateId=1, LastLogIndex=9, LastLogTerm=1)
    assert (reply.Term, reply.VoteGranted) == (3, False)
    assert server.term == 3


def test_the_first_who_asks_in_a_term_gets_the_vote_and_no_other(server: Server) -> None:
    """Section 5.2: each server votes for at most one candidate in a term, first come first served."""
    assert server.receive("RequestVote", Term=1, CandidateId=2).VoteGranted
    assert not server.receive("RequestVote", Term=1, CandidateId=1).VoteGranted
    assert server.rf.votedFor == 2


def test_a_candidate_that_asks_again_gets_the_same_answer(server: Server) -> None:
    """Figure 2, RequestVote RPC, 2: votedFor is null or candidateId. A reply may have been lost (section 5.5)."""
    assert server.receive("RequestVote", Term=1, CandidateId=2).VoteGranted
    assert server.receive("RequestVote", Term=1, CandidateId=2).VoteGranted


def test_a_new_term_brings_a_new_vote(server: Server) -> None:
    """Figure 2, State: votedFor is who received the vote in the current term."""
    server.receive("RequestVote", Term=1, CandidateId=2)
    assert server.receive("RequestVote", Term=2, CandidateId=1).VoteGranted
    assert server.rf.votedFor == 1


def test_a_candidate_votes_for_nobody_else_in_its_term_even_after_it_has_lost(server: Server) -> None:
    """Section 5.2: its one vote is its own."""
    term = server.become_candidate()
    assert not server.receive("RequestVote", Term=term, CandidateId=1).VoteGranted
    server.receive("AppendEntries", Term=term, LeaderId=2)
    assert not server.receive("RequestVote", Term=term, CandidateId=1).VoteGranted


@pytest.mark.parametrize(
    ("mine", "last_term", "last_index", "granted"),
    [
        pytest.param([], 0, 0, True, id="both empty"),
        pytest.param([1], 0, 0, False, id="the candidate's is empty"),
        pytest.param([1, 1], 1, 2, True, id="the same"),
        pytest.param([1, 1], 1, 3, True, id="longer"),
        pytest.param([1, 1], 1, 1, False, id="shorter"),
        pytest.param([1, 1], 2, 1, True, id="shorter but of a newer term"),
        pytest.param([1, 2], 1, 9, False, id="longer but of an older term"),
    ],
)
def test_a_vote_needs_a_log_at_least_as_up_to_date(
    server: Server, mine: list[int], last_term: int, last_index: int, granted: bool
) -> None:
    """Section 5.4.1; Figure 2, RequestVote RPC, 2: the newer last term wins, then the longer log."""
    if mine:
        server.hold(*mine)
    reply = server.receive("RequestVote", Term=9, CandidateId=1, LastLogIndex=last_index, LastLogTerm=last_term)
    assert (reply.Term, reply.VoteGranted) == (9, granted)
    assert server.rf.votedFor == (1 if granted else None)


def test_a_log_that_is_all_in_the_snapshot_is_as_up_to_date_as_before(server: Server) -> None:
    """Section 7: the last included index and term stand for the entries that the snapshot replaces."""
    server.hold(1, 2, commit=2)
    server.snapshot(2)
    assert server.log == []
    assert not server.receive("RequestVote", Term=9, CandidateId=1, LastLogIndex=9, LastLogTerm=1).VoteGranted
    assert not server.receive("RequestVote", Term=9, CandidateId=1, LastLogIndex=1, LastLogTerm=2).VoteGranted
    assert server.receive("RequestVote", Term=9, CandidateId=1, LastLogIndex=2, LastLogTerm=2).VoteGranted


def test_a_vote_is_saved_before_it_is_given(server: Server) -> None:
    """Figure 2, State: votedFor is updated on stable storage before responding to RPCs."""
    server.receive("AppendEntries", Term=5, LeaderId=1)
    assert server.receive("RequestVote", Term=5, CandidateId=2).VoteGranted
    server.restart()
    assert not server.receive("RequestVote", Term=5, CandidateId=1).VoteGranted
    assert server.receive("RequestVote", Term=5, CandidateId=2).VoteGranted


def test_granting_a_vote_puts_off_the_own_election(server: Server) -> None:
    """Figure 2, Rules for Servers, Followers: an election timeout passes without granting a vote to a candidate."""
    for term in range(1, 11):
        assert server.receive("RequestVote", Term=term, CandidateId=1).VoteGranted
        server.wait(0.35)
    assert server.sent("RequestVote") == []


def test_refusing_a_vote_does_not_put_off_the_own_election(server: Server) -> None:
    """Figure 2, Rules for Servers, Followers: an election timeout passes without granting a vote to a candidate."""
    server.hold(1)
    for term in range(2, 10):  # a candidate that cannot win asks all the time
        assert not server.receive("RequestVote", Term=term, CandidateId=1).VoteGranted
        server.wait(0.1)
    assert server.sent("RequestVote")


# -- AppendEntries -----------------------------------------------------------------------------------------------------


def test_a_leader_of_an_older_term_is_refused_with_the_current_term(server: Server) -> None:
    """Figure 2, AppendEntries RPC, 1."""
    server.hold(1, 3)
    reply = server.receive(
        "AppendEntries", Term=2, LeaderId=2, PrevLogIndex=1, PrevLogTerm=1, Entries=[(2, "x")], LeaderCommit=2
    )
    assert (reply.Term, reply.Success) == (3, False)
    assert server.log == [(1, "c1"), (3, "c2")]
    assert server.rf.commitIndex == 0


def test_a_leader_of_an_older_term_does_not_put_off_an_election(server: Server) -> None:
    """Figure 2, Rules for Servers, Followers: only AppendEntries from the current leader count."""
    server.hold(2)
    for _ in range(8):
        server.receive("AppendEntries", Term=1, LeaderId=2)
        server.receive("InstallSnapshot", Term=1, LeaderId=2)
        server.wait(0.1)
    assert server.sent("RequestVote")


def test_a_candidate_recognises_the_leader_of_its_term(server: Server) -> None:
    """Section 5.2; Figure 2, Rules for Servers, Candidates: on AppendEntries from a new leader, become a follower."""
    term = server.become_candidate()
    server.receive("AppendEntries", Term=term - 1, LeaderId=1)
    assert server.role == "candidate"
    server.receive("AppendEntries", Term=term, LeaderId=1)
    assert (server.role, server.term) == ("follower", term)


def test_heartbeats_put_off_an_election_and_their_end_brings_one(server: Server) -> None:
    """Section 5.2: a follower that hears nothing for an election timeout begins an election."""
    for _ in range(10):
        assert server.receive("AppendEntries", Term=1, LeaderId=1).Success
        server.wait(0.35)
    assert server.sent("RequestVote") == []
    server.wait(0.5)
    assert server.sent("RequestVote")


def test_even_a_leader_whose_entries_do_not_fit_puts_off_an_election(server: Server) -> None:
    """Figure 2, Rules for Servers, Followers: whoever receives AppendEntries from the current leader waits on."""
    for _ in range(10):
        assert not server.receive("AppendEntries", Term=1, LeaderId=1, PrevLogIndex=8, PrevLogTerm=1).Success
        server.wait(0.35)
    assert server.sent("RequestVote") == []


def test_entries_behind_a_gap_are_refused_with_the_length_of_the_log(server: Server) -> None:
    """Figure 2, AppendEntries RPC, 2; where to look next: section 5.3, last paragraphs."""
    server.hold(1, 1)
    reply = server.receive(
        "AppendEntries", Term=2, LeaderId=1, PrevLogIndex=3, PrevLogTerm=1, Entries=[(2, "x")], LeaderCommit=4
    )
    assert (reply.Term, reply.Success) == (2, False)
    assert (reply.XTerm, reply.XLen) == (-1, 3)
    assert server.log == [(1, "c1"), (1, "c2")]
    assert server.rf.commitIndex == 0


def test_entries_behind_another_entry_are_refused_with_its_term_and_where_that_begins(server: Server) -> None:
    """Figure 2, AppendEntries RPC, 2; where to look next: section 5.3, last paragraphs."""
    server.hold(1, 2, 2, 2)
    reply = server.receive(
        "AppendEntries", Term=5, LeaderId=1, PrevLogIndex=4, PrevLogTerm=5, Entries=[(5, "x")], LeaderCommit=5
    )
    assert (reply.Term, reply.Success) == (5, False)
    assert (reply.XTerm, reply.XIndex) == (2, 2)
    assert [term for term, _ in server.log] == [1, 2, 2, 2]
    assert server.rf.commitIndex == 0


def test_a_term_in_conflict_begins_no_earlier_than_behind_the_snapshot(server: Server) -> None:
    """Sections 5.3 and 7: what the snapshot covers is committed, so the conflict lies behind it."""
    server.hold(1, 1, 1, 1, commit=2)
    server.snapshot(2)
    reply = server.receive("AppendEntries", Term=5, LeaderId=1, PrevLogIndex=4, PrevLogTerm=5)
    assert (reply.Success, reply.XTerm, reply.XIndex) == (False, 1, 3)


def test_an_entry_in_conflict_goes_with_all_that_follow_it(server: Server) -> None:
    """Figure 2, AppendEntries RPC, 3 and 4."""
    server.hold(1, 1, 1, 1)
    new = [(1, "c2"), (2, "x")]
    assert server.receive("AppendEntries", Term=2, LeaderId=1, PrevLogIndex=1, PrevLogTerm=1, Entries=new).Success
    assert server.log == [(1, "c1"), (1, "c2"), (2, "x")]


def test_new_entries_are_appended_to_those_that_agree(server: Server) -> None:
    """Figure 2, AppendEntries RPC, 4: append any new entries not already in the log."""
    server.hold(1, 1)
    new = [(1, "c2"), (2, "x"), (2, "y")]
    assert server.receive("AppendEntries", Term=2, LeaderId=1, PrevLogIndex=1, PrevLogTerm=1, Entries=new).Success
    assert server.log == [(1, "c1"), (1, "c2"), (2, "x"), (2, "y")]


@pytest.mark.parametrize("brings", [[], [(1, "c1")], [(1, "c1"), (1, "c2")]], ids=len)
def test_an_old_rpc_that_brings_less_takes_nothing_away(server: Server, brings: list[Entry]) -> None:
    """Figure 2, AppendEntries RPC, 3: only a conflict deletes entries. Those behind may be committed already."""
    server.hold(1, 1, 1)
    assert server.receive("AppendEntries", Term=1, LeaderId=1, Entries=brings).Success
    assert server.log == [(1, "c1"), (1, "c2"), (1, "c3")]


def test_entries_are_saved_before_they_are_accepted(server: Server) -> None:
    """Figure 2, State: log[] is updated on stable storage before responding to RPCs."""
    server.hold(1, 1, 1)
    server.receive("AppendEntries", Term=2, LeaderId=1, PrevLogIndex=1, PrevLogTerm=1, Entries=[(2, "x"), (2, "y")])
    server.restart()
    assert server.log == [(1, "c1"), (2, "x"), (2, "y")]


def test_a_follower_commits_what_the_leader_has(server: Server) -> None:
    """Figure 2, AppendEntries RPC, 5: leaderCommit where it is the smaller one."""
    server.hold(1, 1, 1, commit=2)
    assert server.rf.commitIndex == 2


def test_a_follower_commits_no_further_than_the_leader_has_spoken_of(server: Server) -> None:
    """Figure 2, AppendEntries RPC, 5: the index of the last new entry where it is the smaller one.

    Entry 3 came from an older leader. That the leader of term 2 has committed another entry 3 says nothing about it.
    """
    server.hold(1, 1, 1)
    server.receive("AppendEntries", Term=2, LeaderId=2, PrevLogIndex=1, PrevLogTerm=1, LeaderCommit=3)
    assert server.rf.commitIndex == 1
    new = [(1, "c2")]
    server.receive("AppendEntries", Term=2, LeaderId=2, PrevLogIndex=1, PrevLogTerm=1, Entries=new, LeaderCommit=3)
    assert server.rf.commitIndex == 2


def test_the_commit_index_never_goes_back(server: Server) -> None:
    """Figure 2, State: commitIndex increases monotonically. RPCs may overtake each other."""
    server.hold(1, 1, 1, commit=3)
    server.receive("AppendEntries", Term=1, LeaderId=1, Entries=[(1, "c1")], LeaderCommit=3)
    server.receive("AppendEntries", Term=1, LeaderId=1, PrevLogIndex=3, PrevLogTerm=1, LeaderCommit=1)
    assert server.rf.commitIndex == 3


@pytest.mark.parametrize(
    ("brings", "log", "commit"),
    [
        pytest.param([(1, "c1")], [(1, "c3")], 2, id="less"),
        pytest.param([(1, f"c{i}") for i in (1, 2, 3, 4)], [(1, "c3"), (1, "c4")], 4, id="more"),
    ],
)
def test_entries_that_the_snapshot_covers_are_passed_over(
    server: Server, brings: list[Entry], log: list[Entry], commit: int
) -> None:
    """Section 7: a late RPC may begin within what the follower has discarded. That is committed, so it agrees."""
    server.hold(1, 1, 1, commit=2)
    server.snapshot(2)
    assert server.receive("AppendEntries", Term=1, LeaderId=1, Entries=brings, LeaderCommit=4).Success
    assert server.log == log
    assert server.rf.commitIndex == commit


# -- candidates --------------------------------------------------------------------------------------------------------


def test_a_server_that_hears_of_nobody_asks_all_others_for_their_votes(server: Server) -> None:
    """Section 5.2; Figure 2, Rules for Servers, Candidates: a new term, a vote for itself, RequestVote to all."""
    server.hold(1, 2)
    server.wait(0.35)
    assert server.sent("RequestVote") == []
    server.until(lambda: server.role == "candidate", "an election")
    server.wait()
    assert [sent.to for sent in sorted(server.sent("RequestVote"), key=lambda sent: sent.to)] == [1, 2]
    for sent in server.sent("RequestVote"):
        args = sent.args
        assert (args.Term, args.CandidateId, args.LastLogIndex, args.LastLogTerm) == (3, 0, 2, 2)


def test_a_candidate_has_saved_its_term_and_its_vote_before_it_asks(server: Server) -> None:
    """Figure 2, State: currentTerm and votedFor are on stable storage before anybody hears of them."""
    server.become_candidate()
    server.until(lambda: server.sent("RequestVote"), "a question")
    server.start_on(server.sent("RequestVote")[0].disk)
    assert server.term == 1
    assert not server.receive("RequestVote", Term=1, CandidateId=1).VoteGranted


def test_only_a_leader_says_that_it_is_one(server: Server) -> None:
    """raft.api, GetState. Section 5.2: a candidate is not the leader yet."""
    assert server.run(server.rf.GetState) == (0, False)
    term = server.become_candidate()
    assert server.run(server.rf.GetState) == (term, False)
    term = server.become_leader()
    assert server.run(server.rf.GetState) == (term, True)


def test_votes_of_a_majority_elect(make: Callable[[int], Server]) -> None:
    """Section 5.2; Figure 2, Rules for Servers, Candidates: three of five, of which one is its own."""
    server = make(5)
    server.answer("RequestVote", granting, 3)
    server.answer("RequestVote", refusing(), 1, 2, 4)
    server.wait(3)
    assert server.role == "candidate"
    server.answer("RequestVote", granting, 3, 4)
    server.until(lambda: server.role == "leader", "to be elected by 0, 3 and 4")


def test_half_of_an_even_cluster_is_no_majority(make: Callable[[int], Server]) -> None:
    """Section 5.2: two of four do not elect, or the other two could elect another one."""
    server = make(4)
    server.answer("RequestVote", granting, 1)
    server.wait(3)
    assert server.role == "candidate"


def test_a_cluster_of_one_elects_itself(make: Callable[[int], Server]) -> None:
    """Section 5.2: its own vote is a majority."""
    server = make(1)
    server.until(lambda: server.role == "leader", "to elect itself")


def test_split_votes_are_followed_by_another_election_after_another_time(server: Server) -> None:
    """Section 5.2: each candidate starts its next election after a timeout that it draws anew."""
    server.wait(20)
    asked = {sent.args.Term: sent.at for sent in server.sent("RequestVote", 1)}
    assert list(asked) == list(range(1, len(asked) + 1))
    times = list(asked.values())
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    shortest, longest = server.raft.ELECTION_TIMEOUT
    assert all(shortest - SOON < pause < longest + SOON for pause in pauses)
    assert max(pauses) - min(pauses) > (longest - shortest) / 2


def test_votes_of_an_older_term_do_not_count(server: Server) -> None:
    """Section 5.2: the votes must be of the same term. These come when the candidate has gone on to the next one."""
    server.answer("RequestVote", server.slowly(1.0, granting))
    server.wait(5)
    assert server.role == "candidate"


def test_votes_that_come_when_another_has_won_do_not_count(server: Server) -> None:
    """Section 5.2: who has returned to the state of a follower is no candidate any more."""
    server.answer("RequestVote", server.slowly(0.2, granting))
    server.until(lambda: server.role == "candidate", "an election")
    server.receive("AppendEntries", Term=server.term, LeaderId=1)
    server.wait(0.3)
    assert server.role == "follower"


def test_votes_that_a_leader_no_longer_needs_change_nothing(make: Callable[[int], Server]) -> None:
    """Figure 2, State: nextIndex and matchIndex are initialised after election, which is once a term."""
    server = make(5)
    server.answer("RequestVote", granting, 1, 2)
    server.answer("RequestVote", server.slowly(0.2, granting), 3, 4)
    server.answer("AppendEntries", accepting)
    server.until(lambda: server.role == "leader", "to be elected")
    server.start("a")
    server.wait()
    assert server.rf.matchIndex == [1, 1, 1, 1, 1]
    server.answer("AppendEntries", silent)
    server.wait(0.3)
    assert server.rf.matchIndex == [1, 1, 1, 1, 1]


# -- leaders -----------------------------------------------------------------------------------------------------------


def test_a_leader_sends_heartbeats_at_once(server: Server) -> None:
    """Section 5.2; Figure 2, Rules for Servers, Leaders: upon election, empty AppendEntries to each server."""
    server.hold(1, 1, commit=1)
    term = server.become_leader()
    asked = server.sent("RequestVote")[-1].at
    for peer in server.peers:
        heartbeat = server.sent("AppendEntries", peer)[0]
        assert heartbeat.at - asked < SOON
        args = heartbeat.args
        assert (args.Term, args.LeaderId, args.PrevLogIndex, args.PrevLogTerm) == (term, 0, 2, 1)
        assert (entries(heartbeat), args.LeaderCommit) == ([], 1)


def test_a_leader_sends_heartbeats_in_time_even_where_nobody_answers(server: Server) -> None:
    """Figure 2, Rules for Servers, Leaders: repeated during idle periods to prevent election timeouts.

    The lab allows about ten a second.
    """
    server.answer("AppendEntries", server.slowly(7, silent), 1)
    server.become_leader()
    server.wait(3)
    for peer in server.peers:
        times = [sent.at for sent in server.sent("AppendEntries", peer)]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert len(times) > 15
        assert all(0.1 <= pause <= server.raft.ELECTION_TIMEOUT[0] / 2 for pause in pauses)


def test_a_command_is_appended_and_saved_and_sent_at_once(server: Server) -> None:
    """Section 5.3; Figure 2, Rules for Servers, Leaders: append the entry to the local log, then AppendEntries."""
    server.hold(1, 1)
    server.answer("AppendEntries", accepting)
    term = server.become_leader()
    server.forget()
    assert server.start("x") == (3, term, True)
    assert server.log[2:] == [(term, "x")]
    server.wait()
    for peer in server.peers:
        sent = server.sent("AppendEntries", peer)[0]
        assert (sent.args.PrevLogIndex, sent.args.PrevLogTerm, entries(sent)) == (2, 1, [(term, "x")])
    server.start_on(sent.disk)
    assert server.log == [(1, "c1"), (1, "c2"), (term, "x")]


def test_who_is_no_leader_refuses_a_command(server: Server) -> None:
    """raft.api: (-1, currentTerm, False). Section 8: a follower sends its clients elsewhere."""
    server.hold(4)
    assert server.start("x") == (-1, 4, False)
    term = server.become_candidate()
    assert server.start("x") == (-1, term, False)
    assert server.log == [(4, "c1")]


def test_entries_are_sent_again_until_they_are_accepted(server: Server) -> None:
    """Section 5.3: the leader retries AppendEntries indefinitely."""
    server.become_leader()
    server.start("x")
    server.wait(2)
    server.forget()
    server.wait(0.5)
    assert [entries(sent) for sent in server.sent("AppendEntries", 1)[:3]] == [[(1, "x")]] * 3
    server.answer("AppendEntries", accepting, 1)
    server.until(lambda: server.rf.commitIndex == 1, "to commit x")
    server.forget()
    server.wait(0.5)
    assert all(entries(sent) == [] for sent in server.sent("AppendEntries", 1))


def test_a_follower_that_lacks_entries_is_sent_all_of_them(server: Server) -> None:
    """Section 5.3; Figure 2, Rules for Servers, Leaders: AppendEntries with log entries starting at nextIndex."""
    server.hold(1, 1, 2)
    server.become_leader()

    def has_one_entry(args: Any) -> dict[str, Any]:
        return {"Success": True} if args.PrevLogIndex <= 1 else {"XLen": 2}

    server.answer("AppendEntries", has_one_entry, 1)
    server.until(lambda: server.rf.matchIndex[1], "an answer")
    sent = server.sent("AppendEntries", 1)[-1]
    assert (sent.args.PrevLogIndex, sent.args.PrevLogTerm, entries(sent)) == (1, 1, [(1, "c2"), (2, "c3")])
    assert (server.rf.matchIndex[1], server.rf.nextIndex[1]) == (3, 4)


@pytest.mark.parametrize(
    ("reply", "prev"),
    [
        pytest.param({"XTerm": -1, "XLen": 4}, 3, id="its log is shorter"),
        pytest.param({"XTerm": -1, "XLen": 0}, 0, id="it gives no hint"),
        pytest.param({"XTerm": 4, "XIndex": 3}, 2, id="no entry of its term here"),
        pytest.param({"XTerm": 2, "XIndex": 2}, 3, id="entries of its term here"),
    ],
)
def test_a_refusal_takes_the_leader_back_by_a_whole_term(server: Server, reply: dict[str, Any], prev: int) -> None:
    """Section 5.3, last paragraphs: one AppendEntries for each term with conflicting entries."""
    server.hold(1, 2, 2, 5, 5, 5)
    server.answer("AppendEntries", lambda args: reply if args.PrevLogIndex == 6 else None)
    server.become_leader()
    for peer in server.peers:
        first, second = server.sent("AppendEntries", peer)  # at once, not with the next heartbeat
        assert (first.args.PrevLogIndex, second.args.PrevLogIndex) == (6, prev)


def test_a_majority_commits_and_the_followers_hear_of_it(make: Callable[[int], Server]) -> None:
    """Section 5.3; Figure 2, Rules for Servers, Leaders, last rule: matchIndex[i] >= N for a majority."""
    server = make(5)
    server.answer("AppendEntries", accepting, 2)
    server.become_leader()
    server.start("x")
    server.wait(0.5)
    assert server.rf.matchIndex[1:] == [0, 1, 0, 0]
    assert server.rf.commitIndex == 0  # two of five hold it
    server.answer("AppendEntries", accepting, 4)
    server.until(lambda: server.rf.commitIndex == 1, "three of five to commit")
    server.wait()
    assert server.applied == [(1, "x")]
    server.forget()
    server.wait(0.2)
    assert server.sent("AppendEntries", 1)[0].args.LeaderCommit == 1


def test_a_cluster_of_one_commits_by_itself(make: Callable[[int], Server]) -> None:
    """Section 5.3: an entry is committed once a majority holds it, and that is the leader."""
    server = make(1)
    server.until(lambda: server.role == "leader", "to elect itself")
    server.start("x")
    server.wait()
    assert server.applied == [(1, "x")]


def test_an_acceptance_speaks_of_the_entries_that_were_sent(server: Server) -> None:
    """Figure 2, State: matchIndex is what is known to be replicated. The log may have grown since the RPC left."""

    def only_a_alone(args: Any) -> dict[str, Any] | None:
        alone = args.PrevLogIndex == 0 and len(args.Entries) == 1
        return server.slowly(0.05, accepting)(args) if alone else None

    server.become_leader()
    server.answer("AppendEntries", only_a_alone)
    server.start("a")
    server.wait()
    server.start("b")
    server.wait(1)
    assert server.rf.matchIndex[1:] == [1, 1]
    assert server.applied == [(1, "a")]


def test_a_new_leader_takes_nothing_for_replicated(server: Server) -> None:
    """Figure 2, State: nextIndex and matchIndex are reinitialised after election. Logs change between two terms."""
    server.answer("AppendEntries", accepting)
    server.become_leader()
    server.start("x")
    server.wait()
    assert server.rf.matchIndex[1:] == [1, 1]
    server.answer("AppendEntries", silent)
    server.receive("AppendEntries", Term=5, LeaderId=1)
    server.become_leader()
    assert (server.rf.matchIndex[1:], server.rf.nextIndex[1:]) == ([0, 0], [2, 2])


def test_only_entries_of_the_own_term_are_committed_by_counting(server: Server) -> None:
    """Section 5.4.2 and Figure 8; Figure 2, Rules for Servers, Leaders: log[N].term == currentTerm."""
    server.hold(1, 2)
    server.answer("AppendEntries", accepting)
    term = server.become_leader()
    server.wait(0.5)
    assert server.rf.matchIndex[1:] == [2, 2]  # everybody holds them
    assert server.rf.commitIndex == 0
    server.start("x")
    server.wait()
    assert term == 3
    assert server.applied == [(1, "c1"), (2, "c2"), (3, "x")]  # those before it are committed with it


def test_replies_of_an_older_term_do_not_count(server: Server) -> None:
    """Section 5.1: they answer another leader, which this server was two terms ago. Its log may have changed since."""
    server.answer("AppendEntries", server.slowly(3, accepting))
    server.become_leader()
    server.start("x")
    server.until(lambda: entries(server.sent("AppendEntries", 2)[-1]), "x to be sent")
    server.answer("AppendEntries", silent)
    server.receive("RequestVote", Term=5, CandidateId=1)
    assert server.role == "follower"
    server.become_leader()
    assert server.world.now() < server.sent("AppendEntries")[0].at + 3
    server.wait(5)
    assert server.role == "leader"
    assert server.rf.matchIndex[1:] == [0, 0]
    assert server.rf.commitIndex == 0


def test_an_index_that_matches_never_goes_back(server: Server) -> None:
    """Figure 2, State: matchIndex increases monotonically. Replies may overtake each other."""

    def first_is_slow(args: Any) -> dict[str, Any] | None:
        return server.slowly(0.3 if len(args.Entries) == 1 else 0, accepting)(args)

    server.become_leader()
    server.answer("AppendEntries", first_is_slow, 1)
    server.start("a")
    server.start("b")
    server.until(lambda: server.rf.matchIndex[1], "an answer")
    assert server.rf.matchIndex[1] == 2
    server.answer("AppendEntries", silent)
    server.wait(0.5)
    assert (server.rf.matchIndex[1], server.rf.nextIndex[1]) == (2, 3)


def test_a_refusal_that_comes_late_takes_nothing_back(server: Server) -> None:
    """Figure 2, State: what is known to be replicated, matchIndex, stays so; nextIndex lies behind it."""
    server.hold(1, 1, 1)
    server.answer("AppendEntries", server.slowly(0.3, refusing(XLen=1)), 1)
    server.become_leader()
    server.answer("AppendEntries", accepting, 1)
    server.until(lambda: server.rf.matchIndex[1] == 3, "an answer")
    server.answer("AppendEntries", silent)
    server.wait(0.5)
    assert (server.rf.matchIndex[1], server.rf.nextIndex[1]) == (3, 4)


def test_a_refusal_never_takes_the_leader_forward(server: Server) -> None:
    """Figure 2, Rules for Servers, Leaders: if AppendEntries fails because of log inconsistency, decrement nextIndex."""
    server.hold(1, 1, 1)
    server.answer("AppendEntries", server.slowly(0.3, refusing(XLen=3)), 1)
    server.become_leader()
    server.answer("AppendEntries", lambda args: {"XLen": 1} if args.PrevLogIndex == 3 else None, 1)
    server.until(lambda: server.rf.nextIndex[1] == 1, "a refusal that is quicker")
    server.wait(0.5)
    assert server.rf.nextIndex[1] == 1


def test_a_thread_that_comes_too_late_sends_nothing(server: Server) -> None:
    """Section 5.1: who follows in a newer term must not speak as its leader. raft.api: nor who is retired."""
    server.become_leader()
    server.receive("RequestVote", Term=5, CandidateId=1)
    server.forget()
    server.run(server.rf.replicate, 1)
    assert server.sent("AppendEntries") == []
    server.become_leader()
    server.run(server.rf.Kill)
    server.forget()
    server.run(server.rf.replicate, 1)
    assert server.sent("AppendEntries") == []


def test_a_peer_that_always_refuses_is_asked_with_each_heartbeat_and_no_more(server: Server) -> None:
    """raft.raft, replicate: it goes on only for as long as its RPCs get somewhere. (Nothing before entry 1 can differ.)"""
    server.hold(1, 1, 1)
    server.answer("AppendEntries", refusing(XLen=1), 1)
    server.become_leader()
    server.wait(3)
    assert len(server.sent("AppendEntries", 1)) == len(server.sent("AppendEntries", 2)) + 1  # the step back to entry 1


def test_a_peer_far_behind_and_slow_gets_no_more_rpcs_than_heartbeats(server: Server) -> None:
    """raft.raft, replicate: only the thread that was started last goes on, so threads do not pile up."""
    server.hold(*[1] * 100)
    server.answer("AppendEntries", server.slowly(0.3, lambda args: {"XLen": args.PrevLogIndex}), 1)
    server.become_leader()
    server.wait(3)
    assert len(server.sent("AppendEntries", 1)) == len(server.sent("AppendEntries", 2))


def test_a_leader_never_changes_its_own_log(server: Server) -> None:
    """Figure 3, Leader Append-Only: whatever its followers answer."""
    server.hold(1, 1)
    server.answer("AppendEntries", server.slowly(0.05, refusing(XTerm=7, XIndex=1)), 1)
    server.answer("AppendEntries", accepting, 2)
    term = server.become_leader()
    server.start("x")
    server.wait(1)
    assert server.log == [(1, "c1"), (1, "c2"), (term, "x")]


# -- stable storage ----------------------------------------------------------------------------------------------------


def test_a_restarted_server_is_a_follower_with_its_term_its_vote_and_its_log(server: Server) -> None:
    """Figure 2, State: currentTerm, votedFor and log[] persist. Section 5.2: servers start up as followers."""
    server.hold(1, 1)
    term = server.become_leader()
    server.start("x")
    server.restart()
    assert (server.role, server.term, server.rf.votedFor) == ("follower", term, 0)
    assert server.log == [(1, "c1"), (1, "c2"), (term, "x")]


def test_a_restarted_server_goes_on_with_the_log_that_it_found(server: Server) -> None:
    """Figure 2, State: log[] persists, as often as the server crashes."""
    server.hold(1, 1)
    server.restart()
    server.receive("AppendEntries", Term=2, LeaderId=1, PrevLogIndex=2, PrevLogTerm=1, Entries=[(2, "x")])
    server.restart()
    assert server.log == [(1, "c1"), (1, "c2"), (2, "x")]


def test_a_restarted_server_applies_from_the_first_entry_when_it_hears_what_is_committed(server: Server) -> None:
    """Figure 2, State: commitIndex and lastApplied are volatile, initialised to 0."""
    server.hold(1, 1, commit=2)
    assert server.applied == [(1, "c1"), (2, "c2")]
    server.restart()
    server.wait(0.1)
    assert server.applied == []
    server.receive("AppendEntries", Term=1, LeaderId=1, PrevLogIndex=2, PrevLogTerm=1, LeaderCommit=2)
    server.wait()
    assert server.applied == [(1, "c1"), (2, "c2")]


def test_a_server_restarted_with_a_snapshot_applies_what_comes_behind_it(server: Server) -> None:
    """Section 7: the service begins with the snapshot. What that covers is applied."""
    server.hold(1, 1, 1, commit=3)
    server.snapshot(2)
    server.restart()
    server.receive("AppendEntries", Term=1, LeaderId=1, PrevLogIndex=3, PrevLogTerm=1, LeaderCommit=3)
    server.wait()
    assert server.disk.ReadSnapshot() == b"up to 2"
    assert server.log == [(1, "c3")]
    assert server.applied == [(3, "c3")]


# -- snapshots ---------------------------------------------------------------------------------------------------------


def install(server: Server, index: int, term: int, *, of: int = 5) -> Any:
    """Receive a snapshot from the leader of term `of`."""
    data = b"up to %d" % index
    reply = server.receive(
        "InstallSnapshot", Term=of, LeaderId=1, LastIncludedIndex=index, LastIncludedTerm=term, Data=data
    )
    server.wait()
    return reply


def expect_whole(server: Server, disks: list[Any]) -> None:
    """On each of these disks, the snapshot goes just as far as the log lacks."""
    assert disks
    for disk in disks:
        server.start_on(disk)
        covered = server.rf.lastIncludedIndex
        assert disk.ReadSnapshot() == (b"up to %d" % covered if covered else b"")


def test_a_snapshot_of_the_service_replaces_the_entries_that_it_covers(server: Server) -> None:
    """Section 7: the entries are discarded; the last one's index and term are kept for the consistency check."""
    server.hold(1, 2, 3, 3, commit=3)
    server.snapshot(2)
    assert server.log == [(3, "c3"), (3, "c4")]
    assert server.disk.ReadSnapshot() == b"up to 2"
    assert not server.receive("AppendEntries", Term=5, LeaderId=1, PrevLogIndex=2, PrevLogTerm=1).Success
    assert server.receive("AppendEntries", Term=5, LeaderId=1, PrevLogIndex=2, PrevLogTerm=2, LeaderCommit=2).Success
    assert server.receive("AppendEntries", Term=5, LeaderId=1, PrevLogIndex=4, PrevLogTerm=3, LeaderCommit=4).Success
    server.wait()
    assert server.applied == [(1, "c1"), (2, "c2"), (3, "c3"), (4, "c4")]


def test_an_older_snapshot_of_the_service_changes_nothing(server: Server) -> None:
    """Section 7: the newest one covers most."""
    server.hold(1, 1, 1, commit=3)
    server.snapshot(2)
    server.snapshot(1)
    assert server.log == [(1, "c3")]
    assert server.disk.ReadSnapshot() == b"up to 2"


def test_entries_that_are_not_applied_are_not_discarded(server: Server) -> None:
    """Section 7: a snapshot covers just the committed, applied entries."""
    server.hold(1, 1, 1, commit=1)
    server.snapshot(2)
    assert len(server.log) == 3


def test_a_trimmed_log_and_its_snapshot_are_saved_in_one_step(server: Server) -> None:
    """Section 7: once the snapshot is written the log may go. raft.persister: a crash finds both or neither."""
    server.hold(1, 1, 1, commit=3)
    server.snapshot(2)
    server.receive("AppendEntries", Term=1, LeaderId=1, PrevLogIndex=3, PrevLogTerm=1, Entries=[(1, "c4")])
    expect_whole(server, server.saves)
    assert server.log == [(1, "c3"), (1, "c4")]


def test_a_snapshot_of_an_older_term_is_refused_with_the_current_term(server: Server) -> None:
    """Figure 13, InstallSnapshot RPC, 1."""
    server.hold(1, 6)
    assert install(server, 9, 5, of=5).Term == 6
    assert server.log == [(1, "c1"), (6, "c2")]
    assert server.disk.ReadSnapshot() == b""
    assert server.applied == []


def test_a_candidate_recognises_the_leader_of_its_term_by_a_snapshot(server: Server) -> None:
    """Section 5.2: whatever the leader sends, the election is over."""
    term = server.become_candidate()
    install(server, 1, 1, of=term)
    assert (server.role, server.term) == ("follower", term)


def test_snapshots_put_off_an_election(server: Server) -> None:
    """Section 5.2: they too are heard from the leader."""
    for index in range(1, 11):
        install(server, index, 1)
        server.wait(0.35)
    assert server.sent("RequestVote") == []


def test_a_snapshot_keeps_what_follows_its_last_entry_where_that_agrees(server: Server) -> None:
    """Figure 13, InstallSnapshot RPC, 6.

    This Raft also passes it on to the service, which lacks what was not known to be committed: a shorter way there.
    """
    server.hold(1, 1, 1)
    install(server, 2, 1)
    assert server.log == [(1, "c3")]
    assert server.rf.commitIndex == 2
    assert server.applied == [("snapshot", 2, 1, b"up to 2")]


@pytest.mark.parametrize(("index", "term"), [(2, 4), (3, 4), (7, 1)], ids=["amid", "at the end", "beyond"])
def test_a_snapshot_takes_the_place_of_a_log_that_does_not_agree(server: Server, index: int, term: int) -> None:
    """Figure 13, InstallSnapshot RPC, 7 and 8."""
    server.hold(1, 1, 1)
    install(server, index, term)
    assert server.log == []
    assert (server.rf.lastIncludedIndex, server.rf.term(index)) == (index, term)
    assert server.applied == [("snapshot", index, term, b"up to %d" % index)]


def test_an_older_snapshot_than_what_is_committed_is_ignored(server: Server) -> None:
    """Section 7: it covers a prefix of what the service has. Figure 13, InstallSnapshot RPC, 6."""
    server.hold(1, 1, 1, 1, commit=3)
    install(server, 3, 1)
    assert len(server.log) == 4
    install(server, 6, 5)
    install(server, 4, 5)
    assert server.rf.lastIncludedIndex == 6
    assert server.disk.ReadSnapshot() == b"up to 6"
    assert server.applied == [(1, "c1"), (2, "c2"), (3, "c3"), ("snapshot", 6, 5, b"up to 6")]


def test_an_installed_snapshot_and_the_rest_of_the_log_are_saved_in_one_step(server: Server) -> None:
    """Figure 13, InstallSnapshot RPC, 5; raft.persister: a crash finds both or neither."""
    server.hold(1, 1, 1)
    install(server, 2, 1)
    install(server, 9, 4)
    expect_whole(server, server.saves)
    assert server.rf.lastIncludedIndex == 9


def test_a_snapshot_is_delivered_before_the_commands_that_follow_it(server: Server) -> None:
    """Figure 13, InstallSnapshot RPC, 8: the state machine is reset, and goes on from there."""
    server.start_on(server.disk, serving=False)
    server.hold(1, 1, commit=1)
    install(server, 4, 3)
    new = [(5, "x"), (5, "y")]
    server.receive("AppendEntries", Term=5, LeaderId=1, PrevLogIndex=4, PrevLogTerm=3, Entries=new, LeaderCommit=6)
    server.serve()
    assert server.applied == [(1, "c1"), ("snapshot", 4, 3, b"up to 4"), (5, "x"), (6, "y")]


def test_the_service_may_switch_to_whatever_snapshot_it_gets(server: Server) -> None:
    """raft.api, CondInstallSnapshot; Figure 13 knows no such question. Commands behind it come only after it."""
    install(server, 4, 3)
    assert server.run(server.rf.CondInstallSnapshot, 3, 4, b"up to 4") is True


def leader_with_snapshot(server: Server, holds: int = 0) -> int:
    """A leader whose log begins with entry 3; peer 1 holds just so many entries. Its term."""
    server.hold(1, 2, 2, commit=3)
    server.snapshot(2)
    server.answer("AppendEntries", lambda args: accepting(args) if args.PrevLogIndex == 2 else {"XLen": holds + 1}, 1)
    return server.become_leader()


@pytest.mark.parametrize("holds", [0, 1])
def test_a_follower_that_lacks_discarded_entries_is_sent_the_snapshot_and_then_the_rest(
    server: Server, holds: int
) -> None:
    """Section 7; Figure 13: when the leader has already discarded the next log entry for a follower."""
    server.answer("InstallSnapshot", installing)
    term = leader_with_snapshot(server, holds)
    (sent,) = server.sent("InstallSnapshot")
    args = sent.args
    assert (sent.to, args.Term, args.LeaderId) == (1, term, 0)
    assert (args.LastIncludedIndex, args.LastIncludedTerm, args.Data) == (2, 2, b"up to 2")
    assert entries(server.sent("AppendEntries", 1)[-1]) == [(2, "c3")]
    assert (server.rf.matchIndex[1], server.rf.nextIndex[1]) == (3, 4)


def test_a_follower_that_lacks_only_entries_behind_the_snapshot_is_sent_those(server: Server) -> None:
    """Section 7: the last included index and term serve the consistency check for the first entry behind them."""
    leader_with_snapshot(server, holds=2)
    assert server.sent("InstallSnapshot") == []
    sent = server.sent("AppendEntries", 1)[-1]
    assert (sent.args.PrevLogIndex, sent.args.PrevLogTerm, entries(sent)) == (2, 2, [(2, "c3")])


def test_a_snapshot_that_is_lost_is_sent_again(server: Server) -> None:
    """Section 5.3: the leader retries until the follower has all entries; it may be down for long."""
    leader_with_snapshot(server)
    server.wait(1)
    assert len(server.sent("InstallSnapshot")) > 3
    assert server.rf.matchIndex[1] == 0


def test_a_newer_term_in_the_reply_to_a_snapshot_makes_a_follower(server: Server) -> None:
    """Section 5.1; Figure 2, Rules for Servers, All Servers."""
    leader_with_snapshot(server)
    server.answer("InstallSnapshot", newer(9))
    server.until(lambda: server.term == 9, "term 9")
    assert server.role == "follower"
    assert server.rf.matchIndex[1] == 0


def test_what_a_snapshot_brought_never_goes_back(server: Server) -> None:
    """Figure 2, State: matchIndex increases monotonically. The reply to a snapshot may come late, too."""
    server.answer("InstallSnapshot", server.slowly(0.3, installing))
    leader_with_snapshot(server)
    server.answer("InstallSnapshot", installing)  # the next one is quicker, and is followed by entry 3
    server.until(lambda: server.rf.matchIndex[1] == 3, "an answer")
    server.answer("AppendEntries", silent)
    server.wait(0.5)
    assert (server.rf.matchIndex[1], server.rf.nextIndex[1]) == (3, 4)


def test_a_leader_looks_for_a_term_in_conflict_no_further_back_than_its_snapshot(server: Server) -> None:
    """Sections 5.3 and 7: where the log is discarded, the follower gets the snapshot."""
    server.hold(2, 2, 2, commit=3)
    server.snapshot(2)
    server.answer("AppendEntries", refusing(XTerm=1, XIndex=1))
    server.become_leader()
    assert [sent.args.LastIncludedIndex for sent in server.sent("InstallSnapshot", 1)] == [2]


# -- the service -------------------------------------------------------------------------------------------------------


def test_what_is_committed_is_applied_in_order_and_once(server: Server) -> None:
    """Figure 2, Rules for Servers, All Servers: if commitIndex > lastApplied, apply log[lastApplied]."""
    for commit in (2, 2, 1, 3):
        server.hold(1, 1, 1, 1, commit=commit)
    assert server.applied == [(1, "c1"), (2, "c2"), (3, "c3")]


def test_a_service_that_takes_its_time_holds_up_nobody(server: Server) -> None:
    """raft.raft: nobody calls, or puts on applyCh, with the lock held. `Server` looks at that in all tests."""
    server.start_on(server.disk, serving=False)
    server.hold(1, 1, 1, commit=3)
    assert server.run(server.rf.GetState) == (1, False)
    assert server.receive("RequestVote", Term=2, CandidateId=1, LastLogIndex=3, LastLogTerm=1).VoteGranted
    server.snapshot(1)
    server.serve()
    assert server.applied == [(1, "c1"), (2, "c2"), (3, "c3")]


def test_kill_ends_all_threads(server: Server) -> None:
    """raft.api: its threads should end soon."""
    server.answer("AppendEntries", accepting)
    server.become_leader()
    server.start("x")
    server.wait()
    assert server.threads()
    server.forget()
    server.run(server.rf.Kill)
    server.wait()
    assert server.threads() == []
    server.wait(2)
    assert server.calls == {}


def test_a_killed_server_applies_no_more(server: Server) -> None:
    """raft.api: this instance is retired. The command that it is putting already may still arrive."""
    server.start_on(server.disk, serving=False)
    server.hold(1, 1, 1, commit=3)
    server.run(server.rf.Kill)
    server.serve()
    assert server.applied == [(1, "c1")]
    assert server.threads() == []
