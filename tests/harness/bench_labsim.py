"""What labsim costs. Prints a table and asserts nothing; run it alone: `python tests/harness/bench_labsim.py`.

Each figure is the median of several rounds, in processor time, so that other work on the machine hardly shows.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from labsim import World

ROUNDS = 9

PROGRAM = '''
import queue, random, threading, time


def nothing():
    pass


def lock_alone(events):
    lock = threading.Lock()
    for _ in range(events // 2):
        with lock:
            pass


def sleepers(threads, events):
    """Each of the threads takes a shared lock and sleeps, in turns; `events` of these over all."""
    lock = threading.Lock()

    def live():
        for _ in range(events // threads):
            with lock:
                pass
            time.sleep(random.uniform(0.01, 0.02))

    each = [threading.Thread(target=live) for _ in range(threads)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()


def cluster(servers, seconds):
    """Tickers that ask each of their peers something every tenth of a second, as a Raft leader and labrpc would."""
    inboxes = [queue.Queue() for _ in range(servers)]
    locks = [threading.Lock() for _ in range(servers)]
    done = threading.Event()
    calls = 0

    def serve(me):
        while (request := inboxes[me].get()) is not None:
            with locks[me]:
                request["reply"] = True
            request["answered"].set()

    def call(me, peer):
        request = {"answered": threading.Event()}
        inboxes[peer].put(request)
        while not request["answered"].wait(0.1):
            pass
        with locks[me]:
            assert request["reply"]

    def tick(me):
        nonlocal calls
        while not done.is_set():
            time.sleep(random.uniform(0.09, 0.11))
            for peer in range(servers):
                if peer != me and me == 0:
                    threading.Thread(target=call, args=(me, peer)).start()
                    calls += 1

    threads = [threading.Thread(target=f, args=(i,)) for i in range(servers) for f in (serve, tick)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    done.set()
    for inbox in inboxes:
        inbox.put(None)
    for thread in threads:
        thread.join()
    return calls
'''


def measure(folder: Path, use: Callable[[World, ModuleType], object]) -> tuple[float, int, object]:
    """Median seconds of processor time for one world, its events, and what `use` returned."""
    times: list[float] = []
    for i in range(ROUNDS):
        gc.collect()
        began = time.process_time()
        world = World(f"bench {i}", fresh=[folder], limit=None)
        with world:
            result = use(world, world.load("program", folder / "program.py"))
        times.append(time.process_time() - began)
    return statistics.median(times), world.events, result


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
        measure(folder, lambda world, program: world.run(program.nothing))  # compiles, imports, starts the watchdog

        empty, _, _ = measure(folder, lambda world, program: world.run(program.nothing))
        print(f"a world that does nothing: {empty * 1e3:.2f} ms from start to end")

        took, events, _ = measure(folder, lambda world, program: world.run(program.lock_alone, 100_000))
        print(f"an uncontended lock: {took / events * 1e6:.2f} us an event ({events} events)")

        print("threads that take a lock and sleep:")
        for threads in (3, 7, 15, 31, 63):
            took, events, _ = measure(folder, lambda world, program, n=threads: world.run(program.sleepers, n, 10_000))  # type: ignore[misc]
            rate = events / (took - empty)
            print(
                f"  {threads:3} threads: {events} events, {1e6 / rate:.2f} us an event, {rate / 1e6:.2f} million a second"
            )

        took, events, calls = measure(folder, lambda world, program: world.run(program.cluster, 7, 15))
        print(
            f"7 servers for 15 virtual seconds with {calls} calls: {took * 1e3:.1f} ms in all, {events} events, "
            f"{(took - empty) / events * 1e6:.2f} us an event"
        )


if __name__ == "__main__":
    main()
