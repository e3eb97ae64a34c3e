"""labwatch.paper: each rule is broken by a Raft, and by no right one, however it is built."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import pytest

import labgob
from conftest import VARIANT
from labrpc import Request
from labwatch import Journal, Monitor
from labwatch.paper import judge
from raft.api import ApplyMsg
from raft.raft import (
    AppendEntriesArgs,
    InstallSnapshotArgs,
    InstallSnapshotReply,
    LogEntry,
    RequestVoteArgs,
    RequestVoteReply,
)
from watched import BROKEN, watched

RIGHT = Path(__file__).parent / "right"
STYLES = sorted(Path(__file__).parent.glob("styles/*.py"))


class End:
    def __init__(self, endname: str) -> None:
        self.endname = endname


@dataclass
class PlainReply:
    """A reply to AppendEntries that has what Figure 2 has."""

    Term: int = 0
    Success: bool = False


class Story:
    """Three servers whose messages a test makes up. Each step takes 10 ms."""

    def __init__(self, *, durable: bool = True, virtual: bool = True, servers: int = 3) -> None:
        self.now = 0.0
        self.calls = itertools.count(1)
        self.incarnations = dict.fromkeys(range(servers), 0)
        self.servers = servers
        self.journal = Journal(self.tick)
        self.monitor = Monitor(durable=durable, virtual=virtual)
        self.journal.listen(self.monitor.see)
        self.journal.began_trial(servers)
        for server in range(servers):
            self.start(server)

    def tick(self) -> float:
        self.now += 0.01
        return self.now

    def start(self, server: int) -> None:
        self.incarnations[server] += 1
        ends = [f"{server}.{self.incarnations[server]} to {to}" for to in range(self.servers)]
        self.journal.started(server, self.incarnations[server], ends)

    def crash(self, server: int) -> None:
        self.journal.crashed(server)

    def restart(self, server: int) -> None:
        self.crash(server)
        self.start(server)

    def send(self, server: int, to: int, args: Any, reply: type, method: str = "") -> Request:
        end: Any = End(f"{server}.{self.incarnations[server]} to {to}")
        method = method or type(args).__name__.removesuffix("Args")
        request = Request(end, f"Raft.{method}", type(args), labgob.encode(args), reply, next(self.calls))
        self.journal.sent(request)
        return request

    def arrive(self, request: Request) -> None:
        self.journal.reached(request)
        self.journal.began(request)

    def answer(self, request: Request, reply: Any) -> None:
        self.journal.ended(request, labgob.encode(reply))
        self.journal.replied(request)
        self.journal.delivered(request, labgob.encode(reply))

    def call(self, server: int, to: int, args: Any, reply: Any, *, saves: bool = True, method: str = "") -> None:
        """A Call from beginning to end; the one who is asked saves something."""
        request = self.send(server, to, args, type(reply), method)
        self.arrive(request)
        if saves:
            self.save(to)
        self.answer(request, reply)

    def save(self, server: int) -> None:
        self.journal.saved(server, self.incarnations[server], b"state", b"")

    def vote(self, candidate: int, voter: int, term: int, last: tuple[int, int] = (0, 0), **how: Any) -> None:
        """`last`: term and index of the candidate's last entry."""
        args = RequestVoteArgs(term, candidate, last[1], last[0])
        self.call(candidate, voter, args, RequestVoteReply(term, True), **how)

    def append(
        self, leader: int, to: int, term: int, prev: int = 0, entries: str = "", commit: int = 0, **how: Any
    ) -> None:
        """Entries as "1a 2b": their terms and commands."""
        self.call(leader, to, appending(leader, term, prev, entries, commit), PlainReply(term, True), **how)

    def state(self, server: int, term: int, leads: bool) -> None:
        self.journal.asked(server, self.incarnations[server])
        self.journal.said(server, self.incarnations[server], (term, leads))

    def offer(self, server: int, command: Any, index: int, term: int) -> None:
        self.journal.took(server, self.incarnations[server], command, (index, term, True))

    def apply(self, server: int, index: int, command: Any) -> None:
        message = ApplyMsg(CommandValid=True, Command=command, CommandIndex=index)
        self.journal.applied(server, self.incarnations[server], message)

    @property
    def broken(self) -> list[str]:
        assert not self.journal.failures, self.journal.failures
        return [broken.message for broken in self.monitor.broken]

    @property
    def rules(self) -> list[str]:
        assert not self.journal.failures, self.journal.failures
        return [broken.rule for broken in self.monitor.broken]


