"""What a picture is made of (labwatch.picture): roles and terms, what messages say, alarms; and the page as a file."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from labwatch.journal import Said, Took
from labwatch.picture import MOST_DATA, ours, page
from labwatch.picture.data import Trial
from watched import BROKEN, REPOSITORY, Watched, watched

RAFT = REPOSITORY / "raft/raft.py"


class Story:
    """A journal written by hand: each verb adds events, a millisecond apart, and more where the story waits."""

    def __init__(self, servers: int = 3, **head: Any) -> None:
        self.lines: list[dict[str, Any]] = [{"schema": 1, "dropped": 0, **head}]
        self.t = 0.0
        self._numbers = itertools.count(1)
        self._calls = itertools.count(1)
        self.add("begin", servers=servers)
        for server in range(servers):
            self.add("start", server=server, incarnation=1)

    def add(self, kind: str, **fields: Any) -> int:
        number = next(self._numbers)
        self.t += 0.001
        self.lines.append({"n": number, "t": round(self.t, 3), "kind": kind, **fields})
        return number

    def of(self, server: int, kind: str, incarnation: int = 1, **fields: Any) -> int:
        return self.add(kind, server=server, incarnation=incarnation, **fields)

    def sends(self, server: int, to: int, method: str, *, incarnation: int = 1, **args: Any) -> int:
        call = next(self._calls)
        self.of(server, "sent", incarnation, call=call, to=to, method=f"Raft.{method}", args=args)
        return call

    def answers(self, server: int, to: int, call: int, *, delivered: bool = True, **reply: Any) -> int:
        """Server `to` answers the call of `server`; the number of the last event."""
        for kind in ("reached", "began"):
            self.of(to, kind, call=call)
        self.of(to, "ended", call=call, reply=reply)
        self.of(to, "replied", call=call)
        if delivered:
            return self.of(server, "delivered", call=call, reply=reply)
        return self.of(server, "lost", call=call, why="reply dropped")

    def elects(self, server: int, term: int, voters: list[int], absent: list[int]) -> dict[int, int]:
        """A server asks all others for their votes, and sends heartbeats; by voter, the number of its vote's arrival."""
        calls = {to: self.sends(server, to, "RequestVote", Term=term, CandidateId=server) for to in [*voters, *absent]}
        votes = {to: self.answers(server, to, calls[to], Term=term, VoteGranted=True) for to in voters}
        for to in absent:
            self.of(server, "lost", call=calls[to], why="disabled")
        for to in voters:
            self.answers(server, to, self.sends(server, to, "AppendEntries", Term=term), Term=term, Success=True)
        return votes

    def says(self, server: int, term: int, leads: bool) -> None:
        self.of(server, "asked")
        self.of(server, "said", term=term, leads=leads)

    def trial(self) -> Trial:
        return Trial.of(self.lines)

    def roles(self, server: int) -> list[str]:
        return [f"{s.role} {s.term}" for s in self.trial().stretches if s.server == server]


def shown(page: str) -> dict[str, Any]:
    """The data in a page."""
    found = re.search('<script id="data"[^>]*>([^<]*)</script>', page)
    assert found
    data: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return data


def two_votes() -> Story:
    """Server 0 votes for 2 and for 4 in term 7. Their heartbeats go on, and nobody notices."""
    story = Story(servers=5, test="TestManyElections2A", seed=7, mode="virtual", repeat="pytest -m 2A --sim --seed 7")
    story.add("noted", text="begin Test (2A): multiple elections")
    story.elects(1, 6, [0, 2, 3, 4], [])
    story.t += 0.3
    story.of(1, "connect", yes=False)
    story.t += 0.4
    first = story.elects(2, 7, [0, 3], [1, 4])
    story.says(2, 7, True)
    story.add("noted", text="checkOneLeader: 2 of {0: (7, False), 2: (7, True)}")
    story.of(2, "connect", yes=False)
    story.t += 0.15
    second = story.elects(4, 7, [0, 3], [1, 2])
    story.says(4, 7, True)
    story.t += 0.3
    story.add("end")
    story.lines[0]["broken"] = [
        {
            "rule": "two votes",
            "message": "server 0 voted for 2 and for 4, both in term 7 (Figure 2, RequestVote, rule 2)",
            "t": story.lines[second[0]]["t"],
            "events": [first[0], second[0]],
        }
    ]
    return story


