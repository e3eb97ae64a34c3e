"""labrpc: what a Call promises, the way of a request, and what everything counts."""

from __future__ import annotations

import os
import random
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import labgob
from labrpc import ClientEnd, LabrpcError, MakeNetwork, MakeServer, MakeService, Network


@dataclass
class JunkArgs:
    X: int = 0


@dataclass
class JunkReply:
    X: str = ""


@dataclass
class IntReply:
    N: int = 0


@dataclass
class Required:
    A: int
    B: str


class JunkServer:
    """Handlers in every shape the tests need."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.release = threading.Event()

    def Handler1(self, args: str, reply: IntReply) -> None:
        self.log.append(args)
        reply.N = int(args[:9]) if args[:1].isdigit() else len(args)

    def Handler2(self, args: int, reply: JunkReply) -> None:
        self.log.append(args)
        reply.X = f"handler2-{args}"

    def Handler3(self, args: int, reply: IntReply) -> None:
        self.log.append(args)
        self.release.wait(20)
        reply.N = -args

    def Handler4(self, args: JunkArgs, reply: JunkReply) -> None:
        reply.X = f"{type(args).__name__} {args.X}"

    def Handler6(self, args: str, reply: IntReply) -> None:
        reply.N = len(args)

    def Handler7(self, args: int, reply: JunkReply) -> None:
        reply.X = "y" * args

    def Echo(self, args: Any, reply: Required) -> None:
        self.log.append((args, reply))
        reply.B = "set"

    def Crashes(self, args: int, reply: IntReply) -> None:
        raise ZeroDivisionError("a bug of the student")

    def SendsALock(self, args: int, reply: IntReply) -> None:
        reply.N = threading.Lock()  # type: ignore[assignment]

    def ThreeArgs(self, a: int, b: int, c: int) -> None: ...

    def lower(self, args: int, reply: IntReply) -> None: ...


@pytest.fixture
def net() -> Iterator[Network]:
    before = set(threading.enumerate())
    network = MakeNetwork(random.Random("labrpc"))
    yield network
    network.Cleanup()
    wait_until(lambda: set(threading.enumerate()) <= before)  # a worker ends when the handler that it runs does


@pytest.fixture
def junk(net: Network) -> JunkServer:
    return add_server(net, "server99")


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What reached threading.excepthook."""
    seen: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    return seen


def add_server(net: Network, name: object) -> JunkServer:
    receiver = JunkServer()
    server = MakeServer()
    server.AddService(MakeService(receiver))
    net.AddServer(name, server)
    return receiver


def connected(net: Network, endname: object = "end1-99", server: object = "server99") -> ClientEnd:
    end = net.MakeEnd(endname)
    net.Connect(endname, server)
    net.Enable(endname, True)
    return end


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    return thread, result


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def call(end: ClientEnd, n: int) -> tuple[bool, str]:
    reply = JunkReply()
    ok = end.Call("JunkServer.Handler2", n, reply)
    return ok, reply.X


# --- the original's own tests ---


def test_a_basic_call_and_a_second_on_another_handler(net: Network, junk: JunkServer) -> None:
    end = connected(net)
    assert call(end, 111) == (True, "handler2-111")
    number = IntReply()
    assert end.Call("JunkServer.Handler1", "9099", number)
    assert number.N == 9099


def test_args_may_be_a_dataclass_or_a_plain_value(net: Network, junk: JunkServer) -> None:
    end = connected(net)
    reply = JunkReply()
    assert end.Call("JunkServer.Handler4", JunkArgs(7), reply)
    assert reply.X == "JunkArgs 7"
    assert call(end, 7)[0]


def test_a_disabled_end_fails_and_works_once_enabled(net: Network, junk: JunkServer) -> None:
    end = net.MakeEnd("end1-99")
    net.Connect("end1-99", "server99")
    assert call(end, 111) == (False, "")
    net.Enable("end1-99", True)
    assert call(end, 111) == (True, "handler2-111")


def test_a_server_counts_its_requests(net: Network, junk: JunkServer) -> None:
    end = connected(net)
    for i in range(17):
        assert call(end, i) == (True, f"handler2-{i}")
    assert net.GetCount("server99") == 17
    assert net.GetTotalCount() == 17


def test_bytes_are_those_of_args_and_delivered_replies(net: Network, junk: JunkServer) -> None:
    end = connected(net)
    for _ in range(17):
        assert end.Call("JunkServer.Handler6", "x" * 284, IntReply())
    sent = net.GetTotalBytes()
    assert 4828 <= sent <= 6000
    for _ in range(17):
        reply = JunkReply()
        assert end.Call("JunkServer.Handler7", 107, reply)
        assert len(reply.X) == 107
    assert 1800 <= net.GetTotalBytes() - sent <= 2500