def appending(leader: int, term: int, prev: int = 0, entries: str = "", commit: int = 0) -> AppendEntriesArgs:
    log = [LogEntry(int(entry[0]), entry[1]) for entry in entries.split()]
    return AppendEntriesArgs(term, leader, prev, 0 if prev == 0 else 1, log, commit)


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def logs() -> Story:
    """A story in which server 0 leads term 1, and it is known that it counts as the lab does: entry 1 is its "a"."""
    story = Story()
    story.vote(0, 1, 1)
    story.vote(0, 2, 1)
    story.append(0, 1, 1)
    story.offer(0, "a", 1, 1)
    return story


# --- elections -----------------------------------------------------------------------------------------------------


def test_two_servers_that_send_as_leader_of_one_term(story: Story) -> None:
    story.append(0, 1, term=4)
    story.append(2, 1, term=4)
    assert re.fullmatch(
        r"servers 0 and 2 both sent as leader of term 4, at 0\.\d+ s and 0\.\d+ s "
        r"\(section 5\.2, Figure 3, Election Safety\)",
        story.broken[0],
    )
    first, second = story.monitor.broken[0].events
    kept = {event.number: event for event in story.journal.events}
    assert [type(kept[number]).__name__ for number in (first, second)] == ["Sent", "Sent"]


def test_a_leader_of_entries_and_one_of_snapshots_are_two(story: Story) -> None:
    story.append(0, 1, term=4)
    story.send(2, 1, InstallSnapshotArgs(4, 2, 3, 1, b"x"), InstallSnapshotReply)
    assert story.rules == ["two leaders"]


def test_what_a_dead_instance_sends_is_not_judged(story: Story) -> None:
    story.append(0, 1, term=4)
    story.crash(2)
    story.send(2, 1, appending(2, 4), PlainReply)
    assert not story.broken


def test_a_leader_may_lead_many_terms_and_terms_have_many_messages(story: Story) -> None:
    for term in (1, 3, 3, 2):  # the last was late
        story.send(term % 2, 2, appending(term % 2, term), PlainReply)
    assert not story.broken


def test_two_servers_that_say_that_they_lead_one_term(story: Story) -> None:
    story.state(0, 2, True)
    story.state(1, 2, False)
    story.state(1, 3, True)
    assert not story.broken
    story.state(1, 2, True)
    assert story.rules == ["two leaders in GetState"]
    assert "servers 0 and 1 both said that they lead term 2" in story.broken[0]


def test_two_votes_in_a_term(story: Story) -> None:
    story.vote(0, 2, term=5)
    story.vote(1, 2, term=5)
    assert re.fullmatch(
        r"server 2 voted for 0 at 0\.\d+ s and for 1 at 0\.\d+ s, both in term 5 \(Figure 2, RequestVote, rule 2\)",
        story.broken[0],
    )


def test_two_votes_with_a_crash_between_them(story: Story) -> None:
    story.vote(0, 2, term=5)
    story.restart(2)
    story.vote(1, 2, term=5)
    assert story.rules == ["two votes"]


def test_without_durable_a_restart_ends_the_judging() -> None:
    story = Story(durable=False)
    story.vote(0, 2, term=5, saves=False)
    story.restart(2)
    story.vote(1, 2, term=5, saves=False)
    assert not story.broken
    assert story.monitor.unchecked == [
        "not checked: what happened after a server was restarted, as these parts of the lab ask for no saving"
    ]


def test_a_vote_that_is_never_delivered_is_none(story: Story) -> None:
    """The handler runs on behind the crash, and its vote is lost with it."""
    request = story.send(0, 2, RequestVoteArgs(5, 0), RequestVoteReply)
    story.arrive(request)
    story.restart(2)
    story.journal.ended(request, labgob.encode(RequestVoteReply(5, True)))
    story.journal.lost(request, "server gone")
    story.vote(1, 2, term=5)
    assert not story.broken


def test_a_vote_that_comes_with_a_newer_term_is_none(story: Story) -> None:
    story.vote(0, 2, term=5)
    story.call(1, 2, RequestVoteArgs(5, 1), RequestVoteReply(6, True))
    assert not story.broken


def test_a_vote_may_be_given_again_to_the_same_candidate(story: Story) -> None:
    story.vote(0, 2, term=5)
    story.vote(0, 2, term=5)
    story.vote(1, 2, term=6)
    assert not story.broken


def elect(story: Story, candidate: int, term: int) -> None:
    for to in range(story.servers):
        if to != candidate:
            story.send(candidate, to, RequestVoteArgs(term, candidate), RequestVoteReply)


def test_a_candidate_that_votes_for_another(story: Story) -> None:
    elect(story, 1, term=1)
    elect(story, 2, term=2)
    story.vote(0, 2, term=2)
    assert story.rules == ["two votes"]
    assert "server 2 was a candidate and voted for 0, both in term 2" in story.broken[0]


