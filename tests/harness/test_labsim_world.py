"""What only a world does: virtual time, drawn schedules that repeat, verdicts, and an end that leaves nothing."""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import FrameType
from typing import Any

import pytest

from labsim import Deadlock, Endless, Patience, SimulationError, Spin, Stuck, Unsupported, World
from labsim.trace import compare

REPOSITORY = Path(__file__).parents[2]

HEADER = "import contextlib, queue, random, sys, threading, time\nfrom concurrent.futures import *\n"

Open = Callable[..., Any]


@pytest.fixture
def program(tmp_path: Path) -> Open:
    """`with program(source, seed=..., ...) as (world, module)` loads a program into a world of its own."""

    @contextmanager
    def open_world(source: str, *, seed: str = "seed", **options: Any) -> Iterator[tuple[World, Any]]:
        (tmp_path / "program.py").write_text(HEADER + dedent(source))
        with World(seed, fresh=[tmp_path], **{"limit": 1000.0, **options}) as world:
            yield world, world.load("program", tmp_path / "program.py")

    return open_world


# -- time ------------------------------------------------------------------------------------------------------------


def test_hours_pass_at_once_and_computing_takes_no_time(program: Open) -> None:
    began = time.monotonic()
    with program("def main():\n    time.sleep(9000)\n    sum(range(100_000))", limit=None) as (world, module):
        world.run(module.main)
        assert world.now() == pytest.approx(9000, abs=0.001)
    assert time.monotonic() - began < 2


def test_the_clocks_begin_far_from_the_real_ones(program: Open) -> None:
    with program("import datetime\nnow = datetime.datetime.now(), time.time(), time.monotonic()") as (_, module):
        assert module.now[0].year == 2001
        assert module.now[1] == pytest.approx(1_000_000_007.137, abs=0.01)
        assert module.now[2] == pytest.approx(86_413.137, abs=0.01)


def test_timeouts_come_in_the_order_of_their_deadlines(program: Open) -> None:
    source = """
        def main():
            woken, lock, began = [], threading.Lock(), time.monotonic()
            lock.acquire()
            condition = threading.Condition()
            def give_up(seconds):
                ways = [
                    lambda: time.sleep(seconds),
                    lambda: lock.acquire(timeout=seconds),
                    lambda: queue.Queue().get(timeout=seconds),
                    lambda: threading.Event().wait(seconds),
                ]
                with contextlib.suppress(queue.Empty):
                    ways[round(seconds * 1000) % 4]()
                woken.append((seconds, time.monotonic() - began))
            threads = [threading.Thread(target=give_up, args=(n / 1000,)) for n in random.sample(range(1, 100), 40)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return woken
    """
    with program(source) as (world, module):
        woken = world.run(module.main)
    assert woken == sorted(woken)
    assert all(seconds <= at < seconds + 0.005 for seconds, at in woken)


def test_timeouts_that_were_not_needed_do_not_pile_up(program: Open) -> None:
    source = """
        def main():
            q = queue.Queue()
            def answer():
                for _ in range(3000):
                    time.sleep(0.001)
                    q.put(1)
            threading.Thread(target=answer).start()
            for _ in range(3000): q.get(timeout=500)
    """
    with program(source) as (world, module):
        world.run(module.main)
        assert world.now() == pytest.approx(3, abs=0.1)
        assert len(world._scheduler.timers) < 200


def test_polling_loops_come_to_an_end(program: Open) -> None:
    source = """
        def main():
            deadline = time.monotonic() + 0.01
            while time.monotonic() < deadline: pass
            deadline = time.time() + 0.01
            while time.time() < deadline: time.sleep(0)
            lock, done = threading.Lock(), []
            lock.acquire()
            threading.Timer(0.01, lock.release).start()
            while not lock.acquire(False): pass
            thread = threading.Timer(0.01, lambda: done.append(1))
            thread.start()
            while thread.is_alive(): pass
            future = ThreadPoolExecutor(1).submit(time.sleep, 0.01)
            while not future.done(): pass
    """
    with program(source, switch=0) as (world, module):
        world.run(module.main)
        assert 0.05 <= world.now() < 0.1


# -- the schedule ----------------------------------------------------------------------------------------------------