def header(w: Watched, test: str) -> dict[str, Any]:
    """What labrun says of a trial in the header of its journal."""
    broken = [{"rule": b.rule, "message": b.message, "t": b.time, "events": list(b.events)} for b in w.monitor.broken]
    message = str(w.failure) if w.failure else ""
    return {"test": test, "seed": 1, "mode": "virtual", "message": message, "broken": broken, "repeat": "pytest --sim"}


# --- roles and terms ---


def test_a_role_is_unknown_until_something_shows_it():
    story = Story()
    story.says(0, 1, False)
    story.add("end")
    assert story.roles(0) == ["unknown 0", "follower 1"]
    assert story.roles(1) == ["unknown 0"]


def test_whoever_asks_for_votes_is_a_candidate_and_leads_once_it_sends_entries():
    story = Story()
    call = story.sends(0, 1, "RequestVote", Term=1, CandidateId=0)
    story.answers(0, 1, call, Term=1, VoteGranted=True)
    story.sends(0, 1, "AppendEntries", Term=1)
    story.sends(0, 2, "RequestVote", Term=1, CandidateId=0)  # a thread that is late
    story.add("end")
    assert story.roles(0) == ["unknown 0", "candidate 1", "leader 1"]
    assert story.roles(1) == ["unknown 0", "follower 1"]


def test_a_leader_that_was_told_of_a_newer_term_is_unknown_until_it_shows_what_it_made_of_that():
    story = Story()
    call = story.sends(0, 1, "append_entries", term=1)
    story.answers(0, 1, call, term=5)
    story.says(1, 5, False)
    assert story.roles(0) == ["unknown 0", "leader 1", "unknown 1"]
    assert [s.told for s in story.trial().stretches if s.server == 0] == [0, 0, 5]
    story.says(0, 5, False)
    story.add("end")
    assert story.roles(0)[-1] == "follower 5"


def test_what_a_server_was_before_does_not_hide_what_it_has_become():
    story = Story()
    story.of(0, "asked")
    story.sends(0, 1, "RequestVote", Term=7)
    story.of(0, "said", term=6, leads=False)  # it was asked before
    story.add("end")
    assert story.roles(0) == ["unknown 0", "candidate 7"]


def test_a_term_falls_if_GetState_says_so_that_was_asked_for_later():
    story = Story()
    story.says(0, 6, True)
    story.says(0, 2, False)
    story.add("end")
    assert story.roles(0) == ["unknown 0", "leader 6", "follower 2"]


def test_a_crashed_instance_shows_nothing_any_more_and_the_next_one_begins_unknown():
    story = Story()
    story.says(0, 3, True)
    story.of(0, "crash")
    story.sends(0, 1, "AppendEntries", Term=3)
    story.add("start", server=0, incarnation=2)
    story.sends(0, 1, "AppendEntries", Term=3)
    story.says(1, 3, False)
    story.add("end")
    assert story.roles(0) == ["unknown 0", "leader 3", "unknown 0"]
    assert story.trial().lanes[0].down == [[7000, 9000]]


def test_an_answer_that_was_lost_shows_its_server_all_the_same_and_a_handler_that_died_with_it_does_not():
    story = Story()
    call = story.sends(0, 1, "AppendEntries", Term=4)
    story.answers(0, 1, call, delivered=False, Term=4, Success=True)
    call = story.sends(0, 2, "AppendEntries", Term=4)
    story.of(2, "began", call=call)
    story.of(2, "ended", call=call, reply={"Term": 4, "Success": True})
    story.of(0, "lost", call=call, why="server gone")
    story.add("end")
    assert story.roles(1) == ["unknown 0", "follower 4"]
    assert story.roles(2) == ["unknown 0"]


