"""What it costs to keep the journal: run `python tests/harness/staff/bench_journal.py [PAIRS]`.

Prints the processor time of part 2A on real threads, without an observer and with a ring, in turn, in one process; and
of a bare Call that comes and goes at once. Medians of the pairs; a suite takes 15 s.
"""

from __future__ import annotations

import gc
import importlib.util
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY))

from labrpc import MakeNetwork, MakeServer, MakeService  # noqa: E402
from labwatch import RING, Journal  # noqa: E402
from raft.config import Trial  # noqa: E402
from raft.raft import Make  # noqa: E402

TESTS = ("TestInitialElection2A", "TestReElection2A", "TestManyElections2A")
CALLS = 3000


def suite(tests: ModuleType, seed: int, journal: Callable[[], Journal | None]) -> float:
    """Processor time in s."""
    gc.collect()
    begun = time.process_time()
    for test in TESTS:
        getattr(tests, test)(Trial(Make, f"{seed}:{test}", lambda line: None, journal()).make_config)
    return time.process_time() - begun


@dataclass
class Message:
    X: int = 0


class Raft:
    def Hello(self, args: Message, reply: Message) -> None:
        reply.X = args.X


def calls(_: Any, seed: int, journal: Callable[[], Journal | None]) -> float:
    """Processor time of one Call, in us."""
    observer = journal()
    if observer:
        observer.started(0, 1, ["to itself", "end"])
        observer.started(1, 1, ["back", "and to itself"])
    net = MakeNetwork(random.Random(seed), observer)
    end, server = net.MakeEnd("end"), MakeServer()
    net.Connect("end", 1)
    net.Enable("end", True)
    server.AddService(MakeService(Raft()))
    net.AddServer(1, server)
    begun = time.process_time()
    for _ in range(CALLS):
        end.Call("Raft.Hello", Message(1), Message())
    spent = time.process_time() - begun
    net.Cleanup()
    return spent / CALLS * 1e6


def ring() -> Journal:
    return Journal(time.monotonic, RING)


def compare(what: str, unit: str, measure: Callable[..., float], tests: ModuleType, pairs: int) -> None:
    measured = [(measure(tests, seed, lambda: None), measure(tests, seed, ring)) for seed in range(pairs)]
    without, kept = (statistics.median(column) for column in zip(*measured, strict=True))
    more = statistics.median(b / a - 1 for a, b in measured)
    print(f"{what:24} {without:8.3f} {unit}   with a ring {kept:8.3f} {unit}   {more:+.1%}  (medians of {pairs} pairs)")


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    spec = importlib.util.spec_from_file_location("test_2a", REPOSITORY / "tests/test_2a.py")
    assert spec is not None
    assert spec.loader is not None
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    compare("a Call", "us", calls, tests, 4 * pairs + 1)
    compare("part 2A, real threads", "s", suite, tests, pairs)


if __name__ == "__main__":
    main()
