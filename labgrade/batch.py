"""Grades submissions, each in processes of its own, and can be stopped and started again.

For each submission and block of trials one process runs at a time (labgrade.guard says what it may not do there):
pytest on the lab's tests, with `--report` into a folder of its own below `OUT/NAME/runs`. Nothing that a process
prints, and no exit status, counts; a trial has passed when its record says so.

What happens to a trial whose record is missing:

- The process ended while it ran, or took too much memory, or made no progress for `timeout` seconds and was killed: the
  trial has failed, with that message, and a new process goes on with the next one. In virtual time these are seconds of
  processor time, so that a busy machine fails nobody.
- The last `give_up` trials of its test, in a row and in its block, all failed in such a way, or by a loop or a timeout
  that took its time to be noticed: the trial has failed with them, and is not run.
- The grading was stopped: it runs when the same grading is started again. What has a record is not run twice.

The blocks depend on the settings alone, and a virtual trial on its seed alone, so that the records of a submission are
the same whatever is graded beside it, with however many processes, and however often the grading was interrupted. (With
real threads, the seed repeats the faults and not the schedule.)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labgrade.policy import Grading, GradingError
from labgrade.process import Process
from labgrade.protocol import Guarding, Run
from labrun import HOME, TESTS
from labrun.record import COSTLY, Cause, NodeId, Record

__all__ = ["Batch", "Submission", "known_seed", "submissions_of"]

BLOCK = 200  # virtual trials of each test that a process runs before the next one takes over
POLL = 0.1  # s
GRACE = 10.0  # s until a process is killed whose own timeout has not come


@dataclass
class Submission:
    """A file or a folder, and the name that its results go under."""

    name: str
    path: Path
    records: dict[str, Record] = field(default_factory=dict)  # by node id
    runs: dict[str, str] = field(default_factory=dict)  # by node id, the name of the run that recorded it

    def digest(self) -> str:
        """A hash of all that it consists of."""
        whole = hashlib.sha256()
        for file in [self.path] if self.path.is_file() else sorted(_files(self.path)):
            whole.update(f"{file.relative_to(self.path.parent)}\0".encode() + file.read_bytes() + b"\0")
        return whole.hexdigest()


def submissions_of(paths: Iterable[str]) -> list[Submission]:
    """The submissions that the command line names, each with a name of its own. Raises GradingError."""
    found: dict[str, Submission] = {}
    for text in paths:
        path = Path(text).expanduser().absolute()
        if not path.exists():
            raise GradingError(f"there is no submission {text}")
        name = base = path.stem if path.is_file() else path.name
        for number in range(2, 1_000_000):
            if name not in found:
                break
            name = f"{base}-{number}"
        found[name] = Submission(name, path)
    return list(found.values())


def known_seed(out: Path) -> int | None:
    """The seed of the grading that has been started in `out`, if any."""
    try:
        return int(json.loads((out / "grading.json").read_text())["settings"]["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Batch:
    """The grading of some submissions into the folder `out`."""

    def __init__(self, submissions: Sequence[Submission], grading: Grading, out: Path) -> None:
        self.submissions = submissions
        self.grading = grading
        self.out = out
        self.tests: list[str] = []  # node ids of all trials, in pytest's order
        self._lock = threading.Lock()  # guards records, and the number of runs
        self._stop = threading.Event()

    # -- beginning -----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Look for results of an earlier start of the same grading. Raises GradingError if there are others."""
        self.tests = _collect(self.grading)
        marks = {"settings": self.grading.marks(), "submissions": {s.name: s.digest() for s in self.submissions}}
        file = self.out / "grading.json"
        if file.exists():
            known = json.loads(file.read_text())
            if known != marks:
                raise GradingError(
                    f"{self.out} has the results of another grading ({_difference(known, marks)}): "
                    "give another --out, or remove it"
                )
        elif self.out.exists() and any(self.out.iterdir()):
            raise GradingError(f"{self.out} is not empty, and holds no grading that could go on: give another --out")
        else:
            self.out.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(marks, indent=1))
        for submission in self.submissions:
            for folder in sorted(self._runs(submission).glob("*")):
                self._take(submission, Run(folder))

    def _runs(self, submission: Submission) -> Path:
        return self.out / submission.name / "runs"

    def test_names(self) -> list[str]:
        return list(dict.fromkeys(node(nodeid).test for nodeid in self.tests))

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, processes: int, progress: Callable[[], None]) -> None:
        """Run all trials that have no record; `progress` is called now and then. Ctrl-C ends it, and loses nothing."""
        blocks = [(s, block) for block in self._blocks() for s in self.submissions]
        with ThreadPoolExecutor(processes) as pool:
            futures = [pool.submit(self._run_block, submission, block) for submission, block in blocks]
            try:
                while not all(future.done() for future in futures):
                    time.sleep(POLL)
                    progress()
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
            for future in futures:
                future.result()

    def _blocks(self) -> list[list[str]]:
        """The trials of each process: in virtual time many, as it takes as long to start as ten of them."""
        size = 1 if self.grading.mode == "real" else BLOCK
        blocks: dict[int, list[str]] = {}
        for test in self.tests:
            blocks.setdefault(node(test).trial // size, []).append(test)
        return list(blocks.values())

    def _run_block(self, submission: Submission, block: list[str]) -> None:
        while not self._stop.is_set():
            self._give_up(submission, block)
            todo = [test for test in block if test not in submission.records]
            if not todo:
                return
            with tempfile.TemporaryDirectory(prefix="labgrade-", ignore_cleanup_errors=True) as scratch:
                self._run_process(submission, block, todo, Path(scratch))

    def _run_process(self, submission: Submission, block: list[str], todo: list[str], scratch: Path) -> None:
        """One process for what is to do, until it ends, hangs, or goes on in vain."""
        run = self._new_run(submission)
        copy = scratch / submission.path.name
        if self.grading.trusted:
            copy = submission.path  # as it lies there: it may use what lies beside it
        elif submission.path.is_dir():
            shutil.copytree(submission.path, copy, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        else:
            shutil.copy(submission.path, copy)
        theirs, ours = os.pipe()  # ours is closed when we end, whatever ends us
        run.prepare(todo, Guarding(str(scratch), self.grading.memory, self.grading.trusted, theirs))
        process = Process(self._command(copy if self.grading.trusted else Path(copy.name), run), scratch, theirs)
        try:
            cause, reason = self._watch(process, submission, block, run)
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)
        self._take(submission, run)
        if self._stop.is_set() or reason == "given up":
            return
        current = run.current()
        if all(test in submission.records for test in todo):
            return
        if current in submission.records or current not in todo:  # between two trials, or before the first one
            tail = process.output().decode(errors="replace")[-2000:]
            left = [test for test in todo if test not in submission.records]
            message = f"the process {reason} before the trial"
            message += f": {tail.strip().splitlines()[-1]}" if tail.strip() else ""
            self._add(submission, run, left[:1] if current else left, cause, message)
        else:
            self._add(submission, run, [current], cause, f"the submission's process {reason}")

    def _watch(self, process: Process, submission: Submission, block: list[str], run: Run) -> tuple[Cause, str]:
        """Wait for a process, and say how it ended."""
        clock = time.monotonic if self.grading.mode == "real" else process.processor_time
        size, since = 0, clock()
        while process.runs():
            time.sleep(POLL)
            if self._stop.is_set():
                return "not_run", "was stopped"
            if process.memory_used() > self.grading.memory:
                return "memory", f"took more than {self.grading.memory} MB of memory"
            written = run.progress()
            if written != size:
                size, since = written, clock()
                self._take(submission, run)
                if self._in_vain(submission, block):
                    return "not_run", "given up"
            elif clock() - since > self.grading.limit + (GRACE if self.grading.mode == "real" else 0):
                return "timeout", f"made no progress for {self.grading.limit:g} s"
        process.kill()
        return "exit", process.ending()

    def _command(self, solution: Path, run: Run) -> list[str]:
        s = self.grading
        how = {"real": [], "sim": ["--sim"], "race": ["--race"]}[s.mode]
        return [
            *_pytest(s),
            *("-p", "labgrade.guard", f"--grading={run.folder}", f"--report={run.report}"),
            *(f"--raft={solution}", *how, f"--timeout={s.limit if s.mode == 'real' else 0}"),
        ]

    def _new_run(self, submission: Submission) -> Run:
        with self._lock:
            runs = self._runs(submission)
            runs.mkdir(parents=True, exist_ok=True)
            run = runs / f"{len(list(runs.iterdir())) + 1:04}"
            run.mkdir()
            return Run(run)

    # -- records -------------------------------------------------------------------------------------------------

    def _take(self, submission: Submission, run: Run) -> None:
        """Add what a run has recorded since the last time, or was recorded of it."""
        with self._lock:
            for record in run.new_records():
                if submission.records.setdefault(record.nodeid, record) is record:
                    submission.runs[record.nodeid] = run.name

    def _add(self, submission: Submission, run: Run, tests: list[str], cause: Cause, message: str) -> None:
        """Record trials that could not do it themselves."""
        g = self.grading
        run.add(
            Record(
                nodeid=test,
                test=node(test).test,
                trial=node(test).trial,
                seed=g.seed + node(test).trial,
                mode="real" if g.mode == "real" else "virtual",
                outcome="failed",
                cause=cause,
                message=message,
                costly=True,
            )
            for test in tests
        )
        self._take(submission, run)

    def _in_vain(self, submission: Submission, block: list[str]) -> list[str]:
        """The trials of the block that are not to be run any more."""
        rest: list[str] = []
        for test in dict.fromkeys(node(trial).test for trial in block):
            trials = [trial for trial in block if node(trial).test == test]
            done = [submission.records[trial] for trial in trials if trial in submission.records]
            last = done[-self.grading.give_up :] if self.grading.give_up else []
            if len(last) == self.grading.give_up > 0 and all(r.costly or r.cause in COSTLY for r in last):
                rest += [trial for trial in trials if trial not in submission.records]
        return rest

    def _give_up(self, submission: Submission, block: list[str]) -> None:
        rest = self._in_vain(submission, block)
        for test in dict.fromkeys(node(trial).test for trial in rest):
            trials = [trial for trial in rest if node(trial).test == test]
            before = [r for t in block if (r := submission.records.get(t)) and r.test == test]
            message = f"not run: {self.grading.give_up} trials in a row had ended with: {before[-1].message}"
            self._add(submission, self._new_run(submission), trials, "not_run", message)


def _pytest(g: Grading) -> list[str]:
    """pytest on the lab's tests, whatever the folder or its settings."""
    return [
        *(sys.executable, "-m", "pytest", *map(str, sorted(TESTS.glob("test_*.py")))),
        *(f"--rootdir={TESTS}", f"-c={os.devnull}", "-p", "no:cacheprovider", "-q"),
        *("-m", g.parts, f"--trials={g.trials}", f"--seed={g.seed}"),
    ]


def _collect(g: Grading) -> list[str]:
    """The node ids of all trials. Raises GradingError when there are none."""
    command = [*_pytest(g), "--collect-only", f"--raft={HOME / 'raft' / 'skeleton.py'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(HOME)})
    tests = [line for line in done.stdout.splitlines() if NodeId.parse(line)]
    if done.returncode != 0 or not tests:
        raise GradingError(f"-m {g.parts!r} selects no tests: {(done.stderr or done.stdout)[-1000:].strip()}")
    return tests


def node(nodeid: str) -> NodeId:
    """What a node id of this grading says."""
    found = NodeId.parse(nodeid)
    assert found is not None, nodeid
    return found


def _difference(known: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What is not the same in two gradings."""
    for name, value in wanted["settings"].items():
        if known["settings"].get(name) != value:
            return f"{name} was {known['settings'].get(name)!r}, not {value!r}"
    changed = [name for name, digest in wanted["submissions"].items() if known["submissions"].get(name) != digest]
    gone = sorted(known["submissions"].keys() - wanted["submissions"].keys())
    return f"the submissions were others: {', '.join(changed + gone)}"


def _files(folder: Path) -> list[Path]:
    hidden = {"__pycache__", ".git"}
    return [f for f in folder.rglob("*") if f.is_file() and not hidden & set(f.relative_to(folder).parts)]
