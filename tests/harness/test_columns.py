"""labwatch.columns: what happened in a trial, as text."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

import labgob
from labrpc import Loss, Request
from labwatch import Journal
from labwatch.columns import columns, painted
from raft.api import ApplyMsg


@dataclass
class Entry:
    Term: int = 0
    Command: Any = None


@dataclass
class RequestVoteArgs:
    Term: int = 0
    CandidateId: int = 0


@dataclass
class RequestVoteReply:
    Term: int = 0
    VoteGranted: bool = False


@dataclass
class OtherReply:
    Term: int = 0
    Agreed: bool = False


@dataclass
class AppendEntriesArgs:
    Term: int = 0
    PrevLogIndex: int = 0
    PrevLogTerm: int = 0
    Entries: list[Entry] = field(default_factory=list)
    LeaderCommit: int = 0


@dataclass
class AppendEntriesReply:
    Term: int = 0
    Success: bool = False


class End:
    def __init__(self, endname: str) -> None:
        self.endname = endname


class Story:
    """A trial that a test makes up; each event takes 2 ms, and `later` some more."""

    def __init__(self, servers: int = 3) -> None:
        self.now = 0.0
        self.servers = servers
        self.calls = itertools.count(1)
        self.journal = Journal(self.tick)
        self.journal.began_trial(servers)
        for server in range(servers):
            self.journal.started(server, 1, [f"{server} to {to}" for to in range(servers)])
        for server in range(servers):
            self.journal.connected(server, True)

    def tick(self) -> float:
        self.now += 0.002
        return self.now

    def later(self, seconds: float) -> None:
        self.now += seconds

    def call(self, server: int, to: int, args: Any, reply: Any, lost: Loss | None = None, takes: float = 0.0) -> None:
        end: Any = End(f"{server} to {to}")
        method = f"Raft.{type(args).__name__.removesuffix('Args')}"
        request = Request(end, method, type(args), labgob.encode(args), type(reply), next(self.calls))
        self.journal.sent(request)
        if lost in (None, "reply dropped"):
            self.journal.ended(request, labgob.encode(reply))
        self.later(takes)
        if lost:
            self.journal.lost(request, lost)
        else:
            self.journal.delivered(request, labgob.encode(reply))

    def heartbeat(self, server: int, to: int, term: int, lost: Loss | None = None) -> None:
        self.call(server, to, AppendEntriesArgs(term), AppendEntriesReply(term, True), lost)

    def lines(self, width: int = 100, **how: Any) -> list[str]:
        """Without the times, and without what begins each story."""
        return [line[10:] for line in columns(self.journal, width=width, **how)[1 + 2 * self.servers :]]


@pytest.fixture
def story() -> Story:
    return Story()


def test_an_election_and_heartbeats_that_are_counted(story: Story) -> None:
    story.call(1, 0, RequestVoteArgs(1, 1), RequestVoteReply(1, True))
    story.call(1, 2, RequestVoteArgs(1, 1), RequestVoteReply(1), lost="request dropped")
    for _ in range(4):
        story.heartbeat(1, 0, 1)
        story.heartbeat(1, 2, 1, "disabled")
    story.journal.noted("checkTerms: {0: 1, 1: 1}")
    assert story.lines() == [
        "|                             |CANDIDATE of term 1, asks    |",
        "|                             |  for votes -> 0: yes, 2:    |",
        "|                             |  lost                       |",
        "|votes for 1 in term 1        |                             |",
        "|                             |LEADER of term 1, heartbeat  |",
        "|                             |  -> 0: ok                   |",
        "|follows 1 in term 1          |                             |",
        "|                             |heartbeats -> 0: 3 ok, 2: 4  |",
        "|                             |  lost                       |",
        "-- checkTerms: {0: 1, 1: 1}",
    ]


def test_what_becomes_of_entries_and_commands(story: Story) -> None:
    entries = [Entry(1, "a"), Entry(2, "b")]
    story.journal.took(0, 1, "b", (2, 2, True))
    story.call(0, 1, AppendEntriesArgs(2, 0, 0, entries), AppendEntriesReply(2, True), takes=0.5)
    story.call(0, 2, AppendEntriesArgs(2, 1, 1, entries[1:], 1), AppendEntriesReply(3))
    story.call(0, 1, AppendEntriesArgs(2, 1, 1, entries[1:], 1), AppendEntriesReply(2, True), lost="reply dropped")
    for index, command in enumerate("abc", 1):
        story.journal.applied(1, 1, ApplyMsg(CommandValid=True, Command=command, CommandIndex=index))
    story.later(0.1)
    story.journal.applied(1, 1, ApplyMsg(CommandValid=True, Command="d", CommandIndex=4))
    cells = [[cell.strip() for cell in line.split("|")[1:]] for line in story.lines(width=370)]
    assert cells == [
        ["Start('b'): index 2, term 2", "", ""],
        ["LEADER of term 2, entries 1 to 2 of terms 1, 2 -> 1: ok, 0.50 s late", "", ""],
        ["", "follows 0 in term 2", ""],
        [
            "commit 1, entry 2 of term 2 ('b') behind 1 of term 1 -> 2: no, term 3, 1: answer lost (ok)",
            "",
            "",
        ],
        ["", "", "term 3"],
        ["", "applies 1 to 3: ... 'c'", ""],
        ["", "applies 4: 'd'", ""],
    ]


def test_the_bars_tell_who_is_connected_and_who_is_down(story: Story) -> None:
    story.journal.connected(0, False)
    story.journal.crashed(1)
    story.journal.noted("crash 1")
    story.journal.started(1, 2, ["x", "y", "z"])
    assert story.lines() == [
        ":CUT OFF                      |                             |",
        ":                             |CRASHES                      |",
        ":                             :starts again                 |",
    ]


def test_prints_deaths_and_the_failure(story: Story) -> None:
    story.journal.printed(2, "hello")
    story.journal.printed(None, "who?")
    story.journal.died(0, "ticker", "ValueError: x", "in tick, /home/alice/raft.py:7")
    story.journal.failed("thread 'ticker' died: ValueError: x\nand more", True)
    assert story.lines() == [
        "|                             |                             |>> hello",
        ">> who?",
        "|DIED: thread ticker:         |                             |",
        "|  ValueError: x in tick,     |                             |",
        "|  raft.py:7                  |                             |",
        "FAILED in the background: thread 'ticker' died: ValueError: x",
    ]


def test_marks_stand_at_their_time(story: Story) -> None:
    story.later(1.0)
    story.journal.noted("one")
    story.later(1.0)
    story.journal.noted("two")
    assert story.lines(marks=[(1.5, "PAPER: two votes")]) == ["-- one", "PAPER: two votes", "-- two"]


def test_what_happens_once_servers_are_killed_is_left_out(story: Story) -> None:
    story.journal.failed("enough", False)
    story.journal.ended_trial()
    story.journal.noted("LEAK somewhere")
    assert story.lines() == ["FAILED: enough"]


@pytest.mark.parametrize("servers", [3, 5, 7])
def test_every_line_fits_the_width_and_prints(servers: int) -> None:
    story = Story(servers)
    hostile = [
        "\033[2J\x07bell",
        "\u202eright to left",
        "x" * 5000,
        "\ud800",
        "tab\tand\x00nul",
        "日本語" * 50,
        "| : <b>",
    ]
    for text in hostile:
        story.journal.printed(1, text)
        story.journal.noted(text)
        story.journal.died(0, text, text, text)
        story.call(0, 1, RequestVoteArgs(1), OtherReply(1, True))
        story.journal.took(0, 1, text, (1, 1, True))
    for width in (60, 80, 133):
        for line in columns(story.journal, width=width):
            assert line.isprintable()
            assert len(line) <= width


def test_many_servers_have_a_lane_each() -> None:
    story = Story(5)
    story.heartbeat(3, 1, 1)
    story.journal.connected(2, False)
    assert columns(story.journal, width=80)[0] == "     time 0 1 2 3 4"
    assert story.lines(width=80) == [
        "| | | * |  3: LEADER of term 1, heartbeat -> 1: ok",
        "| * | | |  1: follows 3 in term 1",
        "| | * | |  2: CUT OFF",
    ]


def test_a_terminal_has_the_lines_before_the_failure_and_is_told_of_the_rest(story: Story) -> None:
    for i in range(100):
        story.journal.noted(f"before {i}")
    story.heartbeat(2, 0, 4)
    story.journal.failed("this", True)
    for i in range(100):
        story.journal.noted(f"after {i}")
    first, second, *lines, last = columns(story.journal, width=100, last=30)
    assert re.match(r"\(\d+ lines before these", first)
    assert "server 0" in second
    assert len(lines) <= 30
    assert any("FAILED in the background: this" in line for line in lines[-6:])
    assert re.fullmatch(r"\(\d+ lines after these\)", last)


def test_a_field_of_another_name_is_shown_as_it_is_and_not_taken_for_a_refusal(story: Story) -> None:
    story.call(0, 1, RequestVoteArgs(1), OtherReply(1, True))
    assert "asks for votes -> 1: {'Term': 1, 'Agreed': True}" in re.sub(r"[|\s]+", " ", " ".join(story.lines()))


def test_of_a_ring_the_gap_is_named() -> None:
    journal = Journal(lambda: 0.0, limit=2)
    for text in "abc":
        journal.noted(text)
    assert columns(journal, width=80)[0] == "(the first 1 events are not kept)"


def test_paint_changes_nothing_but_colour() -> None:
    for line in (
        "    1.000 |LEADER of term 1, heartbeat -> 0: ok",
        "    2.000 FAILED: x",
        "    1.0 |>> a print   |x",
        "plain",
    ):
        assert re.sub("\033\\[[0-9;]*m", "", painted(line)) == line
    assert painted("    2.000 FAILED: x") == "    2.000 \033[1;31mFAILED: x\033[0m"