def test_many_clients_at_once_are_all_answered(net: Network, junk: JunkServer) -> None:
    def client(i: int) -> int:
        end = connected(net, i)
        return sum(call(end, i * 100 + j) == (True, f"handler2-{i * 100 + j}") for j in range(10))

    threads = [in_thread(lambda i=i: client(i)) for i in range(20)]  # type: ignore[misc]
    for thread, _ in threads:
        thread.join()
    assert sum(result[0] for _, result in threads) == 200
    assert net.GetCount("server99") == 200


def test_an_unreliable_network_loses_some_but_not_all(net: Network, junk: JunkServer) -> None:
    net.Reliable(False)
    threads = [in_thread(lambda i=i: call(connected(net, i), i)[0]) for i in range(300)]  # type: ignore[misc]
    for thread, _ in threads:
        thread.join()
    delivered = sum(result[0] for _, result in threads)
    assert 0 < delivered < 300
    assert delivered < net.GetCount("server99") < 300  # replies were lost, and requests too


def test_concurrent_calls_on_one_end_are_all_delivered(net: Network, junk: JunkServer) -> None:
    end = connected(net)
    threads = [in_thread(lambda i=i: call(end, i)) for i in range(20)]  # type: ignore[misc]
    for thread, _ in threads:
        thread.join()
    assert sorted(result[0] for _, result in threads) == sorted((True, f"handler2-{i}") for i in range(20))
    assert net.GetCount("server99") == 20


def test_calls_that_wait_while_disabled_do_not_slow_a_later_one(net: Network, junk: JunkServer) -> None:
    end = net.MakeEnd("end1-99")
    net.Connect("end1-99", "server99")
    net.LongDelays(True)
    threads = [in_thread(lambda i=i: call(end, i)) for i in range(20)]  # type: ignore[misc]
    wait_until(lambda: net.GetTotalCount() == 20)
    net.Enable("end1-99", True)
    begun = time.monotonic()
    assert call(end, 99)[0]
    assert time.monotonic() - begun < 0.03
    net.Cleanup()
    for thread, result in threads:
        thread.join()
        assert result[0] == (False, "")
    assert net.GetCount("server99") == 1


def test_a_call_in_a_slow_handler_fails_soon_after_its_server_is_deleted(net: Network, junk: JunkServer) -> None:
    thread, result = in_thread(lambda: connected(net).Call("JunkServer.Handler3", 99, IntReply()))
    thread.join(1)
    assert thread.is_alive()
    begun = time.monotonic()
    net.DeleteServer("server99")
    thread.join()
    assert result == [False]
    assert time.monotonic() - begun < 0.2
    junk.release.set()


