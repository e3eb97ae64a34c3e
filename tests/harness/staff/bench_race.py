"""What --race costs beside --sim. Prints and asserts nothing; run it alone: `python tests/harness/bench_race.py [WHAT]`.

For each seed the three tests of part 2A run both ways, one after the other; the figures are medians of processor time.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from labrun import HOME, solution
from labrun.settings import RACE_SHARE
from labrun.virtual import VirtualTrial

TESTS = ("TestInitialElection2A", "TestReElection2A", "TestManyElections2A")
SEEDS = 15


def suite(what: str, seed: int, share: float | None) -> float:
    began = time.process_time()
    for test in TESTS:
        found = solution.find(what, Path())
        VirtualTrial(found, HOME / "tests/test_2a.py", test, seed, lambda line: None, race_share=share).run()
    return time.process_time() - began


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else str(HOME / "raft/raft.py")
    suite(what, 0, None), suite(what, 0, RACE_SHARE)  # compiles and rewrites
    pairs = [(suite(what, seed, None), suite(what, seed, RACE_SHARE)) for seed in range(SEEDS)]
    sim, race = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(race / sim for sim, race in pairs)
    print(f"part 2A of one seed: {sim * 1e3:.0f} ms with --sim, {race * 1e3:.0f} ms with --race, {ratio:.2f} times")


if __name__ == "__main__":
    main()