def test_a_vote_request_with_fields_of_the_solutions_own_makes_no_candidate():
    story = Story()
    story.sends(0, 1, "RequestVote", Term=4, PreVote=True)
    story.add("end")
    assert story.roles(0) == ["unknown 0"]


def test_what_comes_after_the_end_is_not_drawn():
    story = Story()
    story.add("end")
    story.says(0, 1, True)
    assert story.roles(0) == ["unknown 0"]


@pytest.mark.parametrize("test", ["TestManyElections2A", "TestFigure82C"])
def test_of_the_shipped_raft_no_two_lead_in_one_term_and_leaders_are_those_that_say_so(test):
    w = watched(RAFT, test, 3)
    trial = Trial.of(map(json.loads, w.journal.lines()))
    leads: dict[int, set[int]] = {}
    for s in trial.stretches:
        if s.role == "leader":
            leads.setdefault(s.term, set()).add(s.server)
    assert leads
    assert all(len(servers) == 1 for servers in leads.values())
    said = [e for e in w.journal.events if isinstance(e, (Said, Took)) and e.leads]
    assert said
    for e in said:
        now = [s for s in trial.stretches if s.server == e.server and s.begin <= e.time * 1e6 + 1 <= s.end + 2]
        assert ("leader", e.term) in [(s.role, s.term) for s in now]


# --- elections, messages, alarms ---