def test_a_voter_that_stands_in_the_same_term(story: Story) -> None:
    elect(story, 1, term=1)
    story.vote(0, 2, term=2)
    story.now += 0.5
    elect(story, 2, term=2)
    assert story.rules == ["two votes"]


def test_a_candidate_may_cast_its_own_vote_while_it_asks_others(story: Story) -> None:
    """It has voted for another before it came to that, and says so when it is asked."""
    elect(story, 1, term=1)
    story.send(2, 0, RequestVoteArgs(2, 2), RequestVoteReply)
    story.vote(0, 2, term=2)
    story.send(2, 1, RequestVoteArgs(2, 2), RequestVoteReply)
    assert not story.broken


def test_a_candidate_that_asks_itself_may_vote_for_another(story: Story) -> None:
    story.send(1, 1, RequestVoteArgs(1, 1), RequestVoteReply)
    for term in (1, 2):
        elect(story, 2, term)
        story.vote(0, 2, term)
    assert not story.broken


@pytest.mark.parametrize("term", [0, -5])
def test_a_term_that_is_none_may_mean_anything(story: Story, term: int) -> None:
    for candidate in (0, 1):
        story.vote(candidate, 2, term)
    assert not story.broken


# --- terms ---------------------------------------------------------------------------------------------------------


def test_an_answer_with_an_older_term(story: Story) -> None:
    story.call(0, 1, RequestVoteArgs(3, 0), RequestVoteReply(7, False))
    story.call(2, 1, RequestVoteArgs(4, 2), RequestVoteReply(4, False))
    assert story.rules == ["older term"]
    assert "server 1 answered with term 7" in story.broken[0]
    assert "with term 4 to a Raft.RequestVote that came later" in story.broken[0]


def test_an_echo_of_the_term_that_was_asked_about_is_no_answer(story: Story) -> None:
    story.append(0, 1, term=7)
    story.call(2, 1, RequestVoteArgs(4, 2), RequestVoteReply(4, False))
    assert not story.broken
    story.call(2, 0, RequestVoteArgs(4, 2), RequestVoteReply(7, False))  # here it was none, so it was none there
    assert story.rules == ["older term"]


def test_an_older_answer_may_come_later(story: Story) -> None:
    old = story.send(2, 1, RequestVoteArgs(4, 2), RequestVoteReply)
    story.arrive(old)
    story.call(0, 1, RequestVoteArgs(3, 0), RequestVoteReply(7, False))
    story.answer(old, RequestVoteReply(4, False))
    assert not story.broken


def test_the_term_may_be_left_out_of_a_success(story: Story) -> None:
    story.append(0, 1, term=3)
    story.call(0, 1, appending(0, 3), PlainReply(0, True))
    assert not story.broken


def told_of_a_newer_term(story: Story) -> None:
    story.call(0, 1, appending(0, 2), PlainReply(5, False))


def test_a_leader_that_goes_on_in_an_old_term(story: Story) -> None:
    told_of_a_newer_term(story)
    story.now += 0.3
    story.state(0, 2, True)
    assert story.rules == ["leads an old term"]
    assert "that it leads term 2, and had been answered with term 5" in story.broken[0]


def test_in_real_time_that_is_a_hint() -> None:
    story = Story(virtual=False)
    told_of_a_newer_term(story)
    story.now += 0.3
    story.state(0, 2, True)
    assert not story.broken
    assert story.monitor.hints[0].startswith("server 0 may lead an old term: ")


def test_a_leader_has_a_moment_to_notice(story: Story) -> None:
    told_of_a_newer_term(story)
    story.now += 0.2
    story.state(0, 2, True)
    assert not story.broken


def test_a_leader_may_wait_for_a_round_of_calls(story: Story) -> None:
    waiting = story.send(0, 2, appending(0, 2), PlainReply)
    told_of_a_newer_term(story)
    story.now += 5
    story.state(0, 2, True)
    story.journal.lost(waiting, "disabled")
    story.state(0, 2, True)
    assert not story.broken
    story.now += 0.3
    story.state(0, 2, True)
    assert story.rules == ["leads an old term"]


def test_a_call_of_the_round_may_leave_after_the_reply_to_another(story: Story) -> None:
    told_of_a_newer_term(story)
    waiting = story.send(0, 2, appending(0, 2), PlainReply)
    story.now += 5
    story.state(0, 2, True)
    assert not story.broken
    story.journal.lost(waiting, "disabled")
    story.now += 0.3
    story.state(0, 2, True)
    assert story.rules == ["leads an old term"]


def test_a_round_may_wait_for_a_pool_that_is_busy_with_earlier_calls(story: Story) -> None:
    earlier = story.send(0, 2, appending(0, 2), PlainReply)
    story.now += 0.1
    told_of_a_newer_term(story)
    story.now += 0.2
    story.journal.lost(earlier, "disabled")
    story.now -= 0.008
    story.send(0, 2, appending(0, 2), PlainReply)
    story.now += 5
    story.state(0, 2, True)
    assert not story.broken