RACE = """
    def main():
        order = []
        def work(me):
            for _ in range(20):
                with threading.Lock(): order.append(me)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        return order
"""


def test_a_seed_is_a_schedule_and_another_seed_another_one(program: Open) -> None:
    def order(seed: str, **options: Any) -> tuple[object, ...]:
        with program(RACE, seed=seed, **options) as (world, module):
            return world.run(module.main), world.now(), world.events

    assert len({str(order(str(seed))) for seed in range(10)}) == 10
    assert order("x") == order("x") == order("x", trace=True)


def test_more_switches_mix_threads_more(program: Open) -> None:
    def changes(switch: float) -> int:
        with program(RACE, switch=switch) as (world, module):
            order = world.run(module.main)
        return sum(a != b for a, b in itertools.pairwise(order))

    assert changes(0) < changes(0.1) < changes(0.9)
    with pytest.raises(ValueError, match="switch is a probability"), program(RACE, switch=1.5):
        pass


def test_every_thread_that_can_run_does(program: Open) -> None:
    source = """
        def main(poll):
            counts, stop = [0] * 20, threading.Event()
            def work(me):
                while not stop.is_set():
                    counts[me] += 1
                    poll()
            for i in range(20): threading.Thread(target=work, args=(i,)).start()
            time.sleep(1)
            stop.set()
            return counts
        lock = threading.Lock()
        def hold():
            with lock: pass
        polls = [time.monotonic, hold, lambda: time.sleep(0)]
    """
    for switch in (0, 0.1):
        with program(source, switch=switch) as (world, module):
            for poll in module.polls:
                counts = world.run(module.main, poll)
                assert min(counts) > max(counts) / 20


def test_a_lock_goes_to_who_has_waited_longest(program: Open) -> None:
    source = """
        def main():
            lock, got = threading.Lock(), []
            def take(me):
                time.sleep(me)
                with lock:
                    got.append(me)
                    time.sleep(0.1)
            with lock:
                for i in range(10): threading.Thread(target=take, args=(i,)).start()
                time.sleep(20)
            with lock: return got
    """
    with program(source) as (world, module):
        assert world.run(module.main) == list(range(10))


def test_chance_comes_from_the_seed_unless_the_program_seeds_it(program: Open) -> None:
    source = "drawn = random.random(), random.Random().random(), random.Random(1).random()"

    def drawn(seed: str) -> Any:
        with program(source, seed=seed) as (_, module):
            return module.drawn

    assert drawn("x") == drawn("x")
    assert drawn("x")[:2] != drawn("y")[:2]
    assert drawn("x")[2] == drawn("y")[2]


def test_threads_wait_while_nobody_runs_the_world(program: Open) -> None:
    source = """
        ticks = []
        def tick():
            while True:
                time.sleep(1)
                ticks.append(1)
        def main(seconds):
            if not ticks: threading.Thread(target=tick, daemon=True).start()
            time.sleep(seconds)
            return len(ticks)
    """
    with program(source) as (world, module):
        assert [world.run(module.main, 2.5), world.run(module.main, 2.0)] == [2, 4]
        assert world.run(lambda: world.run(module.main, 1)) == 5


def test_long_worlds_collect_garbage_at_fixed_events(program: Open) -> None:
    source = """
        gone = []
        class Node:
            def __init__(self): self.me = self
            def __del__(self): gone.append(time.monotonic())
        def main():
            lock = threading.Lock()
            for i in range(300_000):
                if i % 1000 == 0: Node()
                with lock: pass
            return list(gone)
    """

    def run(**options: Any) -> Any:
        with program(source, limit=None, **options) as (world, module):
            return world.run(module.main)

    assert len(first := run()) > 200
    assert first == run() == run(trace=True)


# -- the same in every process ---------------------------------------------------------------------------------------

