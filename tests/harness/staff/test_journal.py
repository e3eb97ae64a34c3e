"""labwatch.journal: what a trial tells an observer, in which order, and the file that it makes."""

from __future__ import annotations

import json
import math
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import labgob
from conftest import REPOSITORY
from labrpc import ClientEnd, MakeNetwork, MakeServer, MakeService, Network
from labwatch import Journal
from labwatch.journal import SCHEMA, Connect, Sent, as_json
from raft.api import ApplyMsg
from raft.config import Config, LabFailure, Trial
from raft.persister import Persister
from watched import watched

RAFT = REPOSITORY / "raft/raft.py"


@dataclass
class Args:
    X: int = 0
    Y: list[int] = field(default_factory=list)


class Raft:
    """One that does what it is told."""

    def __init__(self, peers: list[ClientEnd], me: int, persister: Persister, applyCh: Any) -> None:
        self.peers, self.me, self.persister, self.applyCh = peers, me, persister, applyCh

    def GetState(self) -> Any:
        return 3, False

    def Start(self, command: Any) -> Any:
        return (-1, 3, False) if command != "nonsense" else 7

    def Kill(self) -> None: ...

    def Hello(self, args: Args, reply: Args) -> None:
        if args.X == 13:
            raise ValueError("unlucky")
        reply.X = args.X + 1


@pytest.fixture
def journal() -> Journal:
    return Journal(lambda: 0.0)


@pytest.fixture
def cfg(journal: Journal) -> Iterator[Config]:
    with Trial(Raft, "seed", lambda line: None, journal).make_config(2) as config:
        yield config
        config._passed = True


def since(journal: Journal, start: int) -> list[dict[str, Any]]:
    """The events behind the first so many, without what is the same in all."""
    shown = [as_json(event) for event in journal.events if event.number > start]
    return [{name: value for name, value in event.items() if name not in ("n", "t")} for event in shown]


def end_of(cfg: Config, server: int, to: int) -> ClientEnd:
    rf: Any = cfg.rafts[server]
    end: ClientEnd = rf.peers[to]
    return end


def test_a_trial_begins_with_its_servers(journal: Journal, cfg: Config) -> None:
    kinds = [(event["kind"], event.get("server")) for event in since(journal, 0) if event["kind"] != "noted"]
    assert kinds == [
        ("begin", None),
        ("network", None),
        ("network", None),
        ("start", 0),
        ("start", 1),
        ("connect", 0),
        ("connect", 1),
    ]


def test_the_way_of_a_call(journal: Journal, cfg: Config) -> None:
    start = len(journal.events)
    args, reply = Args(4, [1]), Args()
    assert end_of(cfg, 0, 1).Call("Raft.Hello", args, reply)
    args.Y.append(2)  # nobody sees that
    asked, caller = {"server": 1, "incarnation": 1, "call": 1}, {"server": 0, "incarnation": 1, "call": 1}
    assert since(journal, start) == [
        {"kind": "sent"} | caller | {"to": 1, "method": "Raft.Hello", "args": {"X": 4, "Y": [1]}},
        {"kind": "reached"} | asked,
        {"kind": "began"} | asked,
        {"kind": "ended"} | asked | {"reply": {"X": 5}},
        {"kind": "replied"} | asked,
        {"kind": "delivered"} | caller | {"reply": {"X": 5}},
    ]


