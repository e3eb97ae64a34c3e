"""raft.config: every verb of the harness, on scripted Rafts; and what it stands on, Persister and ApplyCh."""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from raft.api import ApplyCh, ApplyMsg
from raft.config import TIME_LIMIT, Config, Figures, LabFailure, LeakWarning, Trial
from raft.persister import Persister


@dataclass
class Ping:
    X: int = 0


class Raft:
    """A Raft that is and does what the test says."""

    def __init__(self, peers: Any, me: int, persister: Persister, applyCh: ApplyCh) -> None:
        self.peers, self.me, self.persister, self.applyCh = peers, me, persister, applyCh
        self.state = (1, False)
        self.start: Callable[[Any], tuple[int, int, bool]] = lambda command: (-1, 1, False)
        self.snapshots: list[tuple[int, bytes]] = []
        self.killed = False

    def GetState(self) -> tuple[int, bool]:
        return self.state

    def Start(self, command: Any) -> tuple[int, int, bool]:
        return self.start(command)

    def Kill(self) -> None:
        self.killed = True

    def Snapshot(self, index: int, snapshot: bytes) -> None:
        self.snapshots.append((index, snapshot))

    def CondInstallSnapshot(self, term: int, index: int, snapshot: bytes) -> bool:
        return term != 13

    def Hello(self, args: Ping, reply: Ping) -> None:
        reply.X = self.me

    def apply(self, index: int, command: Any) -> None:
        self.applyCh.put(ApplyMsg(CommandValid=True, Command=command, CommandIndex=index))


@dataclass
class Cluster:
    lines: list[str] = field(default_factory=list)

    def make(self, n: int, snapshot: bool = False, unreliable: bool = False, make: Any = Raft) -> Config:
        trial = Trial(make, "seed", self.lines.append)
        self.cfg = trial.make_config(n, snapshot=snapshot, unreliable=unreliable)
        self.trial = trial
        self.pauses: list[float] = []
        # The verbs' pauses take no time, and are remembered.
        self.cfg.sleep = lambda seconds: (self.pauses.append(seconds), time.sleep(0.0005), self.cfg.check())  # type: ignore
        return self.cfg

    def raft(self, i: int) -> Any:
        """What `make` returned; the harness keeps it behind one that looks at its answers."""
        rf: Any = self.cfg.rafts[i]
        return rf._rf

    def states(self, *states: tuple[int, bool]) -> None:
        for i, state in enumerate(states):
            self.raft(i).state = state


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    it = Cluster()
    yield it
    it.cfg.cleanup()
    assert threading.excepthook is it.cfg._excepthook_before


def reachable(cfg: Config) -> list[tuple[int, int]]:
    """Which server's calls reach which."""
    pairs = []
    cfg.net.LongDelays(False)
    for i, rf in enumerate(cfg.rafts):
        for j, end in enumerate(rf.peers if rf else []):  # type: ignore[attr-defined]
            reply = Ping()
            if end.Call("Raft.Hello", Ping(), reply):
                assert j == reply.X
                pairs.append((i, j))
    return pairs


def raises(message: str) -> Any:
    return pytest.raises(LabFailure, match=f"^{message}")


# --- the cluster ---


def test_a_cluster_starts_connected_with_long_delays(cluster: Cluster) -> None:
    cfg = cluster.make(2)
    assert cfg.net._long_delays
    assert cfg.net._reliable
    assert reachable(cfg) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(len(name) == 20 for names in cfg._endnames for name in names)


def test_an_unreliable_cluster(cluster: Cluster) -> None:
    assert not cluster.make(1, unreliable=True).net._reliable