def test_an_election_tells_who_granted_refused_was_out_of_reach_and_never_answered():
    story = Story(servers=5)
    calls = [story.sends(0, to, "RequestVote", Term=2, CandidateId=0) for to in (1, 2, 3, 4)]
    story.answers(0, 1, calls[0], Term=2, VoteGranted=True)
    story.answers(0, 2, calls[1], Term=2)
    story.of(0, "lost", call=calls[2], why="disabled")
    [election] = story.trial().elections
    assert (election.server, election.term) == (0, 2)
    assert [election.granted, election.refused, election.lost, election.waiting] == [[1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("method", "args", "kind", "label"),
    [
        ("RequestVote", {"Term": 3}, "vote", "vote?, term 3"),
        ("AppendEntries", {"Term": 3, "LeaderCommit": 7}, "heartbeat", "heartbeat, term 3, commit 7"),
        ("AppendEntries", {"Term": 3, "PrevLogIndex": 4, "Entries": [{"Term": 2}]}, "entries", "entry 5 of term 2"),
        ("append_entries", {"entries": [{"term": 1}, {"term": 3}]}, "entries", "entries 1 to 2 of terms 1 to 3"),
        ("AppendEntries", {"Entries": [{"Term": 1}] * 200 + ["... of 500"]}, "entries", "entries 1 to 500 of term 1"),
        ("InstallSnapshot", {"Term": 3, "LastIncludedIndex": 9}, "snapshot", "snapshot to 9, term 3"),
        ("PreVote", {"Term": 3}, "other", "PreVote"),
        ("AppendEntries", "7 bytes", "heartbeat", "heartbeat"),
    ],
)
def test_a_message_says_what_it_asks(method, args, kind, label):
    story = Story()
    call = story.sends(0, 1, method)
    story.lines[-1]["args"] = args
    [message] = story.trial().messages
    assert (message.kind, message.label) == (kind, label)
    assert call == 1


def test_a_broken_rule_and_the_events_that_it_names_become_an_alarm_on_their_messages():
    story = Story()
    call = story.sends(0, 1, "RequestVote", Term=2)
    sent = len(story.lines) - 1
    story.answers(0, 1, call, Term=2, VoteGranted=True)
    delivered = len(story.lines) - 1
    story.lines[0]["broken"] = [{"rule": "x", "message": "server 1 ...", "t": 0.009, "events": [sent, delivered, 4711]}]
    [alarm] = story.trial().alarms
    assert (alarm.kind, alarm.time, alarm.text) == ("paper", 9000, "server 1 ...")
    assert [(place.n, place.server) for place in alarm.shows] == [(sent, 0), (sent, 0)]


def test_the_failure_stands_where_the_test_noted_it():
    story = Story(message="expected one leader, got none: at 5.0 s\nand more")
    story.add("noted", text="checkOneLeader: ...")
    noted = story.add("noted", text="FAILED expected one leader")
    story.add("noted", text="the test ends here: LabFailure; its threads are")
    story.add("noted", text="    server 0 ticker: in Raft.ticker, raft.py:7")
    story.add("end")
    trial = story.trial()
    [alarm] = trial.alarms
    assert (alarm.kind, alarm.time, alarm.text) == ("failure", noted * 1000, "expected one leader, got none: at 5.0 s")
    assert alarm.detail.endswith("and more")
    assert trial.threads == ["server 0 ticker: in Raft.ticker, raft.py:7"]


@pytest.mark.parametrize("cause", ["race", "paper"])
def test_a_race_or_a_broken_rule_that_is_the_failure_is_one_alarm_and_no_second_one(cause):
    race = {"summary": "x: read / write", "owner": "server 2", "t": 0.003, "report": "DATA RACE ..."}
    story = Story(message="failed", cause=cause, races=[race], broken=[{"message": "server 1 ...", "t": 0.002}])
    alarms = story.trial().alarms
    assert [(alarm.kind, alarm.time) for alarm in alarms] == [("paper", 2000), ("race", 3000)]
    assert [(place.server, place.time) for place in alarms[1].shows] == [(2, 3000)]


def test_two_commands_at_one_index_are_an_alarm_whatever_the_lab_says():
    story = Story()
    story.of(0, "applied", index=1, command=11)
    story.of(1, "applied", index=1, command=11)
    story.of(2, "applied", index=1, command=12)
    [alarm] = story.trial().alarms
    assert alarm.text == "server 2 applied 12 at index 1, where server 0 had applied 11 at 0.005 s"


def test_prints_and_deaths_are_marks_of_their_server_or_part_of_the_story_where_it_is_unknown():
    story = Story()
    story.add("printed", server=1, text="I lead")
    story.add("printed", text="who says this?")
    story.add("died", server=2, thread="ticker", what="KeyError: 3", where="raft.py:9")
    trial = story.trial()
    assert [(m.server, m.kind, m.text) for m in trial.marks] == [
        (1, "printed", "I lead"),
        (2, "died", "ticker died: KeyError: 3, raft.py:9"),
    ]
    assert [text for _, _, text in trial.story] == ["prints: who says this?"]


def test_a_ring_that_has_lost_its_beginning_is_drawn_from_where_it_begins():
    story = Story(message="x")
    call = story.sends(0, 1, "AppendEntries", Term=2)
    story.answers(0, 1, call, Term=2, Success=True)
    story.says(0, 2, True)
    story.lines[1:7] = []  # the beginning, and the request
    story.add("end")
    trial = story.trial()
    assert trial.messages == []
    assert story.roles(0) == ["unknown 0", "leader 2"]
    assert trial.begin == 7000


# --- the page ---


class Parsed(HTMLParser):
    """The elements of a page, and what its script and style elements hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.code: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag in self.code and data.strip():
            self.code[self.lasttag].append(data)


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u2028'\"`${alert(1)}",
    "]]>-->",
    "\ud800",
    "{{data}}",
]


def hostile() -> Iterator[str]:
    """A journal in which every text is hostile."""
    for text in HOSTILE:
        story = Story(
            test=text, message=text, repeat=text, solution=text, causes=[text], broken=[{"message": text, "t": 0.01}]
        )
        call = story.sends(0, 1, text, Term=1, **{text: text})
        story.answers(0, 1, call, **{text: [text]})
        story.add("printed", server=0, text=text)
        story.add("noted", text=text)
        story.of(0, "applied", index=1, command=text)
        yield page(map(json.dumps, story.lines))


def test_what_a_submission_wrote_is_no_markup_of_the_page():
    plain = Parsed(page([]))
    for made in hostile():
        parsed = Parsed(made)
        assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in plain.tags]
        assert "alert(1)" not in re.sub("<title>.*?</title>", "", made)


def test_a_policy_allows_the_pages_own_code_and_nothing_else():
    made = page([])
    parsed = Parsed(made)
    [policy] = [
        a["content"] for tag, a in parsed.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy
    assert policy.startswith("default-src 'none';")
    style = parsed.code["style"][0]
    script, loader = parsed.code["script"][0], parsed.code["script"][-1]
    inner = zlib.decompress(base64.b64decode(script)).decode()
    for code in (style, loader, inner):
        assert base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() in policy
    assert policy.count("sha256-") == 3
    assert "unsafe" not in policy
    assert not [a for _, a in parsed.tags if "src" in a or "href" in a or "style" in a]


def test_a_page_has_at_most_60_KB_besides_its_trial():
    assert len(page([]).encode()) <= 60_000


def test_what_would_be_too_large_is_left_out_from_the_beginning_and_the_page_says_so(monkeypatch):
    monkeypatch.setattr("labwatch.picture.MOST_DATA", 5000)
    w = watched(RAFT, "TestManyElections2A", 1)
    made = page(w.journal.lines(test="TestManyElections2A"))
    data = shown(made)
    assert len(re.search('<script id="data"[^>]*>([^<]*)<', made)[1]) <= 5000  # type: ignore[index]
    assert data["left_out"] > 0
    assert data["messages"]["n"]
    assert data["begin"] > 0


def test_the_longest_test_of_the_lab_makes_a_page_of_less_than_2_MB():
    w = watched(RAFT, "TestReliableChurn2C", 1)
    made = page(w.journal.lines(test="TestReliableChurn2C"))
    assert len(made) < 2_000_000
    assert shown(made)["left_out"] == 0
    assert MOST_DATA < 2_000_000


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["[]"],
        ["{}"],
        ["nonsense"],
        ['{"schema": 1}', '{"n": 1, "t": 1e400, "kind": "begin", "servers": 1e9}'],
        ["[" * 5000],
    ],
    ids=["nothing", "empty", "list", "dict", "text", "numbers", "deep"],
)
def test_whatever_a_file_holds_a_page_comes_out(lines):
    assert shown(page(lines))["messages"]["n"] == []


def test_a_journal_of_another_kind_than_ours_cannot_make_the_page_larger_than_it_may_be():
    events = [{"n": k, "t": k, "kind": "start", "server": 10**9 * k, "incarnation": 1} for k in range(50)]
    assert shown(page(map(json.dumps, [{"schema": 1}, *events])))["servers"] <= 99


def test_a_broken_raft_and_its_broken_rule_are_in_the_page_with_the_messages_that_do_not_agree():
    trials = (watched(BROKEN / "forgets_vote.py", "TestManyElections2A", seed) for seed in range(1, 60))
    w = next(w for w in trials if any("voted for" in b.message for b in w.monitor.broken))
    data = shown(page(w.journal.lines(**header(w, "TestManyElections2A"))))
    alarm = next(a for a in data["alarms"] if "voted for" in a["text"])
    messages = data["messages"]
    rows = [messages["n"].index(place["n"]) for place in alarm["shows"]]
    assert len(rows) == 2
    assert {messages["kind"][row] for row in rows} == {"vote"}
    assert len({messages["server"][row] for row in rows}) == 2
    assert len({messages["term"][row] for row in rows}) == 1
    assert data["texts"][messages["answer"][rows[1]]] == "granted"


# --- somebody else's page ---


def test_of_somebody_elses_page_only_the_data_is_taken():
    story = two_votes()
    made = page(map(json.dumps, story.lines))
    hostile = made.replace("<body>", "<body><script>alert(1)</script>").replace("default-src 'none'", "default-src *")
    assert ours(hostile, "TestManyElections2A") == made


@pytest.mark.parametrize(
    "data",
    ["", "AAAA", "A", "<b>", base64.b64encode(zlib.compress(b"0" * 60_000_000)).decode()],
    ids=["nothing", "not compressed", "not base64", "markup", "a bomb"],
)
def test_what_holds_no_trial_is_no_picture(data):
    with pytest.raises(ValueError, match="this picture|no picture|base64|padding|padded"):
        ours(f'<script id="data">{data}</script>', "x")