DETERMINISM = '''
import hashlib, json, sys
from pathlib import Path
from labsim import World

PROGRAM = """
import concurrent.futures as cf, queue, random, threading, time, weakref

def main():
    q, futures, locks = queue.Queue(), set(), {threading.Lock() for _ in range(20)}
    words = sorted({"alpha", "beta", "gamma", "delta"})
    def work(n):
        time.sleep(random.uniform(0, 0.1))
        for lock in locks:
            with lock: q.put(n)
        return n
    with cf.ThreadPoolExecutor(5) as pool:
        futures = {pool.submit(work, n) for n in range(20)}
        done, pending = cf.wait(futures, return_when=cf.FIRST_COMPLETED)
        order = [f.result() for f in done] + [f.result() for f in cf.as_completed(futures)]
    threads = {threading.Thread(target=work, args=(random.random(),)) for _ in words}
    for t in threads: t.start()
    for t in threads: t.join(timeout=1)
    class Node:
        def __del__(self): q.put("gone")
    for _ in range(50):
        node = Node(); node.me = node
        with random.choice(sorted(locks, key=hash)): time.sleep(0.001)
    return order
SETS
"""

folder = Path(sys.argv[1])
(folder / "program.py").write_text(PROGRAM.replace("SETS", sys.argv[2]))
with World("process", fresh=[folder], trace=True) as world:
    result = world.run(world.load("program", folder / "program.py").main)
print(json.dumps(world.trace))
'''