def test_disconnect_cuts_all_wires_and_connect_restores_those_to_the_connected(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    cfg.disconnect(0)
    cfg.disconnect(1)
    assert reachable(cfg) == [(2, 2)]
    cfg.connect(1)
    assert reachable(cfg) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_the_same_seed_draws_the_same(cluster: Cluster) -> None:
    first = cluster.make(2)
    first.cleanup()
    second = cluster.make(2)
    assert first._endnames == second._endnames
    assert first.rng.random() == second.rng.random()


def test_a_restart_keeps_what_was_saved_and_isolates_the_old_instance(cluster: Cluster) -> None:
    cfg = cluster.make(2)
    old, names = cluster.raft(0), cfg._endnames[0]
    old.persister.SaveStateAndSnapshot(b"saved", b"")
    cfg.crash1(0)
    assert cfg.rafts[0] is None
    assert old.killed
    old.persister.SaveRaftState(b"after the crash")
    cfg.start1(0)
    assert cluster.raft(0).persister.ReadRaftState() == b"saved"
    assert not set(names) & set(cfg._endnames[0])
    assert reachable(cfg) == [(1, 1)]  # not connected yet
    cfg.connect(0)
    assert reachable(cfg) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert not old.peers[1].Call("Raft.Hello", Ping(), Ping())


def test_crashing_a_crashed_server_is_allowed(cluster: Cluster) -> None:
    cfg = cluster.make(1)
    cfg.crash1(0)
    cfg.crash1(0)
    assert cfg.LogSize() == 0


# --- leaders and terms ---


def test_check_one_leader_returns_the_leader_of_the_newest_term(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    cluster.states((1, True), (3, True), (3, False))
    assert cfg.checkOneLeader() == 1
    assert len(cluster.pauses) == 1
    assert 0.450 <= cluster.pauses[0] <= 0.549


def test_check_one_leader_asks_the_connected_only(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    cluster.states((5, True), (3, True), (3, False))
    cfg.disconnect(0)
    assert cfg.checkOneLeader() == 1


def test_two_leaders_of_one_term(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    cluster.states((2, True), (2, False), (2, True))
    with raises(r"term 2 has 2 \(>1\) leaders: servers \[0, 2\] at \d\.\d\d s$"):
        cfg.checkOneLeader()


def test_no_leader_after_ten_rounds(cluster: Cluster) -> None:
    cfg = cluster.make(2)
    with raises(r"expected one leader, got none: connected servers said \(term, leader\) \{0: \(1, False\), 1: \(1, F"):
        cfg.checkOneLeader()
    assert len(cluster.pauses) == 10


def test_check_terms(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    cluster.states((3, False), (3, True), (4, False))
    with raises(r"servers disagree on term: \{0: 3, 1: 3, 2: 4\} at "):
        cfg.checkTerms()
    cfg.disconnect(2)
    assert cfg.checkTerms() == 3
    cfg.disconnect(0)
    cfg.disconnect(1)
    assert cfg.checkTerms() == -1


def test_check_no_leader(cluster: Cluster) -> None:
    cfg = cluster.make(2)
    cluster.states((1, False), (1, True))
    with raises("expected no leader among connected servers, but 1 claims to be leader"):
        cfg.checkNoLeader()
    cfg.disconnect(1)
    cfg.checkNoLeader()


# --- begin, end, clean-up, the time limit ---


def test_begin_and_end_print_the_labs_lines(cluster: Cluster) -> None:
    cfg = cluster.make(1)
    cfg.begin("Test (2A): initial election")
    cluster.raft(0).peers[0].Call("Raft.Hello", Ping(), Ping())
    cluster.raft(0).apply(1, 100)
    cluster.raft(0).apply(2, 200)
    cfg.end()
    banner, result = cluster.lines
    assert banner == "Test (2A): initial election ..."
    assert result == "  ... Passed --   0.0  1    1       2    2"
    assert f"{Figures(3.04, 3, 60, 12160, 0)}" == " 3.0  3   60   12160    0"
    assert cluster.trial.figures


def test_a_test_may_take_120_seconds_of_its_own_time(cluster: Cluster) -> None:
    cfg = cluster.make(1)
    cfg._t0 -= TIME_LIMIT + 1
    with raises("test took longer than 120 seconds"):
        cfg.end()
    with raises("test took longer than 120 seconds"), cfg:
        pass


def test_a_test_that_has_passed_in_time_does_not_fail_in_its_clean_up(cluster: Cluster) -> None:
    with cluster.make(1) as cfg:
        cfg._t0 -= TIME_LIMIT - 10
        cfg.end()
        cfg._t0 -= 11
    assert [line[:16] for line in cluster.lines] == ["  ... Passed -- "]


def test_cleanup_kills_every_raft_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    cluster = Cluster()
    with cluster.make(3) as cfg:
        rafts = [cluster.raft(i) for i in range(3)]
        assert not cfg.checkFinished()
    assert cfg.checkFinished()
    assert all(rf.killed for rf in rafts)
    assert not [t for t in threading.enumerate() if t not in before]


def test_a_thread_that_ends_after_kill_is_no_leak() -> None:
    cluster = Cluster()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakWarning)
        with cluster.make(1):
            rf = cluster.raft(0)
            threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(lambda: rf.killed, True)]).start()


class HoldsItsLock(Raft):
    """Its ticker sleeps with the lock held, which Kill wants too."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.mu = threading.Lock()
        self.let_go = threading.Event()
        threading.Thread(target=self.tick, name=f"server {self.me} ticker", daemon=True).start()

    def tick(self) -> None:
        with self.mu:
            self.let_go.wait()

    def Kill(self) -> None:
        with self.mu:
            self.killed = True


@pytest.mark.parametrize("end", [lambda cfg: cfg.crash1(0), lambda cfg: cfg.__exit__(None, None, None)])
@pytest.mark.filterwarnings("ignore::raft.config.LeakWarning")
def test_a_kill_that_never_returns_fails_with_who_holds_the_lock(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, end: Callable[[Config], object]
) -> None:
    monkeypatch.setattr("raft.config.KILL_PATIENCE", 0.05)
    monkeypatch.setattr("raft.config.LEAK_PATIENCE", 0.05)
    cfg = cluster.make(1, make=HoldsItsLock)
    raft = cluster.raft(0)
    with raises("Kill has not returned for 0.05 s: Kill of server 0: in HoldsItsLock.Kill, ") as error:
        end(cfg)
    raft.let_go.set()
    assert "waiting for mu of server 0, held by server 0 ticker (in HoldsItsLock.tick, " in str(error.value)


def test_a_pause_of_the_story_ends_when_a_thread_finds_something(cluster: Cluster) -> None:
    cfg = cluster.make(1)
    del cfg.sleep  # the real one
    threading.Timer(0.01, cluster.raft(0).apply, (2, 200)).start()
    began = time.monotonic()
    with raises("apply error: server 0 apply out of order 2"):
        cfg.sleep(60)
    assert time.monotonic() - began < 30


@pytest.mark.filterwarnings("error")
def test_threads_that_come_and_go_after_kill_are_waited_for_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Restless(Raft):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.go_on()

        def go_on(self) -> None:
            if not stop.is_set():
                time.sleep(0.02)
                threading.Thread(target=self.go_on, daemon=True).start()

    stop = threading.Event()
    monkeypatch.setattr("raft.config.LEAK_LIMIT", 0.2)
    cluster = Cluster()
    cfg = cluster.make(1, make=Restless)
    with pytest.warns(LeakWarning, match="still runs after Kill, in .*go_on") as seen:
        cfg.cleanup()
    stop.set()
    assert {warning.filename for warning in seen} == {__file__}  # the solution's line, not one of the harness


def test_what_a_thread_finds_is_raised_by_the_next_verb_and_at_the_end(cluster: Cluster) -> None:
    cfg = cluster.make(1)
    thread = threading.Thread(target=lambda: 1 / 0, name="student")
    thread.start()
    thread.join()
    for verb in (cfg.checkTerms, cfg.checkNoLeader, cfg.checkOneLeader, cfg.end, lambda: cfg.nCommitted(1)):
        with raises("thread 'student' died: ZeroDivisionError: division by zero: in <lambda>, .*test_config.py") as e:
            verb()
        assert isinstance(e.value.__cause__, ZeroDivisionError)
    with raises("thread 'student' died"), cfg:
        pass


def test_a_thread_of_somebody_else_is_not_the_solutions(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    go = threading.Event()
    thread = threading.Thread(target=lambda: (go.wait(), 1 / 0))
    thread.start()
    cfg = cluster.make(1)
    go.set()
    thread.join()
    assert len(seen) == 1
    cfg.check()


# --- what servers apply ---


def applied(cfg: Config) -> None:
    """Let the appliers finish with what was put."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not cfg._trial.failure:
        time.sleep(0.001)


def test_n_committed_counts_the_servers_and_tells_the_command(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    assert cfg.nCommitted(1) == (0, None)
    cluster.raft(0).apply(1, 7)
    cluster.raft(2).apply(1, 7)
    cfg.crash1(2)  # what it applied counts still
    assert cfg.wait(1, 2, -1) == 7
    assert cfg.nCommitted(1) == (2, 7)


@pytest.mark.parametrize("other", [8, True, 7.0, "7"], ids=repr)
def test_two_servers_that_apply_different_commands(cluster: Cluster, other: Any) -> None:
    cfg = cluster.make(2)
    cluster.raft(0).apply(1, 7 if other != 1 else 1)
    assert cfg.wait(1, 1, -1) == (7 if other != 1 else 1)
    cluster.raft(1).apply(1, other)
    applied(cfg)
    with raises(f"apply error: commit index=1 server=1 {other} != server=0 [17]"):
        cfg.nCommitted(1)


def test_applying_out_of_order(cluster: Cluster) -> None:
    cfg = cluster.make(1)
    cluster.raft(0).apply(1, 7)
    cluster.raft(0).apply(3, 9)
    applied(cfg)
    with raises("apply error: server 0 apply out of order 3"):
        cfg.check()


def test_wait_doubles_its_pauses_and_gives_up_after_thirty_rounds(cluster: Cluster) -> None:
    cfg = cluster.make(2)
    cluster.raft(0).apply(1, 7)
    with raises("only 1 decided for index 1; wanted 2: servers that applied index 1: {0: 7}"):
        cfg.wait(1, 2, -1)
    assert cluster.pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64] + 23 * [1.28]


def test_wait_ends_early_when_the_term_moves_on(cluster: Cluster) -> None:
    cfg = cluster.make(2)
    cluster.states((1, False), (2, True))
    assert cfg.wait(1, 2, 1) == -1
    assert cluster.pauses == [0.01]


def accept(cluster: Cluster, i: int, indices: list[int], appliers: list[int]) -> list[Any]:
    """Let server i accept commands at the given indices, and `appliers` apply them."""
    seen: list[Any] = []

    def start(command: Any) -> tuple[int, int, bool]:
        seen.append(command)
        index = indices.pop(0)
        for j in appliers:
            cluster.raft(j).apply(index, command)
        return index, 1, True

    cluster.raft(i).start = start
    return seen


def test_one_offers_the_command_from_server_1_on_and_returns_the_index(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    asked: list[int] = []
    for i in (1, 2):
        cluster.raft(i).start = lambda command, i=i: (asked.append(i), (-1, 1, False))[1]
    accept(cluster, 0, [1], [0, 1, 2])
    assert cfg.one(100, 3, retry=False) == 1
    assert asked == [1, 2]


def test_one_skips_the_unconnected_and_the_crashed(cluster: Cluster) -> None:
    cfg = cluster.make(3)
    accept(cluster, 0, [1], [0])
    for i in (1, 2):
        cluster.raft(i).start = lambda command: pytest.fail("it was asked")
    cfg.disconnect(1)
    cfg.crash1(2)
    assert cfg.one(100, 1, retry=False) == 1


def test_one_without_retry_fails_two_seconds_after_acceptance(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = cluster.make(2)
    seen = accept(cluster, 1, [1, 2], [0])
    now = fake_clock(cluster, monkeypatch)
    with raises(
        r"one\(100\) failed to reach agreement: server 1 accepted it at index 1; servers that applied index 1: {0: 100}; wanted 2"
    ):
        cfg.one(100, 2, retry=False)
    assert seen == [100]
    assert now() == pytest.approx(2, abs=0.1)


def test_one_with_retry_submits_again_for_ten_seconds(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = cluster.make(2)
    seen = accept(cluster, 1, list(range(1, 10)), [])
    now = fake_clock(cluster, monkeypatch)
    with raises(r"one\(100\) failed to reach agreement"):
        cfg.one(100, 2, retry=True)
    assert len(seen) == 5
    assert now() == pytest.approx(10, abs=0.2)


def test_one_waits_for_somebody_to_accept_even_without_retry(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = cluster.make(2)
    fake_clock(cluster, monkeypatch)
    with raises(r"one\(100\) failed to reach agreement: no connected server accepted it, of \[0, 1\]"):
        cfg.one(100, 2, retry=False)
    assert set(cluster.pauses) == {0.05}


def test_one_returns_quietly_when_the_test_is_over(cluster: Cluster) -> None:
    cfg = cluster.make(1)
    cfg.cleanup()
    assert cfg.one(100, 1, retry=True) == -1


def fake_clock(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Time that only the harness's pauses move."""
    begun = time.monotonic()
    monkeypatch.setattr("raft.config.time.monotonic", lambda: begun + sum(cluster.pauses))
    return lambda: sum(cluster.pauses)


# --- snapshots ---


def test_a_service_makes_a_snapshot_at_every_tenth_command(cluster: Cluster) -> None:
    cfg = cluster.make(1, snapshot=True)
    rf = cluster.raft(0)
    for index in range(1, 21):
        rf.apply(index, index * 100)
    cfg.wait(20, 1, -1)
    assert [index for index, _ in rf.snapshots] == [9, 19]
    rf.persister.SaveStateAndSnapshot(b"state", rf.snapshots[1][1])
    cfg.start1(0)
    assert cfg._logs[0] == {0: None, **{i: i * 100 for i in range(1, 20)}}
    cluster.raft(0).apply(20, 2000)  # the command after the snapshot is the next one expected
    cfg.wait(20, 1, -1)


def test_a_snapshot_on_applych_replaces_what_was_applied(cluster: Cluster) -> None:
    cfg = cluster.make(2, snapshot=True)
    for index in range(1, 10):
        cluster.raft(0).apply(index, index)
    cfg.wait(9, 1, -1)
    snapshot = cluster.raft(0).snapshots[0][1]
    cluster.raft(1).applyCh.put(ApplyMsg(SnapshotValid=True, Snapshot=snapshot, SnapshotTerm=13, SnapshotIndex=9))
    cluster.raft(1).applyCh.put(ApplyMsg(SnapshotValid=True, Snapshot=snapshot, SnapshotTerm=1, SnapshotIndex=9))
    cluster.raft(1).apply(10, 10)
    assert cfg.wait(10, 1, -1) == 10
    assert cfg.nCommitted(9) == (2, 9)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            ApplyMsg(CommandValid=True, Command=1, CommandIndex=2),
            "server 0 apply out of order, expected index 1, got 2",
        ),
        (ApplyMsg(SnapshotValid=True, Snapshot=b"junk", SnapshotIndex=2), "snapshot decode error"),
        (ApplyMsg(SnapshotValid=True, Snapshot=None, SnapshotIndex=2), "nil snapshot"),  # type: ignore[arg-type]
        (
            ApplyMsg(SnapshotValid=True, Snapshot=b"\0\0\0\1\5\0\0\0\1\x90", SnapshotIndex=2),
            "server 0 snapshot doesn't match m.SnapshotIndex",
        ),
    ],
    ids=["jump", "junk", "none", "index"],
)
def test_what_is_wrong_with_a_message_fails_the_test(cluster: Cluster, message: ApplyMsg, error: str) -> None:
    cfg = cluster.make(1, snapshot=True)
    cluster.raft(0).applyCh.put(message)
    applied(cfg)
    with raises(f"apply error: {error}"):
        cfg.check()


# --- Persister and ApplyCh ---


def test_a_persister_copies_in_and_out() -> None:
    p = Persister()
    assert (p.ReadRaftState(), p.ReadSnapshot(), p.RaftStateSize(), p.SnapshotSize()) == (b"", b"", 0, 0)
    state = bytearray(b"state")
    p.SaveStateAndSnapshot(state, b"snapshot")
    state[:] = b"XXXXX"
    copy = p.Copy()
    p.SaveRaftState(b"newer")
    assert (p.ReadRaftState(), p.ReadSnapshot()) == (b"newer", b"snapshot")
    assert (copy.ReadRaftState(), copy.ReadSnapshot()) == (b"state", b"snapshot")
    copy.Save(b"state", b"snapshot")  # of the editions since 2023
    assert (copy.ReadRaftState(), copy.ReadSnapshot()) == (b"state", b"snapshot")
    copy.Save(b"", None)
    assert copy.SnapshotSize() == 0


def test_put_returns_once_the_message_is_received() -> None:
    ch = ApplyCh()
    with pytest.raises(queue.Full):
        ch.put(ApplyMsg(CommandIndex=1), timeout=0.01)
    with pytest.raises(queue.Full):
        ch.put(ApplyMsg(CommandIndex=2), block=False)
    thread = threading.Thread(target=ch.put, args=(ApplyMsg(CommandIndex=3),))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert ch.get() == ApplyMsg(CommandIndex=3)
    thread.join()


def test_a_closed_channel_lets_everybody_go() -> None:
    ch = ApplyCh()
    threads = [threading.Thread(target=ch.put, args=(ApplyMsg(),)), threading.Thread(target=ch.put, args=(ApplyMsg(),))]
    for thread in threads:
        thread.start()
    ch.close()
    for thread in threads:
        thread.join()
    ch.put(ApplyMsg())
    assert ch.get() is None