def test_a_handler_that_fails(journal: Journal, cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    assert not end_of(cfg, 0, 1).Call("Raft.Hello", Args(13), Args())
    ended, lost = since(journal, 0)[-2:]
    assert (ended["kind"], ended["reply"]) == ("ended", None)
    assert (lost["kind"], lost["why"]) == ("lost", "handler failed")


def test_verbs_answers_and_saves(journal: Journal, cfg: Config) -> None:
    start = len(journal.events)
    rf: Any = cfg.rafts[0]
    cfg.disconnect(1)
    cfg.checkTerms()
    rf.Start("x")
    with pytest.raises(LabFailure, match="Start must return"):
        rf.Start("nonsense")
    rf.Start([1])
    rf.persister.SaveRaftState(b"four")
    rf.persister.Save(b"five", None)
    rf.applyCh.put(ApplyMsg(CommandValid=True, Command="c", CommandIndex=1))
    cfg.wait(1, 1, -1)
    cfg.start1(0)
    rf.persister.SaveRaftState(b"too late")
    first, second = {"server": 0, "incarnation": 1}, {"server": 0, "incarnation": 2}
    events = since(journal, start)
    digests = [event.pop("digest") for event in events if event["kind"] == "saved"]
    assert len(set(digests)) == 3
    assert events == [
        {"kind": "noted", "text": "disconnect 1"},
        {"kind": "connect", "server": 1, "incarnation": 1, "yes": False},
        {"kind": "asked"} | first,
        {"kind": "said"} | first | {"term": 3, "leads": False},
        {"kind": "noted", "text": "checkTerms: {0: 3}"},
        {"kind": "took"} | first | {"command": "x", "index": -1, "term": 3, "leads": False},
        {"kind": "took"} | first | {"command": "nonsense", "index": None, "term": None, "leads": None},
        {"kind": "took"} | first | {"command": "<list>", "index": -1, "term": 3, "leads": False},
        {"kind": "saved"} | first | {"state": 4, "snapshot": 0},
        {"kind": "saved"} | first | {"state": 4, "snapshot": 0},
        {"kind": "applied"} | first | {"index": 1, "command": "c"},
        {"kind": "crash"} | first,
        {"kind": "noted", "text": "crash 0"},
        {"kind": "start"} | second,
        {"kind": "noted", "text": "start 0"},
        {"kind": "saved"} | first | {"state": 8, "snapshot": 0},
    ]


def test_snapshots_are_told() -> None:
    run = watched(RAFT, "TestSnapshotInstall2D", seed=0)
    kinds = [event["kind"] for event in since(run.journal, 0)]
    assert run.failure is None
    assert {"made_snapshot", "applied_snapshot", "saved"} <= set(kinds)


class Fixed(random.Random):
    """Draws what it is given, then 0."""

    def __init__(self, *draws: int) -> None:
        super().__init__(0)
        self.draws = list(draws)

    def randrange(self, *args: Any) -> int:
        return self.draws.pop(0) if self.draws else 0


def lost(*draws: int, reliable: bool = True, reordering: bool = False, break_it: Any = None) -> list[str]:
    """What becomes of one Call: kinds of events, with the reason where it is lost."""
    journal = Journal(lambda: 0.0)
    net = MakeNetwork(Fixed(*draws), journal)
    journal.started(0, 1, ["end", "self"])
    journal.started(1, 1, ["x", "y"])
    journal._ends["end"] = (0, 1, 1)
    end = net.MakeEnd("end")
    net.Connect("end", 1)
    net.Enable("end", True)
    net.Reliable(reliable)
    net.LongReordering(reordering)

    class Raft:
        def Hello(self, args: Args, reply: Args) -> None:
            if break_it:
                break_it(net)

    server = MakeServer()
    server.AddService(MakeService(Raft()))
    net.AddServer(1, server)
    if break_it == "at once":
        break_it = None
        net.Enable("end", False)
    end.Call("Raft.Hello", Args(), Args())
    net.Cleanup()
    return [event.get("why", event["kind"]) for event in since(journal, 2) if event["kind"] != "network"]


ARRIVED = ["sent", "reached", "began", "ended"]


def delete(net: Network) -> None:
    net.DeleteServer(1)


def disable(net: Network) -> None:
    net.Enable("end", False)


@pytest.mark.parametrize(
    ("how", "events"),
    [
        ({}, [*ARRIVED, "replied", "delivered"]),
        ({"break_it": "at once"}, ["sent", "disabled"]),
        ({"break_it": delete}, [*ARRIVED, "server gone"]),
        ({"break_it": disable}, [*ARRIVED, "disabled"]),
    ],
    ids=["reliable", "disabled", "deleted", "cut"],
)
def test_a_call_is_delivered_or_lost_with_a_reason(how: dict[str, Any], events: list[str]) -> None:
    assert lost(**how) == events


@pytest.mark.parametrize(
    ("draws", "events"),
    [
        ((0, 0), ["sent", "request dropped"]),
        ((0, 500, 0), [*ARRIVED, "replied", "reply dropped"]),
        ((0, 500, 500), [*ARRIVED, "replied", "delivered"]),
    ],
)
def test_what_an_unreliable_network_drops(draws: tuple[int, ...], events: list[str]) -> None:
    assert lost(*draws, reliable=False) == events


def test_a_reply_that_is_held_back() -> None:
    assert lost(0, reordering=True) == [*ARRIVED, "replied", "held_back", "delivered"]


def test_a_call_on_a_closed_network(journal: Journal, cfg: Config) -> None:
    end = end_of(cfg, 0, 1)
    cfg.cleanup()
    end.Call("Raft.Hello", Args(), Args())
    assert [event.get("why", event["kind"]) for event in since(journal, 0)][-2:] == ["sent", "network closed"]


def test_a_ring_keeps_the_last_events_and_says_what_it_dropped() -> None:
    journal = Journal(lambda: 0.0, limit=2)
    for text in "abc":
        journal.noted(text)
    assert [event["text"] for event in since(journal, 0)] == ["b", "c"]
    assert journal.dropped == 1
    header = json.loads(next(journal.lines()))
    assert header == {"schema": SCHEMA, "events": 2, "dropped": 1}


def test_a_ring_lets_go_of_the_older_half_when_its_messages_grow_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labwatch.journal.MOST_BYTES", 10_000)
    journal = Journal(lambda: 0.0, limit=1000)
    net = MakeNetwork(random.Random(0), journal)
    journal.started(0, 1, ["end"])
    end = net.MakeEnd("end")
    net.Cleanup()
    for _ in range(100):
        end.Call("Raft.X", Args(1, list(range(1000))), Args())
    kept = [event for event in journal.events if isinstance(event, Sent)]
    assert 1 <= len(kept) < 10
    assert kept[-1].call == 100
    assert journal.dropped + len(journal.events) == journal.events[-1].number


def test_events_of_threads_that_were_interrupted_are_put_in_order() -> None:
    times = iter([0.0, 0.0, 0.0, 1.0, 3.0, 2.0])
    journal = Journal(lambda: next(times))
    journal.began_trial(1)
    for text in "abc":
        journal.noted(text)
    journal._kept.rotate(1)
    assert [event.number for event in journal.events] == [1, 2, 3, 4]
    assert [event.time for event in journal.events] == sorted(event.time for event in journal.events)


def test_what_nobody_keeps_or_hears_is_only_counted() -> None:
    journal = Journal(lambda: 0.0, limit=0)
    heard: list[Any] = []
    journal.listen(heard.append, [Connect])
    journal.started(0, 1, ["end"])
    journal.connected(0, True)
    assert [event.number for event in heard] == [2]
    assert (list(journal.events), journal.dropped) == ([], 2)


def test_the_file_has_a_header_and_an_event_a_line(tmp_path: Path) -> None:
    run = watched(RAFT, "TestSnapshotInstallUnCrash2D", seed=0)
    run.journal.write(tmp_path / "journal.jsonl", test="TestSnapshotInstallUnCrash2D", seed=0)
    header, *events = map(json.loads, (tmp_path / "journal.jsonl").read_text().splitlines())
    assert header == {
        "schema": SCHEMA,
        "events": len(run.journal.events),
        "dropped": 0,
        "test": "TestSnapshotInstallUnCrash2D",
        "seed": 0,
    }
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    times = [event["t"] for event in events]
    assert times == sorted(times)


def test_each_kind_is_documented() -> None:
    """With its fields, as they are in the file."""
    import labwatch.journal as module

    text = " ".join(str(module.__doc__).split())
    for kind, name in module.KINDS.items():
        fields = [f for f in kind.__struct_fields__[2:] if f != "request"]
        assert name in text
        assert all(f in text for f in fields), (name, fields)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 300, "x" * 200 + "... of 300 characters"),
        (b"bytes", "5 bytes"),
        (list(range(300)), [*range(200), "... of 300"]),
        ((1, "a"), [1, "a"]),
        ({(1, 2): {3}}, [[[1, 2], [3]]]),
        (1 << 80, 1 << 80),
        (math.inf, "inf"),
    ],
)
def test_what_a_submission_sends_is_cut(journal: Journal, tmp_path: Path, value: Any, shown: Any) -> None:
    @dataclass
    class Holder:
        V: Any = None

    net = MakeNetwork(random.Random(0), journal)
    journal.started(0, 1, ["end"])
    end = net.MakeEnd("end")
    end.Call("Raft.X", Holder(value), Args())
    sent = next(event for event in since(journal, 0) if event["kind"] == "sent")
    assert sent["args"]["V"] == shown
    journal.write(tmp_path / "journal.jsonl")
    assert json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[2])["args"]["V"] == shown