def test_benchmark_of_sequential_calls(net: Network, junk: JunkServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints, and asserts nothing about time: microseconds a call, next to a bare handoff there and back by locks.

    All on one core: with two, the same handoff costs 15 or 60 us as the kernel places the threads.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    end = connected(net)
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def partner() -> None:
        for _ in range(5 * 1000):
            there.acquire()
            back.release()

    def handoffs() -> None:
        for _ in range(1000):
            there.release()
            back.acquire()

    def calls() -> None:
        for i in range(1000):
            end.Call("JunkServer.Handler2", i, JunkReply())

    thread = threading.Thread(target=partner)
    thread.start()
    times: dict[str, list[float]] = {"call": [], "handoff": []}
    for _ in range(5):
        for name, loop in (("call", calls), ("handoff", handoffs)):
            begun = time.perf_counter()
            loop()
            times[name].append((time.perf_counter() - begun) * 1000)
    thread.join()
    if cores:
        os.sched_setaffinity(0, cores)
    a_call, a_handoff = (statistics.median(times[name]) for name in ("call", "handoff"))
    with capsys.disabled():
        print(f"\nlabrpc: {a_call:.0f} us a call, {a_handoff:.0f} us a bare handoff: {a_call / a_handoff:.2f} times")


# --- the way of a request ---


def test_args_are_encoded_before_call_returns_to_waiting(net: Network, junk: JunkServer) -> None:
    args = [1, 2]
    net.Reliable(False)  # so that the request is under way for a while
    thread, _ = in_thread(lambda: connected(net).Call("JunkServer.Echo", args, Required(0, "")))
    wait_until(lambda: net.GetTotalCount() == 1)
    args.append(3)
    thread.join()
    assert [seen for seen, _ in junk.log] in ([[1, 2]], [])


def test_the_handler_gets_copies_and_a_reply_of_zero_values(net: Network, junk: JunkServer) -> None:
    args, reply = JunkArgs(5), Required(0, "")
    assert connected(net).Call("JunkServer.Echo", args, reply)
    seen_args, seen_reply = junk.log[0]
    assert seen_args == args
    assert seen_args is not args
    assert seen_reply is not reply
    assert reply == Required(0, "set")


@pytest.mark.parametrize("server", ["none", "deleted", "unconnected"])
def test_a_call_to_nowhere_fails_and_is_counted(net: Network, server: str) -> None:
    end = connected(net)
    if server == "deleted":
        add_server(net, "server99")
        net.DeleteServer("server99")
    elif server == "unconnected":
        end = net.MakeEnd("other")
        net.Enable("other", True)
    assert call(end, 1) == (False, "")
    assert net.GetTotalCount() == 1
    assert net.GetTotalBytes() == len(labgob.encode(1))


class Recorded(random.Random):
    """Draws whatever the test says, and remembers the ranges it was asked for."""

    def __init__(self, *draws: int) -> None:
        super().__init__()
        self.draws = list(draws)
        self.asked: list[int] = []

    def randrange(self, start: int, *args: Any) -> int:  # type: ignore[override]
        self.asked.append(start)
        return self.draws.pop(0)


@pytest.mark.parametrize(("long", "asked"), [(False, 100), (True, 7000)])
def test_an_unreachable_server_costs_a_random_wait(long: bool, asked: int) -> None:
    rng = Recorded(40)
    net = MakeNetwork(rng)
    net.LongDelays(long)
    begun = time.monotonic()
    assert call(net.MakeEnd("end"), 1) == (False, "")
    assert time.monotonic() - begun >= 0.04
    assert rng.asked == [asked]


@pytest.mark.parametrize(
    ("draws", "outcome", "handled"),
    [
        ([0, 99], False, 0),  # the request is dropped with probability 100/1000
        ([0, 100, 99], False, 1),  # and so is the reply
        ([0, 100, 100], True, 1),
        ([26, 100, 100], True, 1),
    ],
    ids=["request dropped", "reply dropped", "delivered", "delayed"],
)
def test_an_unreliable_network_delays_then_drops(draws: list[int], outcome: bool, handled: int) -> None:
    rng = Recorded(*draws)
    net = MakeNetwork(rng)
    net.Reliable(False)
    junk = add_server(net, "server99")
    begun = time.monotonic()
    assert call(connected(net), 1)[0] is outcome
    assert time.monotonic() - begun >= draws[0] / 1000
    assert len(junk.log) == handled
    assert rng.asked == [27, 1000, 1000][: len(draws)]
    lost = outcome is False
    assert net.GetTotalBytes() == len(labgob.encode(1)) + (0 if lost else len(labgob.encode(JunkReply("handler2-1"))))
    net.Cleanup()


@pytest.mark.parametrize(
    ("draws", "ms", "asked"),
    [([599, 0, 0], 200, [900, 2000, 1]), ([599, 9, 5], 205, [900, 2000, 10]), ([600], 0, [900])],
)
def test_long_reordering_holds_two_replies_in_three(draws: list[int], ms: int, asked: list[int]) -> None:
    rng = Recorded(*draws)
    net = MakeNetwork(rng)
    net.LongReordering(True)
    add_server(net, "server99")
    begun = time.monotonic()
    assert call(connected(net), 1)[0]
    assert time.monotonic() - begun >= ms / 1000
    assert rng.asked == asked
    net.Cleanup()


@pytest.mark.parametrize("cut", ["disable", "delete", "replace"])
def test_a_reply_is_lost_when_the_wire_is_cut_while_the_handler_runs(net: Network, junk: JunkServer, cut: str) -> None:
    thread, result = in_thread(lambda: connected(net).Call("JunkServer.Handler3", 1, IntReply()))
    wait_until(lambda: junk.log)
    if cut == "disable":
        net.Enable("end1-99", False)
    elif cut == "delete":
        net.DeleteServer("server99")
    else:
        add_server(net, "server99")
    junk.release.set()  # at once, so that it is the last look that notices, not the one every 100 ms
    thread.join()
    assert result == [False]
    assert net.GetTotalBytes() == len(labgob.encode(1))


def test_cleanup_ends_every_call_at_once(net: Network, junk: JunkServer) -> None:
    net.LongDelays(True)
    unreachable = net.MakeEnd("nowhere")
    waiting = [in_thread(lambda: call(unreachable, 1)[0]) for _ in range(5)]
    waiting += [in_thread(lambda: connected(net).Call("JunkServer.Handler3", 1, IntReply()))]
    wait_until(lambda: net.GetTotalCount() == 6 and junk.log)
    begun = time.monotonic()
    net.Cleanup()
    assert not call(unreachable, 1)[0]
    for thread, result in waiting:
        thread.join()
        assert result == [False]
    assert time.monotonic() - begun < 0.2
    junk.release.set()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "labrpc handler"])