def traces(tmp_path: Path, extra: str) -> list[Any]:
    runs = []
    for hash_seed in ("0", "1", "random"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", DETERMINISM, str(folder), extra]
        runs.append(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    return [json.loads(run) for run in runs]


def test_a_trace_is_the_same_in_every_process(tmp_path: Path) -> None:
    first, second, third = traces(tmp_path, "")
    assert len(first) > 1000
    assert compare(first, second) is None
    assert compare(first, third) is None


WITHOUT_POOLS = """
import queue, random, threading, time

def main():
    lock, condition, barrier, gone = threading.Lock(), threading.Condition(), threading.Barrier(3), threading.Event()
    def work(n):
        for _ in range(3):
            with lock: time.sleep(random.uniform(0, 0.01))
            barrier.wait()
        with condition: condition.notify()
    def collect(q):
        while q.get() is not None: pass
        gone.set()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads: thread.start()
    with condition: condition.wait(0.05)
    for thread in threads:
        while thread.is_alive(): time.sleep(0.001)
        thread.join()
        thread.is_alive()
    threading.Timer(0.1, work, (3,)).start()
    q = queue.Queue(2)
    threading.Thread(target=collect, args=(q,), daemon=True).start()
    for item in random.sample(range(9), 9): q.put(item)
    q.put(None)
    gone.wait()
"""

ANOTHER_PYTHON = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from labsim import World
folder = Path(sys.argv[2])
with World("python", fresh=[folder], trace=True) as world:
    world.run(world.load("program", folder / "program.py").main)
print(json.dumps(world.trace))
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_a_trace_is_the_same_in_every_version_of_python(tmp_path: Path, version: str) -> None:
    """But for programs with pools, whose workers take other locks in 3.12 than in 3.11.

    Looks for the Python on PATH, and in the folders that LABSIM_PYTHONS names (of virtual environments, say).
    """
    if version == f"3.{sys.version_info.minor}":
        return
    python = shutil.which(f"python{version}", path=os.environ.get("LABSIM_PYTHONS")) or shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", "import greenlet"], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no Python {version} with greenlet on PATH or in LABSIM_PYTHONS")
    (tmp_path / "program.py").write_text(WITHOUT_POOLS)
    first, second = (
        json.loads(
            subprocess.run(
                [interpreter, "-c", ANOTHER_PYTHON, str(REPOSITORY), str(tmp_path)], check=True, capture_output=True
            ).stdout
        )
        for interpreter in (sys.executable, python)
    )
    assert len(first) > 200
    assert compare(first, second) is None


def test_the_order_of_a_set_of_strings_is_found(tmp_path: Path) -> None:
    first, second, _ = traces(
        tmp_path, "for w in {'ab', 'cd', 'ef', 'gh', 'ij'}: threading.Thread(target=len, args=(w,), name=w).start()"
    )
    report = compare(first, second)
    assert report is not None
    assert "two runs with the same seed differ from event" in report
    assert "PYTHONHASHSEED" in report


def test_traces_of_different_length_differ(program: Open) -> None:
    with program("def main():\n    for _ in range(9): time.sleep(0.25)", trace=True) as (world, module):
        world.run(module.main)
    whole = world.trace
    assert compare(whole, json.loads(json.dumps(whole))) is None
    report = compare(whole, whole[:-1])
    assert report is not None
    assert f"differ from event {len(whole) - 1} on ({len(whole)} and {len(whole) - 1} events in all)" in report
    assert "sleep 0.25" in report
    assert "(has ended)" in report


# -- verdicts --------------------------------------------------------------------------------------------------------


def test_a_deadlock_names_all_threads_what_they_wait_for_and_where(program: Open) -> None:
    source = """
        def hold(first, second):
            with first:
                time.sleep(1)
                with second: pass  # never
        def main():
            a, b = threading.Lock(), threading.RLock()
            thread = threading.Thread(target=hold, args=(a, b), name="one")
            thread.start()
            threading.Thread(target=hold, args=(b, a), name="two", daemon=True).start()
            threading.Thread(target=queue.Queue().get, name="getter").start()
            thread.join()
    """
    with program(source) as (world, module):
        with pytest.raises(Deadlock) as caught:
            world.run(module.main)
        assert world.failure is caught.value
        with pytest.raises(Deadlock):
            world.run(print, "a failed world runs nothing")
    message = str(caught.value)
    assert message.startswith("Deadlock at 1.0")
    assert "MainThread waits in Thread.join of one" in message
    assert re.search(
        r"one waits in RLock.acquire of \w+ \(RLock#\d+\) while holding first \(Lock#\d+\); it is held by two "
        r"\(\S*program.py:5 in hold\), which waits in Lock.acquire\n",
        message,
    )
    assert "getter waits in Queue.get" in message
    assert "program.py:7 in hold\n        with second: pass  # never" in message
    assert "threading.py" not in message
    assert caught.traceback[-1].path.parts[-2] == "labsim"
    assert any(entry.name == "main" for entry in caught.traceback)


IMPATIENT = """
    lock = threading.Lock()
    def call(seconds):
        if seconds is None: lock.acquire()
        else: time.sleep(seconds)
    def main(seconds, times):
        lock.acquire()
        threading.Thread(target=call, args=(1000,), daemon=True).start()
        for _ in range(times): call(seconds)
"""


def is_call(frame: Any) -> bool:
    return bool(frame.f_code.co_name == "call")


@pytest.mark.parametrize("seconds", [None, 11.5], ids=["waits", "sleeps"])
def test_a_call_of_the_main_thread_that_does_not_return_fails_as_stuck(program: Open, seconds: float | None) -> None:
    with program(IMPATIENT, patience=Patience(10.0, is_call)) as (world, module):
        with pytest.raises(Stuck, match="call has not returned for 10 s of virtual time") as caught:
            world.run(module.main, seconds, 1)
        assert caught.value.function == "call"
        assert world.now() < 13


def test_many_calls_are_not_taken_for_one(program: Open) -> None:
    with program(IMPATIENT, patience=Patience(10.0, is_call)) as (world, module):
        world.run(module.main, 8.5, 20)


def waits(program: Open, functions: str, **options: Any) -> dict[str, str]:
    """What each thread of a deadlock is said to wait for; its name is that of its function."""
    source = f"""
class Server:
    def __init__(self, me):
        self.me = me
        self.mu = threading.Lock()
        self.cond = threading.Condition()
        self.gate = threading.Lock()
        self.gate.acquire()
    def with_twice(self):
        with self.mu: self.get()
    def acquire_twice(self):
        self.mu.acquire()
        try: self.get()
        finally: self.mu.release()
    def get(self):
        with self.mu: pass
    def at_the_gate(self):
        self.gate.acquire()
    def two_at_once(self):
        with self.cond, self.mu:
            time.sleep(1)
            self.gate.acquire()
    def after_two(self):
        time.sleep(0.5)
        self.get()
    def in_a_condition(self):
        with self.cond: self.cond.wait()
    def own_gate(self):
        gate = threading.Lock()
        gate.acquire()
        gate.acquire()
    def forgets(self):
        self.mu.acquire()
    def after_forgets(self):
        time.sleep(0.5)
        self.get()
def main():
    servers = [Server(i) for i in range(9)]
    for i, function, *_ in {functions}:
        threading.Thread(target=getattr(servers[i], function), name=function).start()
    threading.Event().wait()
"""
    with program(source, **options) as (world, module), pytest.raises(Deadlock) as caught:
        world.run(module.main)
    return dict(re.findall(r"^  (\S+) (.*)$", str(caught.value), re.MULTILINE))


def describe(server: Any) -> str:
    return f"server {server.me}" if hasattr(server, "me") else ""


@pytest.mark.parametrize("watch", [None, lambda path: path.endswith("program.py")], ids=["plain", "race"])
def test_a_deadlock_calls_locks_as_the_program_does_and_says_who_has_them(program: Open, watch: Any) -> None:
    functions = """[(0, "with_twice"), (1, "acquire_twice"), (2, "at_the_gate"), (3, "two_at_once"), (3, "after_two"),
        (4, "in_a_condition"), (5, "own_gate"), (6, "forgets"), (6, "after_forgets")]"""
    said = {
        name: re.sub(r"/\S*/", "", what)
        for name, what in waits(program, functions, describe=describe, watch=watch).items()
    }
    assert said == {
        "MainThread": "waits in Event.wait",
        "with_twice": "waits in Lock.acquire of mu of server 0; it is held by the thread itself (program.py:12 in Server.with_twice), and would have to be an RLock",
        "acquire_twice": "waits in Lock.acquire of mu of server 1; it was taken by the thread itself (program.py:14 in Server.acquire_twice) and has not been released: it would have to be an RLock, unless another thread is to release it",
        "at_the_gate": "waits in Lock.acquire of gate of server 2; it was taken by MainThread and has not been released",
        "two_at_once": "waits in Lock.acquire of gate of server 3 while holding cond of server 3 and mu of server 3; it was taken by MainThread and has not been released",
        "after_two": "waits in Lock.acquire of mu of server 3; it is held by two_at_once (program.py:22 in Server.two_at_once), which waits in Lock.acquire",
        "in_a_condition": "waits in Condition.wait",
        "own_gate": f"waits in Lock.acquire of gate (Lock#{said['own_gate'].partition('#')[2]}",
        "after_forgets": "waits in Lock.acquire of mu of server 6; it was taken by forgets and has not been released",
    }


def test_a_lock_taken_twice_in_one_line_is_told_to_be_an_rlock(program: Open) -> None:
    with program("def main():\n    lock = threading.Lock()\n    with lock, lock: pass") as (world, module):
        with pytest.raises(Deadlock) as caught:
            world.run(module.main)
        assert re.search(
            r"of lock \(Lock#\d+\); it is held by the thread itself \(.*\), and would have to be an RLock",
            str(caught.value),
        )


def test_a_report_runs_no_code_of_the_programs(program: Open) -> None:
    source = """
        class Hostile:
            __slots__ = ("lock",)
            def __getattribute__(self, name): raise KeyboardInterrupt
            def __eq__(self, other): raise KeyboardInterrupt
            __hash__ = None
        class Dict(dict):
            def __contains__(self, name): raise KeyboardInterrupt
            def items(self): raise KeyboardInterrupt
        class Odd:
            @property
            def __dict__(self): raise KeyboardInterrupt
        def main():
            hostile, odd, names = Hostile(), Odd(), Dict()
            lock = threading.Lock()
            take = lock.acquire
            take()
            take()
    """
    with program(source) as (world, module), pytest.raises(Deadlock, match="waits in Lock.acquire of lock "):
        world.run(module.main)


def test_threads_that_wait_at_the_same_place_are_told_of_once(program: Open) -> None:
    source = """
        def wait(): threading.Event().wait()
        def main():
            for name in "aabcdef": threading.Thread(target=wait, name=name).start()
            wait()
    """
    with program(source) as (world, module), pytest.raises(Deadlock) as caught:
        world.run(module.main)
    assert "  a, b, c, d ... (7 threads) each waits in Event.wait\n" in str(caught.value)
    assert str(caught.value).count("in wait\n") == 2


def test_what_a_module_that_hides_from_tracebacks_waits_for_is_its_own_business(program: Open) -> None:
    source = """
        __tracebackhide__ = True
        class Network:
            def __init__(self):
                self.answered = threading.Lock()
                self.answered.acquire()
            def Call(self): self.wait()
            def wait(self): self.answered.acquire()
        def main(function): function(Network())
    """
    user = """
mu = threading.Lock()
def ask(network):
    with mu: network.Call()
"""
    with program(source) as (world, module):
        (folder := Path(module.__file__).parent / "user.py").write_text(HEADER + user)
        with pytest.raises(Deadlock, match=r"MainThread waits in Network.Call while holding mu \(Lock#\d+\)\n"):
            world.run(module.main, world.load("user", folder).ask)


def test_a_verdict_that_the_program_swallows_comes_out_all_the_same(program: Open) -> None:
    source = """
        def once():
            with contextlib.suppress(Exception): threading.Event().wait()
        def stubborn():
            while True:
                try: threading.Event().wait()
                except: pass
        def replaced():
            try: threading.Event().wait()
            except Exception: raise KeyError
        def in_cleanup():
            with threading.Lock():
                try: threading.Event().wait()
                finally: time.sleep(1)
    """
    for name in ("once", "stubborn", "replaced", "in_cleanup"):
        with program(source) as (world, module), pytest.raises(Deadlock):
            world.run(getattr(module, name))


SPINS = """
    def spin():
        count = 0
        while True:
            try: count += len("x")
            except BaseException: pass
    def main(): spin()
    def thread():
        threading.Thread(target=spin, name="spinner").start()
        time.sleep(1)
"""


def test_many_short_worlds_are_not_taken_for_one_that_spins() -> None:
    for _ in range(150):
        with World("seed", fresh=[], spin=0.1) as world:
            world.run(lambda: sum(range(200_000)))  # some ms each
        del world
        gc.collect()  # so that the next one lies where this one did


@pytest.mark.parametrize(("function", "name"), [("main", "MainThread"), ("thread", "spinner")])
def test_a_thread_that_never_comes_back_is_stopped_and_named(program: Open, function: str, name: str) -> None:
    with program(SPINS, spin=0.1) as (world, module):
        with pytest.raises(Spin) as caught:
            world.run(getattr(module, function))
        assert str(caught.value).startswith(f"{name} has run for 0.1 s of real time at {module.__file__}:")
        assert " in spin\n" in str(caught.value)
    sum(len("x") for _ in range(100_000))  # and nobody else is hit


def test_a_thread_that_comes_back_as_it_is_stopped_hurts_nobody(program: Open) -> None:
    source = """
        def main(seconds, now):
            end = now() + seconds
            while now() < end: pass
            time.sleep(1)
    """
    outcomes = []
    for i in range(40):
        with program(source, spin=0.008) as (world, module):
            try:
                world.run(module.main, 0.008 + i * 0.0003, time.perf_counter)
                outcomes.append("ended")
            except Spin:
                outcomes.append("spin")
        sum(len("x") for _ in range(1000))
    assert set(outcomes) <= {"ended", "spin"}


def test_waiting_for_somebody_at_a_debugger_is_no_spin(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        HEADER
        + dedent("""
            def work():
                secret = 42
                breakpoint()
                time.sleep(7)
                print("worked")
            def main():
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
        """)
    )
    script = dedent("""
        import sys
        from pathlib import Path
        from labsim import World
        folder = Path(sys.argv[1])
        with World("debugger", fresh=[folder], spin=0.1) as world:
            world.run(world.load("program", folder / "program.py").main)
            print("took", round(world.now(), 2))
    """)
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write("p secret\n")
        process.stdin.flush()
        time.sleep(0.5)
        output, _ = process.communicate("c\n", timeout=30)
    assert "> " + str(tmp_path / "program.py") in output
    assert "42" in output
    assert "worked\ntook 7.0" in output


@pytest.mark.parametrize("wait", ["time.sleep(1)", "time.monotonic()", "threading.Event().is_set()", "time.sleep(0)"])
def test_a_program_without_end_ends_at_the_limit(program: Open, wait: str) -> None:
    with program(f"def main():\n    while True: {wait}", limit=5) as (world, module):
        with pytest.raises(Endless, match=r"not ended within 5 s of virtual time(.|\n)*program.py:4 in main"):
            world.run(module.main)
        assert 4 <= world.now() < 6


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("import asyncio", "import asyncio"),
        ("import asyncio.subprocess", "import asyncio.subprocess"),
        ("from multiprocessing import Process", "import multiprocessing"),
        ("from multiprocessing import pool, Queue", "import multiprocessing"),
        ("import multiprocessing.managers", "import multiprocessing.managers"),
        ("import multiprocessing.pool as p; p.Pool()", "multiprocessing.pool.Pool()"),
        ("import multiprocessing.pool; multiprocessing.Lock()", "multiprocessing.Lock"),
        ("import importlib; importlib.import_module('socket')", "import socket"),
        ("import select", "import select"),
        ("import signal", "import signal"),
        ("import ssl", "import ssl"),
        ("import subprocess", "import subprocess"),
        ("ProcessPoolExecutor()", "import concurrent.futures.process"),
        ("import os; os.fork()", "os.fork()"),
        ("import os; os.system('true')", "os.system()"),
        ("from os import execv; execv('true', [])", "os.execv()"),
    ],
)
def test_what_cannot_be_virtual_is_refused_where_it_is_used(program: Open, statement: str, named: str) -> None:
    statement = statement.replace("ProcessPoolExecutor()", "import concurrent.futures as f; f.ProcessPoolExecutor()")
    with program(f"def main():\n    {statement}") as (world, module):
        with pytest.raises(Unsupported) as caught:
            world.run(module.main)
        assert str(caught.value).startswith(f"{named} at {module.__file__}:4 in main\n    {statement}\n")
        assert "can run without virtual time" in str(caught.value)


