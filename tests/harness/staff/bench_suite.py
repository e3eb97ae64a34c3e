"""What the lab costs in virtual time. Prints and asserts nothing; run it alone.

    python tests/harness/staff/bench_suite.py                   # this tree
    python tests/harness/staff/bench_suite.py --beside FOLDER   # and another checkout, say of the commit before

All figures are processor time, medians over seeds, all of the shipped Raft. With another checkout both trees take turns,
seed by seed, so that what else the machine does hits both alike; the last column is the median of the ratios.
"""

from __future__ import annotations

import argparse
import ast
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[3]

WORKER = """
import json, sys, time
from pathlib import Path
home = Path(sys.argv[1])
sys.path.insert(0, str(home))
from labrun import HOME, solution
from labrun.settings import RACE_SHARE
from labrun.virtual import VirtualTrial
assert home.resolve() == HOME.resolve(), HOME
found = solution.find(str(home / "raft/raft.py"), Path())
for line in sys.stdin:
    part, tests, seed, race = json.loads(line)
    began = time.process_time()
    for test in tests:
        file = home / f"tests/test_{part.lower()}.py"
        VirtualTrial(found, file, test, seed, lambda line: None, race_share=RACE_SHARE if race else None).run()
    print(time.process_time() - began, flush=True)
"""


class Tree:
    """A checkout, with a process that runs trials in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=home,
        )

    def tests(self, part: str) -> list[str]:
        source = ast.parse((self.home / f"tests/test_{part.lower()}.py").read_text())
        return [f.name for f in source.body if isinstance(f, ast.FunctionDef) and f.name.startswith("Test")]

    def trial(self, part: str, tests: Sequence[str], seed: int, race: bool = False) -> float:
        """Seconds for one trial of each of the tests."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        print(json.dumps([part, tests, seed, race]), file=self._worker.stdin, flush=True)
        return float(self._worker.stdout.readline())

    def part(self, part: str, race: bool = False) -> Callable[[int], float]:
        return lambda seed: self.trial(part, self.tests(part), seed, race)

    def pytest(self, trials: int) -> Callable[[int], float]:
        """Seconds for each seed of part 2A, with all that pytest and two xdist workers need."""

        def run(seed: int) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "2A", "--sim", "-n", "2"]
            command += ["--trials", str(trials), "--seed", str(1000 * seed), "--rootdir", str(self.home), "tests"]
            environment: Any = {"PYTHONPATH": str(self.home), "PATH": "/usr/bin:/bin"}
            subprocess.run(command, cwd=self.home, env=environment, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / trials

        return run


def compare(
    name: str, unit: float, seeds: int, use: Callable[[Tree], Callable[[int], float]], trees: list[Tree]
) -> None:
    """Print the medians of one figure, in seconds divided by `unit`."""
    rows = [[use(tree)(seed) for tree in trees] for seed in range(1, seeds + 1)]
    medians = [statistics.median(column) / unit for column in zip(*rows, strict=True)]
    ratio = f"  ratio {statistics.median(row[-1] / row[0] for row in rows):.2f}" if len(trees) > 1 else ""
    print(f"{name:52}" + "".join(f"{median:9.3g}" for median in medians) + ratio, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="another checkout; its figures come first")
    parser.add_argument("--seeds", type=int, default=15, help="of the cheap figures; the others take a third (15)")
    options = parser.parse_args()
    homes = [options.beside.resolve()] if options.beside else []
    trees = [Tree(home) for home in (*homes, HOME)]
    few = max(1, options.seeds // 3)
    for tree in trees:
        tree.part("2A", race=True)(0)  # compiles, and rewrites
    print(" " * 52 + "".join(f"{tree.home.name:>9.9}" for tree in trees))
    compare("2A, one seed: ms", 1e-3, options.seeds, lambda tree: tree.part("2A"), trees)
    compare("2A, one seed, --race: ms", 1e-3, few, lambda tree: tree.part("2A", race=True), trees)
    for part in ("2B", "2C", "2D"):
        compare(f"{part}, one seed: s", 1, few, lambda tree, part=part: tree.part(part), trees)  # type: ignore[misc]
    churn = "TestReliableChurn2C"
    compare(f"{churn}, one seed: s", 1, few, lambda tree: lambda seed: tree.trial("2C", [churn], seed), trees)
    compare(
        "pytest -m 2A --sim --trials 100 -n 2, a seed: ms", 1e-3, 1 + few // 5, lambda tree: tree.pytest(100), trees
    )


if __name__ == "__main__":
    main()
