"""What the grader itself takes: `python tests/harness/staff/bench_grader.py`, for 100, 500 and 2,000 submissions.

With 5 trials of each of the three tests of 2A, and for 100 submissions also with 50 of each.

The processes that would run the trials are replaced by ones that do nothing, whose records lie there already: what is
left is looking at submissions, copying them, starting and minding processes, reading records, scoring and writing all
files. Prints the processor time of the grader for each submission, and the most memory that it had, each in a process
of its own; and what it takes just to parse one, as a measure of the machine.
"""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labgrade import __main__, batch, process
from labgrade.intake import Submission
from labgrade.protocol import Key, Run, Stage
from labrun.record import Record, to_line
from labrun.report import RECORDS

TESTS = ["TestInitialElection2A", "TestReElection2A", "TestManyElections2A"]
SOURCE = (Path(__file__).parent / "styles" / "ticker.py").read_text()


class Minded:
    """A process of which nothing is seen but its end."""

    status = 0
    stdout = None

    def __init__(self) -> None:
        self._popen = subprocess.Popen(["/bin/true"])

    def wait(self, seconds: float) -> int:
        return self._popen.wait()


class Started:
    def __init__(self) -> None:
        self.process: Any = Minded()

    def last_line(self) -> str:
        return ""

    def ending(self) -> str:
        return "ended"

    def end(self) -> None:
        pass


def start(
    self: process.Processes, stage: Stage, copy: Path, submission: Submission, run: Run, todo: Sequence[Key]
) -> Started:
    self.plan(stage, submission, run, todo, str(copy))
    report = run.box / "report"
    report.mkdir()
    with (report / RECORDS).open("wb") as file:
        for test, trial in todo:
            lines = (f"Test (2A): {test} ...", "  ... Passed --   3.1  3   42    1680    0")
            record = Record(
                nodeid=f"test_2a.py::{test}[trial{trial}]",
                test=test,
                trial=trial,
                seed=trial,
                mode="virtual",
                outcome="passed",
                seconds=3.1,
                servers=3,
                rpcs=42,
                bytes=1680,
                commands=0,
                repeat=f"pytest -m 2A -k {test} --raft raft.py --sim --seed {trial}",
                lines=lines,
            )
            file.write(to_line(record) + b"\n")
    return Started()


def parsed() -> float:
    """ms of processor time to parse the source once."""
    began = time.process_time()
    for _ in range(50):
        ast.parse(SOURCE)
    return (time.process_time() - began) * 20


def grade(submissions: int, trials: int) -> None:
    process.Processes.start = start  # type: ignore[method-assign, assignment]
    batch.collect = lambda grading: TESTS
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        Path(scratch).chmod(0o755)
        folder = Path(scratch, "in")
        folder.mkdir()
        for number in range(submissions):
            (folder / f"s{number:04}.py").write_text(f"{SOURCE}\n# {number}\n")
        before = resource.getrusage(resource.RUSAGE_SELF)
        everybody = sorted(map(str, folder.iterdir()))
        how = ["--sim", "--trials", str(trials), "--confirm", "0", "--seed", "1", "-n", "2", "--out", f"{scratch}/out"]
        assert __main__.main(["grade", *everybody, *how]) == 0
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"{submissions:5} submissions, {trials:2} trials of each test: {1000 * seconds / submissions:.1f} ms of CPU "
            f"each, {after.ru_maxrss / 1024:.0f} MB at most; to parse one takes {parsed():.1f} ms",
            file=sys.stderr,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        grade(*map(int, sys.argv[1:]))
    else:
        for numbers in ((100, 5), (500, 5), (2000, 5), (100, 50)):
            command = [sys.executable, __file__, *map(str, numbers)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(done.stderr.strip().splitlines()[-1], flush=True)