def test_a_refusal_swallowed_in_a_thread_still_ends_the_world(program: Open) -> None:
    source = """
        def work():
            try: import asyncio
            except Exception: pass
            time.sleep(1)
        def main():
            threading.Thread(target=work).start()
            time.sleep(5)
    """
    with program(source) as (world, module):
        with pytest.raises(Unsupported):
            world.run(module.main)
        assert isinstance(world.failure, Unsupported)
        assert world.now() < 2


def test_the_library_may_import_what_the_program_may_not(program: Open) -> None:
    with program("import logging, tempfile, uuid, unittest.mock, http.client") as (world, _):
        assert world.failure is None


def test_a_real_thread_that_uses_a_lock_of_the_worlds_is_named(program: Open) -> None:
    source = """
        def main(Thread):
            lock = threading.Lock()
            lock.acquire()
            thread = Thread(target=lock.acquire, name="outsider")
            thread.start()
            Thread.join(thread)
            lock.acquire(timeout=1)
    """
    seen = []
    hook, threading.excepthook = threading.excepthook, lambda args: seen.append(args.exc_type)
    try:
        with program(source) as (world, module), pytest.raises(Unsupported) as caught:
            world.run(module.main, threading.Thread)
    finally:
        threading.excepthook = hook
    assert str(caught.value).startswith("the real thread 'outsider', which was not started in this world, uses Lock#")
    assert seen == [Unsupported]