def test_a_server_routes_to_several_services(net: Network) -> None:
    class Other:
        def Hello(self, args: int, reply: JunkReply) -> None:
            reply.X = "other"

    server = MakeServer()
    server.AddService(MakeService(JunkServer()))
    server.AddService(MakeService(Other()))
    net.AddServer("server99", server)
    end, reply = connected(net), JunkReply()
    assert end.Call("Other.Hello", 1, reply)
    assert reply.X == "other"
    assert call(end, 1)[0]


# --- mistakes ---


@pytest.mark.parametrize(
    ("method", "args", "reply", "message"),
    [
        ("Raft.Handler2", 1, JunkReply(), "labrpc.Server.dispatch(): unknown service Raft in Raft.Handler2; expecting one of ['JunkServer']"),
        ("JunkServer.handler2", 1, JunkReply(), "labrpc.Service.dispatch(): unknown method handler2 in JunkServer.handler2; expecting one of ['Crashes', 'Echo', 'Handler1',"),
        ("JunkServer.lower", 1, JunkReply(), "unknown method lower"),
        ("JunkServer.ThreeArgs", 1, JunkReply(), "unknown method ThreeArgs"),
        ("Handler2", 1, JunkReply(), "called by service and name, as in Raft.X, not 'Handler2'"),
        ("JunkServer.Handler2", 1, JunkReply, "must be a dataclass instance"),
        ("JunkServer.Handler2", 1, {}, "must be a dataclass instance"),
        ("JunkServer.Handler4", JunkArgs("no"), JunkReply(), "JunkServer.Handler4 was called with args that do not fit their own class: labgob: cannot decode test_labrpc.JunkArgs: Expected `int`, got `str` - at `$.X`"),  # type: ignore[arg-type]
        ("JunkServer.Handler4", JunkArgs(threading.Lock()), JunkReply(), "labgob: cannot encode test_labrpc.JunkArgs: $.X holds _thread.lock"),  # type: ignore[arg-type]
    ],
    ids=["service", "method", "lower-case", "signature", "no dot", "reply class", "reply dict", "wrong type", "lock"],
)  # fmt: skip
def test_a_mistake_is_raised_in_the_caller_and_reported(
    net: Network, junk: JunkServer, crashes: list[BaseException], method: str, args: Any, reply: Any, message: str
) -> None:
    with pytest.raises((LabrpcError, labgob.LabgobError), match=re.escape(message)) as e:
        connected(net).Call(method, args, reply)
    assert crashes == [e.value]


@pytest.mark.parametrize(("method", "error"), [("Crashes", ZeroDivisionError), ("SendsALock", labgob.LabgobError)])
def test_a_handler_that_raises_is_a_crash_with_its_traceback(
    net: Network, junk: JunkServer, crashes: list[BaseException], method: str, error: type[BaseException]
) -> None:
    assert connected(net).Call(f"JunkServer.{method}", 1, IntReply()) is False
    assert [type(e) for e in crashes] == [error]
    assert crashes[0].__traceback__ is not None
    assert call(net._ends["end1-99"], 1)[0]  # the worker lives on


def test_a_name_in_use_or_unknown_is_refused(net: Network) -> None:
    net.MakeEnd("end")
    with pytest.raises(LabrpcError, match="MakeEnd: 'end' already exists"):
        net.MakeEnd("end")
    with pytest.raises(LabrpcError, match="no end named 'other'"):
        net.Connect("other", "server99")
    with pytest.raises(LabrpcError, match="no server named 'server99'"):
        net.GetCount("server99")
    net.DeleteEnd("end")
    net.MakeEnd("end")


def test_everything_has_a_repr_that_tells_its_state(net: Network, junk: JunkServer) -> None:
    assert repr(connected(net)) == "<ClientEnd 'end1-99' to 'server99', enabled>"
    assert "1 ends, servers ['server99'], 0 calls" in repr(net)
    assert re.search(
        r"<Server: \[<Service JunkServer: \[.*'Handler2'.*\]>\], 0 requests", repr(net._servers["server99"])
    )


def test_sequential_calls_reuse_one_worker_thread(net: Network, junk: JunkServer) -> None:
    end = connected(net)
    before = threading.active_count()
    for i in range(50):
        assert call(end, i)[0]
    assert threading.active_count() == before + 1


def test_a_worker_whose_handler_has_died_goes_on_under_its_own_name(net: Network, crashes: list[BaseException]) -> None:
    names = []

    class Moody:
        def Die(self, args: int, reply: IntReply) -> None:
            raise ValueError("bad mood")

        def Work(self, args: int, reply: IntReply) -> None:
            names.append(threading.current_thread().name)

    server = MakeServer()
    server.AddService(MakeService(Moody()))
    net.AddServer("moody", server)
    end = connected(net, "end", "moody")
    assert not end.Call("Moody.Die", 1, IntReply())
    assert end.Call("Moody.Work", 1, IntReply())
    assert names == ["labrpc handler"]
    assert [str(e) for e in crashes] == ["bad mood"]