def test_a_listener_that_fails_is_called_no_more_and_harms_nobody(journal: Journal) -> None:
    seen = []

    def fails(event: Any) -> None:
        raise ZeroDivisionError

    journal.listen(fails)
    journal.listen(lambda event: seen.append(event.number))
    journal.noted("a")
    journal.noted("b")
    assert seen == [1, 2]
    assert [type(failure) for failure in journal.failures] == [ZeroDivisionError]


@pytest.mark.parametrize("test", ["TestManyElections2A", "TestPersist22C"])
def test_a_trial_that_is_watched_is_the_same_trial(test: str) -> None:
    """Event by event of its world: the journal costs no virtual time, and moves no thread."""
    with_journal: list[Any] = []
    without: list[Any] = []
    watched(RAFT, test, seed=3, trace=with_journal)
    watched(RAFT, test, seed=3, trace=without, unseen=True)
    assert len(without) > 1000
    assert with_journal == without


def test_values_are_read_without_their_classes() -> None:
    @dataclass(frozen=True)
    class Point:
        X: int = 0

    @dataclass
    class Holder:
        V: Any = None
        W: int = 0

    labgob.RegisterName("test_journal.Point", Point)
    value = {"t": (1, 2), "s": {3, 1}, "p": Point(5), "big": -(1 << 70), ("k",): [None]}
    plain = labgob.plain(labgob.encode(Holder(value)))
    assert "W" not in plain  # as on the wire
    assert sorted(plain["V"], key=repr) == sorted(
        [["t", (1, 2)], ["s", [1, 3]], ["p", {"X": 5}], ["big", -(1 << 70)], [("k",), [None]]], key=repr
    )
    with pytest.raises(labgob.LabgobError, match="cannot decode"):
        labgob.plain(b"\xc1")