# -- exceptions ------------------------------------------------------------------------------------------------------


def test_what_the_function_raises_comes_out_with_its_traceback(program: Open) -> None:
    with program("def main():\n    time.sleep(1)\n    raise LookupError('this one')") as (world, module):
        with pytest.raises(LookupError, match="this one") as caught:
            world.run(module.main)
        assert caught.traceback[-1].name == "main"
        assert world.run(lambda: "and the world goes on") is not None


def test_a_crash_in_a_thread_is_reported_by_the_worlds_own_hook(
    program: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    source = """
        crashed = []
        def work(): raise LookupError("mine")
        def main(hook):
            if hook: threading.excepthook = lambda args: crashed.append((args.thread.name, args.exc_value.args))
            thread = threading.Thread(target=work, name="crasher")
            thread.start()
            thread.join()
            return crashed
    """
    with program(source) as (world, module):
        assert world.run(module.main, False) == []
    printed = capsys.readouterr().err
    assert "Exception in thread crasher" in printed
    assert printed.count("LookupError: mine") == 1
    with program(source) as (world, module):
        assert world.run(module.main, True) == [("crasher", ("mine",))]


class Stop(BaseException):
    """As pytest's own exceptions, this is not an Exception."""


def test_what_ends_a_test_comes_out_whichever_thread_it_hits(program: Open) -> None:
    source = """
        def main(function):
            threading.Thread(target=function, name="victim").start()
            with contextlib.suppress(Exception):
                time.sleep(5)
    """

    def stop() -> None:
        raise Stop("here")

    with program(source) as (world, module):
        with pytest.raises(Stop, match="here") as caught:
            world.run(module.main, stop)
        assert world.failure is caught.value
        assert {"main", "stop"} <= {entry.name for entry in caught.traceback}


def test_an_exception_from_a_signal_handler_comes_out(program: Open) -> None:
    source = """
        def poll():
            while True: time.monotonic()
        def main():
            for _ in range(3): threading.Thread(target=poll).start()
            time.sleep(1e6)
    """

    def handler(number: int, frame: FrameType | None) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(5):
            with program(source, limit=None) as (world, module):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                with pytest.raises(Stop):
                    world.run(module.main)
    finally:
        signal.signal(signal.SIGALRM, before)


# -- the end ---------------------------------------------------------------------------------------------------------

THREADS = """
    ended = []
    def ordinary():
        try: time.sleep(1e9)
        finally: ended.append("ordinary")
    def blocks_again():
        try: threading.Event().wait()
        finally:
            ended.append("blocks again")
            time.sleep(1)
            ended.append("never")
    def swallows():
        for _ in range(3):
            try: queue.Queue().get()
            except BaseException: ended.append("swallows")
    def stubborn():
        while True:
            try: time.sleep(1)
            except: pass
    def starts_another():
        try: time.sleep(1e9)
        finally: threading.Thread(target=ended.append, args=("never",)).start()
    def holds():
        condition = threading.Condition()
        with condition: condition.wait()
    def spins():
        try: time.sleep(1e9)
        except BaseException:
            while True:
                try: len("x")
                except: pass
    def never_begins(): ended.append("never")
    def main():
        functions = ordinary, blocks_again, swallows, stubborn, starts_another, holds, spins
        for function in functions: threading.Thread(target=function).start()
        pool = ThreadPoolExecutor(2)
        pool.submit(len, "x")
        time.sleep(1)
        import _thread
        _thread.start_new_thread(never_begins, ())
        return [threading.current_thread(), pool, *threading.enumerate()]
"""


def test_every_thread_is_ended_whatever_it_does(program: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with program(THREADS, spin=0.1, switch=0) as (world, module):
        things = [weakref.ref(thing) for thing in world.run(module.main)]
        ended = module.ended
    assert sorted(ended) == ["blocks again", "ordinary", "swallows", "swallows", "swallows"]
    scheduler, module_ref = weakref.ref(world._scheduler), weakref.ref(module)
    del world, module
    gc.collect()
    assert [ref for ref in (*things, scheduler, module_ref) if ref() is not None] == []
    assert capfd.readouterr() == ("", "")


def test_locks_that_outlive_their_world_can_be_released_but_not_waited_for(program: Open) -> None:
    with program("lock, event, sleep, Thread = threading.Lock(), threading.Event(), time.sleep, threading.Thread") as (
        _,
        module,
    ):
        module.lock.acquire()
    module.lock.release()
    with module.lock:
        assert not module.event.is_set()
        module.event.set()
        for blocking in (module.lock.acquire, lambda: module.sleep(1), module.Thread(target=print).start):
            with pytest.raises(SimulationError, match="in a world that has been left"):
                blocking()


def test_worlds_leave_nothing_in_memory(program: Open) -> None:
    source = """
        class Node:
            def __init__(self): self.me, self.data = self, bytearray(100_000)
        node = Node()
        def work():
            node = Node()
            while True: time.sleep(0.1)
        def main():
            for _ in range(3): threading.Thread(target=work).start()
            time.sleep(1)
    """

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    def rounds(count: int) -> None:
        for _ in range(count):
            with program(source) as (world, module):
                world.run(module.main)

    rounds(20)
    before = objects()
    rounds(200)
    assert objects() - before < 200


def test_threads_may_start_threads_for_ever(program: Open) -> None:
    """Each greenlet begins as deep in recursion as the one that first switches to it."""
    source = """
    count = 0
    def again():
        global count
        count += 1
        if count < 3000:
            threading.Timer(0.01, again).start()
    def chain(length):
        if length:
            threading.Thread(target=chain, args=(length - 1,)).start()
    def main():
        again()
        chain(3000)
        time.sleep(60)
        return count
    """
    with program(source) as (world, module):
        assert world.run(module.main) == 3000