def test_calls_of_other_rounds_are_not_waited_for(story: Story) -> None:
    story.send(0, 2, appending(0, 2), PlainReply)
    story.now += 0.1
    told_of_a_newer_term(story)
    story.now += 0.1
    story.send(0, 2, appending(0, 2), PlainReply)
    story.now += 0.2
    story.state(0, 2, True)
    assert story.rules == ["leads an old term"]


def test_another_incarnation_was_not_told(story: Story) -> None:
    told_of_a_newer_term(story)
    story.restart(0)
    story.now += 0.3
    story.state(0, 2, True)
    assert not story.broken


# --- logs ----------------------------------------------------------------------------------------------------------


def test_two_commands_at_one_index_and_term(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a")
    logs.append(1, 2, 3, entries="1x")
    assert logs.rules == ["two commands"]
    assert "entry 1 of term 1 had the command 'a', and from server 1" in logs.broken[0]


def test_a_leader_that_overwrites_its_log(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a")
    logs.append(1, 2, 3, entries="1a 2b")
    logs.append(1, 2, 3, entries="1a 3c")
    assert logs.rules == ["overwrites its log"]
    assert "server 1, leader of term 3, sent entry 2 with term 2" in logs.broken[0]


def test_another_leader_may_overwrite_a_log(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a 1b")
    logs.append(1, 2, 3, entries="1a 3c")
    assert not logs.broken


@pytest.mark.parametrize(
    ("index", "command", "why"),
    [
        (0, "a", "as no entry was sent where Start had put it"),
        (1, "b", "as leaders do not send what Start accepted at the index and term that it returned"),
        (2, "a", "as no entry was sent where Start had put it"),
    ],
)
def test_a_log_that_counts_otherwise_is_not_judged(index: int, command: str, why: str) -> None:
    story = Story()
    story.append(0, 1, 1)
    story.offer(0, command, index, 1)
    story.append(0, 1, 1, entries="1a")
    story.append(1, 2, 3, entries="1x")
    assert not story.broken
    assert story.monitor.unchecked == [f"not checked: logs, {why}"]


def test_start_may_return_after_its_entry_was_sent(story: Story) -> None:
    story.append(0, 1, 1, entries="1a")
    story.offer(0, "a", 1, 1)
    story.append(1, 2, 3, entries="1x")
    assert story.rules == ["two commands"]


def test_a_leader_without_a_committed_entry(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a 1b")
    logs.apply(1, 2, "b")
    logs.append(2, 0, 2, entries="1a 2c")
    assert logs.rules == ["leader lacks a committed entry"]
    assert "server 1 applied 'b' at index 2" in logs.broken[0]
    assert "server 2, leader of the later term 2, sent 'c' there" in logs.broken[0]


def test_a_leader_of_an_older_term_may_lack_it(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a")
    logs.vote(1, 2, 3)
    logs.apply(1, 2, "b")
    logs.send(2, 0, appending(2, 2, entries="1a 2c"), PlainReply)
    assert not logs.broken


def test_what_a_dead_instance_applies_is_not_committed(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a")
    logs.crash(1)
    logs.apply(1, 2, "b")
    logs.append(2, 0, 2, entries="1a 2c")
    assert not logs.broken


def committed(story: Story, term: int = 1) -> None:
    """Entry 1, "a", is committed in a term of server 0, and server 1 has acknowledged it."""
    story.append(0, 1, term, entries="1a")
    story.append(0, 1, term, prev=1, commit=1)


def test_a_vote_for_an_older_log(logs: Story) -> None:
    committed(logs)
    logs.vote(2, 1, term=2, last=(0, 0))
    assert logs.rules == ["vote for an older log"]
    assert re.search(
        r"server 1 voted for 2 in term 2 at \S+ s, whose log ends with entry 0 of term 0; it had acknowledged the "
        r"committed entry 1 of term 1 \(section 5\.4\.1",
        logs.broken[0],
    )


def test_a_voter_that_had_not_acknowledged_it_may_vote(logs: Story) -> None:
    committed(logs)
    logs.vote(1, 2, term=2, last=(0, 0))
    logs.vote(2, 1, term=3, last=(1, 1))
    assert not logs.broken


# --- commitment ----------------------------------------------------------------------------------------------------


def test_a_commit_without_a_majority(logs: Story) -> None:
    logs.send(0, 1, appending(0, 1, entries="1a"), PlainReply)
    logs.append(0, 2, 1, commit=1)
    assert logs.rules == ["commits too early"]
    assert "server 0, leader of term 1, sent LeaderCommit 1" in logs.broken[0]
    assert "when its followers had acknowledged {1: 0, 2: 0} (section 5.4.2" in logs.broken[0]


def test_a_commit_of_an_older_term_by_counting(logs: Story) -> None:
    """Figure 8."""
    logs.append(0, 1, 1, entries="1a")
    logs.append(1, 2, 2)
    logs.append(1, 2, 2, entries="1a")
    logs.append(1, 2, 2, prev=1, commit=1)
    assert logs.rules == ["commits too early"]
    assert "an entry of term 1" in logs.broken[0]


def test_a_commit_of_an_older_term_with_one_of_its_own(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a")
    logs.append(1, 2, 2)
    logs.append(1, 2, 2, entries="1a 2b")
    logs.append(1, 2, 2, prev=2, commit=2)
    assert not logs.broken


def test_a_leader_may_send_what_was_committed_before(logs: Story) -> None:
    """As min(commitIndex, matchIndex), which is less for a peer that has acknowledged nothing yet."""
    logs.append(0, 1, 1, entries="1a")
    logs.append(0, 1, 1, prev=1, commit=1)
    logs.append(1, 2, 2, prev=1, commit=0)
    logs.append(1, 2, 2, prev=1, commit=1)
    assert not logs.broken


def test_a_leader_that_comes_back_may_know_what_it_applied_at_once(logs: Story) -> None:
    """A commitIndex may be kept through a crash."""
    logs.append(0, 1, 1, entries="1a")
    logs.append(0, 1, 1, prev=1, commit=1)
    logs.restart(1)
    logs.apply(1, 1, "a")
    logs.append(1, 2, 2, prev=1, commit=0)
    logs.append(1, 2, 2, prev=1, commit=1)
    assert not logs.broken


def test_a_leader_that_comes_back_and_counts_is_seen(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a")
    logs.append(0, 1, 1, prev=1, commit=1)
    logs.restart(1)
    logs.append(1, 2, 2, prev=1, commit=0)
    logs.apply(1, 1, "a")
    logs.append(1, 2, 2, prev=1, commit=1)
    assert logs.rules == ["commits too early"]


def test_a_snapshot_is_an_acknowledgement(logs: Story) -> None:
    logs.journal.made_snapshot(0, 1, 1, b"s")
    logs.call(0, 1, InstallSnapshotArgs(1, 0, 1, 1, b"s"), InstallSnapshotReply(1))
    logs.append(0, 1, 1, prev=1, entries="1b")
    logs.append(0, 1, 1, prev=2, commit=2)
    assert not logs.broken


@dataclass
class MatchReply:
    Term: int = 0
    Success: bool = False
    MatchIndex: int = 0


def test_a_match_index_counts_for_all_that_had_come(story: Story) -> None:
    heartbeat = story.send(0, 1, appending(0, 1), MatchReply)
    story.offer(0, "a", 1, 1)
    story.call(0, 1, appending(0, 1, entries="1a"), MatchReply(1, True, 0), saves=False)
    story.arrive(heartbeat)
    story.save(1)
    story.answer(heartbeat, MatchReply(1, True, 1))
    story.call(0, 2, appending(0, 1, commit=1), MatchReply(1, True, 0))
    assert story.monitor._counts
    assert not story.broken  # nor of what was not saved: that success was no acknowledgement


@pytest.mark.parametrize(
    ("commit", "why"),
    [
        (1, "not checked: commitment, as LeaderCommit is 1 where nothing is committed"),
        (0, "not checked: commitment, as LeaderCommit goes beyond every log"),
    ],
)
def test_a_leader_commit_that_means_another_thing(commit: int, why: str) -> None:
    story = Story()
    story.append(0, 1, 1, commit=commit)
    story.offer(0, "a", 1, 1)
    story.append(0, 1, 1, entries="1a", commit=commit)
    story.append(0, 1, 1, commit=2)
    assert not story.broken
    assert story.monitor.unchecked == [why]


def test_acknowledgements_that_come_otherwise(logs: Story) -> None:
    @dataclass
    class AckArgs:
        Index: int = 0

    logs.call(1, 0, AckArgs(1), AckArgs())
    logs.send(0, 1, appending(0, 1, entries="1a"), PlainReply)
    logs.append(0, 2, 1, commit=1, saves=False)
    assert not logs.broken
    assert logs.monitor.unchecked == ["not checked: commitment and what was saved, as servers also call Raft.Ack"]


# --- stable storage ------------------------------------------------------------------------------------------------


def test_a_vote_that_was_not_saved(story: Story) -> None:
    story.save(1)
    story.vote(0, 1, 1, saves=False)
    assert story.rules == ["vote not saved"]
    assert "server 1 voted for 0 in term 1" in story.broken[0]


def test_a_vote_that_was_saved_when_first_asked_for(story: Story) -> None:
    lost = story.send(0, 1, RequestVoteArgs(1, 0), RequestVoteReply)
    story.arrive(lost)
    story.crash(1)
    story.save(1)  # while it goes down, and just in time
    story.start(1)
    story.journal.lost(lost, "server gone")
    story.vote(0, 1, 1, saves=False)
    assert not story.broken


def test_in_2a_and_2b_nothing_need_be_saved() -> None:
    story = Story(durable=False)
    story.vote(0, 1, 1, saves=False)
    assert not story.broken


def test_an_entry_that_was_not_saved(logs: Story) -> None:
    logs.append(0, 1, 1, entries="1a", saves=False)
    logs.append(0, 1, 1, prev=1, commit=1)
    assert logs.rules == ["entry not saved"]
    assert "server 1 acknowledged entry 1 of term 1" in logs.broken[0]


def test_an_entry_that_comes_again_was_saved_before(logs: Story) -> None:
    """The same args again, or a part of what came before."""
    late = logs.send(0, 1, appending(0, 1, entries="1a"), PlainReply)
    logs.append(0, 1, 1, entries="1a 1b")
    logs.append(0, 1, 1, entries="1a 1b", saves=False)
    logs.arrive(late)
    logs.answer(late, PlainReply(1, True))
    assert not logs.broken


def test_an_entry_that_a_server_made_as_leader(logs: Story) -> None:
    logs.save(0)
    logs.send(0, 1, appending(0, 1, entries="1a"), PlainReply)
    logs.append(1, 0, 2, entries="1a", saves=False)
    assert not logs.broken


def test_entries_that_a_snapshot_covers(logs: Story) -> None:
    """A message that was late comes after the snapshot."""
    late = logs.send(0, 1, appending(0, 1, entries="1a 1b"), PlainReply)
    logs.call(0, 1, InstallSnapshotArgs(1, 0, 9, 1, b"s"), InstallSnapshotReply(1))
    logs.arrive(late)
    logs.answer(late, PlainReply(1, True))
    assert not logs.broken


# --- names ---------------------------------------------------------------------------------------------------------


def test_fields_are_found_whatever_their_case_and_underscores(story: Story) -> None:
    args = make_dataclass(
        "vote_args", [(n, int, 0) for n in ("term", "candidate_id", "last_log_index", "last_log_term")]
    )
    reply = make_dataclass("vote_reply", [("term", int, 0), ("vote_granted", bool, False)])
    for candidate in (0, 1):
        story.call(candidate, 2, args(5, candidate), reply(5, True), method="request_vote")
    assert story.rules == ["two votes"]
    assert not story.monitor.unchecked


def test_a_field_that_is_missing_is_named_once(story: Story) -> None:
    reply = make_dataclass("VoteReply", [("Term", int, 0), ("Yes", bool, False)])
    for candidate in (0, 1, 0):
        story.call(candidate, 2, RequestVoteArgs(5, candidate), reply(5, True))
    assert not story.broken
    assert story.monitor.unchecked == ["not checked: no field like VoteGranted in VoteReply"]


def test_fields_of_the_log_are_missed_only_where_there_is_one(story: Story) -> None:
    heartbeat = make_dataclass("AppendEntriesArgs", [("Term", int, 0), ("LeaderId", int, 0)])
    story.call(0, 1, heartbeat(1, 0), PlainReply(1, True))
    assert story.monitor.unchecked == []
    story.offer(0, "a", 1, 1)
    assert "not checked: no field like LeaderCommit in AppendEntriesArgs" in story.monitor.unchecked


def test_a_flag_of_ones_own_leaves_votes_unchecked(story: Story) -> None:
    args = make_dataclass("RequestVoteArgs", [("PreVote", bool, False)], bases=(RequestVoteArgs,))
    for candidate in (0, 1):
        story.call(candidate, 2, args(5, candidate), RequestVoteReply(5, True))
    story.call(0, 2, args(9, 0, PreVote=True), RequestVoteReply(9, True))
    story.call(1, 2, args(4, 1), RequestVoteReply(5, False))
    assert not story.broken
    assert story.monitor.unchecked == ["not checked: votes, as RequestVoteArgs has PreVote, which Figure 2 has not"]


def test_a_candidate_id_that_is_none_leaves_votes_unchecked(story: Story) -> None:
    for candidate in (0, 1):
        story.call(candidate, 2, RequestVoteArgs(5, candidate + 1), RequestVoteReply(5, True))
    assert not story.broken
    assert len(story.monitor.unchecked) == 1


@pytest.mark.parametrize("value", ["5", None, 5.0, True])
def test_a_term_of_another_type_is_not_judged(story: Story, value: Any) -> None:
    args = make_dataclass(
        "AppendEntriesArgs", [("Term", Any, None), ("Entries", Any, None), ("PrevLogIndex", Any, None)]
    )
    for leader in (0, 1):
        story.call(leader, 2, args(value, value, value), PlainReply(1, True))
    story.call(0, 2, 7, PlainReply(1, True), method="AppendEntries")
    assert not story.broken


def test_other_methods_are_none_of_the_papers(story: Story) -> None:
    for candidate in (0, 1):
        story.call(candidate, 2, RequestVoteArgs(5, candidate), RequestVoteReply(5, True), method="PreVote")
    assert not story.broken


# --- hints, and whole journals -------------------------------------------------------------------------------------


def test_what_costs_too_much_is_a_hint(logs: Story) -> None:
    for _ in range(20):
        logs.send(0, 2, appending(0, 1), PlainReply)
    logs.journal.made_snapshot(0, 1, 1, b"s")
    logs.append(0, 1, 1, entries="1a")
    logs.send(0, 1, InstallSnapshotArgs(1, 0, 1, 1, b"s"), InstallSnapshotReply)
    assert [hint.partition(":")[0] for hint in logs.monitor.hints] == ["many heartbeats", "needless snapshot"]
    assert not logs.broken


def test_a_journal_can_be_judged_afterwards(story: Story) -> None:
    story.vote(0, 2, term=5)
    story.vote(1, 2, term=5)
    afterwards = Monitor(durable=True, virtual=True)
    judge(story.journal, afterwards)
    assert afterwards.broken == story.monitor.broken


def test_what_is_left_of_a_journal_is_not_judged() -> None:
    journal = Journal(lambda: 0.0, limit=1)
    journal.began_trial(3)
    journal.noted("connect 0")
    with pytest.raises(ValueError, match="1 events of the trial are gone"):
        judge(journal, Monitor(durable=True, virtual=True))


# --- whole Rafts, in virtual time ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("bug", "test", "seeds", "rule"),
    [
        ("forgets_vote", "TestManyElections2A", 3, "two votes"),
        ("leader_ignores_newer_term_in_reply", "TestManyElections2A", 10, "leads an old term"),
        ("half_the_votes_are_enough", "TestReElection2A", 10, "two leaders"),
        ("claims_to_lead_as_candidate", "TestManyElections2A", 5, "two leaders in GetState"),
        ("commits_in_start", "TestBasicAgree2B", 1, "commits too early"),
        ("votes_for_older_logs", "TestFailAgree2B", 10, "vote for an older log"),
        ("longer_log_wins", "TestRejoin2B", 3, "leader lacks a committed entry"),
        ("commits_older_terms_by_counting", "TestPersist12C", 3, "commits too early"),
        ("forgets_the_term_in_a_crash", "TestPersist22C", 5, "older term"),
        ("persists_now_and_then", "TestPersist32C", 3, "vote not saved"),
        ("persists_now_and_then", "TestPersist32C", 3, "entry not saved"),
    ],
)
def test_a_bug_of_the_gallery_breaks_a_rule(bug: str, test: str, seeds: int, rule: str) -> None:
    assert any(rule in watched(BROKEN / f"{bug}.py", test, seed).rules for seed in range(seeds))


VARIANTS = {
    "sends min(commitIndex, matchIndex)": """
    def entriesSender(self, peer):
        known, self.commitIndex = self.commitIndex, min(self.commitIndex, self.matchIndex[peer])
        try:
            return super().entriesSender(peer)
        finally:
            self.commitIndex = known
""",
    "leaves the term out of a success": """
    def AppendEntries(self, args, reply):
        super().AppendEntries(args, reply)
        if reply.Success:
            reply.Term = 0
    def RequestVote(self, args, reply):
        super().RequestVote(args, reply)
        if reply.VoteGranted:
            reply.Term = 0
""",
    "fills the term in before it follows": """
    def AppendEntries(self, args, reply):
        with self.mu:
            term = self.currentTerm
        super().AppendEntries(args, reply)
        if reply.Success:
            reply.Term = min(term, reply.Term)
""",
    "sends the same args again": """
    def __init__(self, peers, *rest):
        super().__init__([Again(peer) for peer in peers], *rest)
""",
}

TOP = """
class Again:
    def __init__(self, end):
        self.end = end
    def Call(self, method, args, reply):
        return any(self.end.Call(method, args, reply) for _ in range(3))
"""

TESTS = [
    "TestManyElections2A",
    "TestBackup2B",
    "TestPersist12C",
    "TestFigure82C",
    "TestUnreliableAgree2C",
    "TestSnapshotInstallUnreliable2D",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_right_raft_of_another_style_breaks_none(tmp_path: Path, variant: str, test: str) -> None:
    raft = tmp_path / "variant.py"
    raft.write_text(VARIANT.format(top=TOP, body=VARIANTS[variant]))
    run = watched(raft, test, seed=1)
    assert (run.failure, run.monitor.broken, run.monitor.unchecked) == (None, [], [])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "tests", "unchecked"),
    [
        ("prevote_by_flag", TESTS, ["not checked: votes, as RequestVoteArgs has PreVote, which Figure 2 has not"]),
        ("prevote_by_method", TESTS, []),
        ("joins_its_rounds", TESTS[:1], []),
        (
            "group_commit",
            TESTS[:5],
            ["not checked: votes for older logs and saving of entries, as successes say something of their own"],
        ),
    ],
)
def test_a_right_raft_of_staffs_breaks_none(name: str, tests: list[str], unchecked: list[str]) -> None:
    for test in tests:
        run = watched(RIGHT / f"{name}.py", test, seed=1)
        assert (run.failure, run.monitor.broken) == (None, [])
        assert run.monitor.unchecked == ([] if test.endswith("2A") and name == "group_commit" else unchecked)


@pytest.mark.filterwarnings("ignore")
def test_names_in_snake_case_are_bound(tmp_path: Path) -> None:
    source = (BROKEN / "_plain.py").read_text()
    for message in ("RequestVoteArgs", "RequestVoteReply", "AppendEntriesArgs", "AppendEntriesReply", "LogEntry"):
        for name in re.search(rf"class {message}:\n((?:    \w.*\n)+)", source)[1].split("\n"):  # type: ignore[index]
            field_name = name.partition(":")[0].strip()
            snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", field_name).lower()
            source = re.sub(rf"(?<=[.\s]){field_name}(?=\b[^(\w])", snake, source) if field_name else source
    raft = tmp_path / "snake.py"
    raft.write_text(source + "\n\ndef Make(*args):\n    return make(Raft, *args)\n")
    run = watched(raft, "TestBackup2B", seed=1)
    assert "leader_commit" in source
    assert (run.failure, run.monitor.broken, run.monitor.unchecked) == (None, [], [])


UNCHECKED = {
    "events": [
        "not checked: votes for older logs and saving of entries, as successes say something of their own",
    ],
    "timers": [
        "not checked: what is in logs, as AppendEntriesArgs says of no class with Term and Command in its entries",
        "not checked: logs, as no entry was sent where Start had put it",
    ],
}
"""By style, what cannot be judged of its messages."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("test", [*TESTS, "TestFigure8Unreliable2C"])
@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.stem)
def test_a_style_breaks_none(style: Path, test: str) -> None:
    run = watched(style, test, seed=1)
    assert (run.failure, run.monitor.broken) == (None, [])
    assert run.monitor.unchecked == ([] if test.endswith("2A") else UNCHECKED.get(style.stem, []))


def with_another_method(source: str) -> str:
    return source.replace('"Raft.AppendEntries"', '"Raft.Replicate"').replace("def AppendEntries(", "def Replicate(")


def nested(source: str) -> str:
    """The message is a field of another one."""
    wrapped = "@dataclass\nclass Wrapped:\n    Body: AppendEntriesArgs = field(default_factory=AppendEntriesArgs)\n\n\n"
    source = source.replace("@dataclass\nclass AppendEntriesReply:", f"{wrapped}@dataclass\nclass AppendEntriesReply:")
    source = source.replace('"Raft.AppendEntries", args, reply', '"Raft.AppendEntries", Wrapped(args), reply')
    head = "def AppendEntries(self, args, reply):\n"
    return source.replace(head, f"{head}        args = args.Body\n")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "unchecked"),
    [
        (
            with_another_method,
            {
                "not checked: commitment and what was saved, as servers also call Raft.Replicate",
                "not checked: logs, as no entry was sent where Start had put it",
            },
        ),
        (nested, {"not checked: no field like Term in Wrapped", "not checked: no field like PrevLogIndex in Wrapped"}),
    ],
)
def test_messages_that_are_not_the_papers_are_named_as_not_checked(
    tmp_path: Path, change: Callable[[str], str], unchecked: set[str]
) -> None:
    plain = (BROKEN / "_plain.py").read_text()
    assert change(plain) != plain
    raft = tmp_path / "other.py"
    raft.write_text(change(plain) + "\n\ndef Make(*args):\n    return make(Raft, *args)\n")
    for test in ("TestManyElections2A", "TestBackup2B"):
        run = watched(raft, test, seed=1)
        assert (run.failure, run.monitor.broken) == (None, [])
    assert unchecked <= set(run.monitor.unchecked)
