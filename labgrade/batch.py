"""Grades submissions, each in processes of its own, and can be stopped and started again.

Two stages, one after the other for the whole class:

1. `trials`: N trials of each test, in virtual time or on real threads. They are quick and many, but the submission runs
   in the process that judges it: they can only take points away.
2. `isolated`: K trials of each test that has had no failure (with the rule "share", that has passed once), each server
   in a process of its own, judged from outside. These give the points. One whose cause is `load` says nothing about the
   submission: it is run again, AGAIN times, in the end alone, and never counts.

For each submission and block of trials one process runs at a time (labgrade.process), in the sandbox, with a run of
labgrade.protocol below `OUT/NAME/runs`. Nothing that a process prints, and no exit status, counts; a trial has passed
when its record says so.

What happens to a trial whose record is missing:

- The process ended while it ran, or took too much memory, or made no progress for `timeout` seconds and was killed: the
  trial has failed, with that message, and a new process goes on with the next one. In virtual time these are seconds of
  processor time, so that a busy machine fails nobody, and ten times as many real ones.
- The last `give_up` trials of its test that have ended all failed in such a way, or by a loop or a timeout that took
  its time to be noticed: the trial has failed with them, and is not run.
- The grading was stopped: it runs when the grading is started again. What has a record is not run twice.

Whatever else goes wrong with a submission (it cannot be looked at, copied, started, read) is its `trouble`: no points,
the reason in its row, the traceback in `OUT/NAME/trouble.log`; the others go on, and the next start tries it again.
A full or read-only disk is the grader's own: GradingError, and the same command goes on later.

OUT keeps what has been graded: `grading.json` says what all records depend on (Grading.marks), `NAME/submission.json`
what was graded under that name. A submission is known by its path, or else its name; one that has changed begins again,
and what was there is set aside in `NAME/earlier-K`. Those that are not named this time keep their results.

A virtual trial depends on its seed alone, so the records of a submission are the same whatever is graded beside it,
with however many processes, and however often the grading was interrupted. (On real threads, the seed repeats the
faults and not the schedule. In more than one block, how many trials are given up depends on which ended first.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import msgspec

from labgrade import intake
from labgrade.policy import Grading, GradingError
from labgrade.process import Processes, Started, pytest_arguments
from labgrade.protocol import Key, Run, Stage
from labgrade.sandbox import MEGABYTE, SandboxError
from labrun import HOME
from labrun.record import COSTLY, Cause, NodeId, Record
from labrun.text import shown

__all__ = ["STAGES", "Batch", "Graded", "disk", "known_seed", "look", "written"]

BLOCK = 200  # virtual trials of each test that a process runs before the next one takes over
SIDE_BY_SIDE = 3  # isolated trials for each process that may run at once: their servers sleep most of the time
AGAIN = 5  # times that an isolated trial is run again for the machine's load
POLL = 0.1  # s
GRACE = 10.0  # s until a process is killed whose own timeout has not come
LAST_SECOND = 1.0  # s to end, for a process that has delivered all its records
BACKSTOP = 10  # s of real time for each second of processor time
ROOM = 1_000_000  # bytes that must be free on the disk for a process's end to be the submission's fault
GRADERS_OWN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}
STAGES: tuple[Stage, ...] = get_args(Stage)
RESERVED = ("grading.json", "grades.csv", "grades.json", "lock")


@dataclass
class Graded:
    """A submission with its records."""

    submission: intake.Submission
    records: dict[Stage, dict[Key, Record]] = field(default_factory=lambda: {stage: {} for stage in STAGES})
    runs: dict[tuple[Stage, Key], str] = field(default_factory=dict)  # the name of the run that recorded it
    loads: Counter[str] = field(default_factory=Counter)  # by test: isolated trials that the machine was too busy for
    trouble: str = ""  # why it cannot be graded, at least not now

    @property
    def name(self) -> str:
        return self.submission.name


def look(paths: Iterable[str], out: Path, only: Sequence[str] = ()) -> list[intake.Submission]:
    """Look at the submissions that the command line names; what `out` knows by its path keeps its name there.

    `only` are the names of those to grade; all if empty. Raises GradingError.
    """
    with disk(out):
        looked = intake.look(paths, reserved=RESERVED)
    known = {s.path: s.name for s in _known(out)}
    taken = {known[s.path] for s in looked if s.path in known}
    here = {s.path for s in looked}
    owners = {name: path for path, name in known.items()}
    found = []
    for s in looked:
        name = known.get(s.path, s.name)
        if s.path not in known:
            again = 1
            while name in taken or owners.get(name) in here:  # it is another's, who is graded now, too
                again += 1
                name = f"{s.name}-{again}"
        taken.add(name)
        found.append(replace(s, name=name))
    missing = set(only) - {s.name for s in found}
    if missing:
        raise GradingError(f"--only {min(missing)}: the submissions are {', '.join(s.name for s in found)}")
    return [s for s in found if not only or s.name in only]


def known_seed(out: Path) -> int | None:
    """The seed of the grading that has been started in `out`, if any."""
    try:
        return int(json.loads((out / "grading.json").read_text())["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Batch:
    """The grading of some submissions into the folder `out`."""

    def __init__(self, submissions: Sequence[intake.Submission], grading: Grading, out: Path) -> None:
        self.submissions = submissions
        self.grading = grading
        self.out = out
        self.tests: list[str] = []  # in pytest's order
        self.graded: list[Graded] = []  # those of `submissions`, in their order
        self.others: list[Graded] = []  # what was graded into `out` before, and is not among them
        self.news: list[str] = []  # what has happened that a person should know
        self._lock = threading.Lock()  # guards records, and the number of runs
        self._stop = threading.Event()
        self._held = contextlib.ExitStack()

    # -- beginning -----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Begin, or go on where an earlier start of this grading has stopped. Raises GradingError."""
        self.tests = _collect(self.grading)
        with disk(self.out):
            self._begin()
        self.processes = Processes(self.grading, self.out)
        self.news.append(self.processes.line)

    def _begin(self) -> None:
        file = self.out / "grading.json"
        if self.out.exists() and not self.out.is_dir():
            raise GradingError(f"--out {self.out} is a file: name a folder")
        if not file.exists() and self.out.exists() and {path.name for path in self.out.iterdir()} - {"lock"}:
            raise GradingError(f"{self.out} is not empty, and holds no grading that could go on: give another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        self._hold()
        marks = self.grading.marks()
        if file.exists():
            try:
                known = dict(json.loads(file.read_text()))
            except (ValueError, TypeError):
                raise GradingError(
                    f"{file} is damaged: give another --out, or write it anew: {json.dumps(marks)}"
                ) from None
            for name, value in marks.items():
                if known.get(name) != value:
                    raise GradingError(
                        f"{self.out} has the results of another grading ({name} was {known.get(name)!r}, not "
                        f"{value!r}): give another --out, or remove it"
                    )
        else:
            written(file, json.dumps(marks, indent=1).encode())
        known_before = {s.name: s for s in _known(self.out)}
        for submission in self.submissions:
            before = known_before.pop(submission.name, None)
            self.graded.append(self._one(submission, before))
        self.others = [Graded(s, trouble=s.reason) for s in known_before.values()]
        for graded in [*self.graded, *self.others]:
            for folder in sorted(self._runs(graded).glob("*")):
                self._take(graded, Run(folder))

    def _one(self, submission: intake.Submission, before: intake.Submission | None) -> Graded:
        folder = self.out / submission.name
        same = before is not None and (before.digest, before.solution) == (submission.digest, submission.solution)
        if not same and folder.exists() and any(folder.iterdir()):
            aside = folder / f"earlier-{1 + len(list(folder.glob('earlier-*')))}"
            aside.mkdir()
            for path in [path for path in folder.iterdir() if not path.name.startswith("earlier-")]:
                path.rename(aside / path.name)
            where = f"{before.path}, now {submission.path}" if before and before.path != submission.path else "it"
            self.news.append(f"{submission.name} has changed ({where}); its earlier results are in {aside}")
        folder.mkdir(exist_ok=True)
        written(folder / "submission.json", _encoded(submission))
        graded = Graded(submission, trouble=submission.reason)
        if submission.log:
            self.log_trouble(graded, submission.log)
        return graded

    def _hold(self) -> None:
        """One grading at a time. The lock ends with this process, whatever ends it."""
        lock = self._held.enter_context((self.out / "lock").open("a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GradingError(f"another grading runs in {self.out}: wait for its end, or give another --out") from None

    def close(self) -> None:
        """Let another grading begin in `out`."""
        self._held.close()

    def _runs(self, graded: Graded) -> Path:
        return self.out / graded.name / "runs"

    # -- what is to be done --------------------------------------------------------------------------------------

    def planned(self, graded: Graded, stage: Stage) -> list[Key]:
        """The trials of a stage, as far as is known by now."""
        if graded.trouble:
            return []
        if stage == "trials":
            return [Key(test, trial) for trial in range(self.grading.trials) for test in self.tests]
        tests = [test for test in self.tests if self._is_worth_it(graded, test)]
        return [Key(test, trial) for trial in range(self.grading.confirm) for test in tests]

    def _is_worth_it(self, graded: Graded, test: str) -> bool:
        passed = [r.passed for r in self.of_test(graded, "trials", test)]
        return any(passed) if self.grading.rule == "share" else sum(passed) == self.grading.trials

    def of_test(self, graded: Graded, stage: Stage, test: str) -> list[Record]:
        """The records of those trials that are asked for, in their order."""
        most = self.grading.trials if stage == "trials" else self.grading.confirm
        keys = (Key(test, trial) for trial in range(most))
        return [record for key in keys if (record := graded.records[stage].get(key))]

    def _blocks(self, graded: Graded, stage: Stage) -> list[list[Key]]:
        """The trials of each process: in virtual time many, as it takes as long to start as ten of them."""
        size = BLOCK if stage == "trials" and self.grading.mode != "real" else 1
        blocks: dict[int, list[Key]] = {}
        for key in self.planned(graded, stage):
            if key not in graded.records[stage]:
                blocks.setdefault(key.trial // size, []).append(key)
        return [blocks[number] for number in sorted(blocks)]

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, processes: int, progress: Callable[[], None]) -> None:
        """Run all trials that have no record; `progress` is called now and then. Ctrl-C ends it, and loses nothing.

        Raises GradingError when the grader itself can not go on.
        """
        with disk(self.out):
            self._run_stage("trials", processes, progress)
            for at_once in (processes * SIDE_BY_SIDE, processes, *[1] * (AGAIN - 1)):
                self._run_stage("isolated", at_once, progress)

    def _run_stage(self, stage: Stage, at_once: int, progress: Callable[[], None]) -> None:
        by_graded = [[(graded, block) for block in self._blocks(graded, stage)] for graded in self.graded]
        rounds = range(max(map(len, by_graded), default=0))
        jobs = [blocks[number] for number in rounds for blocks in by_graded if number < len(blocks)]
        if not jobs:
            return
        with ThreadPoolExecutor(min(at_once, len(jobs))) as pool:
            futures = [pool.submit(self._run_block, graded, stage, block) for graded, block in jobs]
            try:
                while not all(future.done() for future in futures):
                    time.sleep(POLL)
                    progress()
                    for future in futures:
                        if future.done():
                            future.result()  # which has failed only for the grader's own trouble
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
            for future in futures:
                future.result()

    def _run_block(self, graded: Graded, stage: Stage, block: list[Key]) -> None:
        try:
            busy: set[Key] = set()  # the machine was
            while not self._stop.is_set() and not graded.trouble:
                self._give_up(graded, stage, block)
                todo = [key for key in block if key not in graded.records[stage] and key not in busy]
                if not todo:
                    return
                with tempfile.TemporaryDirectory(prefix="labgrade-", ignore_cleanup_errors=True) as scratch:
                    os.chmod(scratch, 0o755)  # whoever runs it may be another user
                    busy |= self._run_process(graded, stage, todo, Path(scratch))
        except Exception as e:
            if isinstance(e, OSError) and e.errno in GRADERS_OWN:
                raise
            graded.trouble = graded.trouble or f"it could not be graded: {type(e).__name__}: {shown(str(e), 300)}"
            self.log_trouble(graded, traceback.format_exc(limit=20))

    def log_trouble(self, graded: Graded, text: str) -> None:
        with (self.out / graded.name / "trouble.log").open("a", errors="backslashreplace") as log:
            log.write(f"{text}\n")

    def _run_process(self, graded: Graded, stage: Stage, todo: list[Key], scratch: Path) -> set[Key]:
        """One process for what is to do, until it ends, hangs, or goes on in vain. Returns what was `load`."""
        submission, copy = graded.submission, scratch / "submission"
        if self.grading.trusted:
            copy = submission.path.parent  # as it lies there: it may use what lies beside it
        else:
            taken = intake.take(submission, copy)
            if taken.reason:
                graded.trouble = taken.reason
                self.log_trouble(graded, taken.log or taken.reason)
                return set()
        run = self._new_run(graded)
        records = graded.records[stage]
        busy: set[Key] = set()
        started = self.processes.start(stage, copy, submission.solution, run, todo)
        try:
            cause, reason = self._watch(started, graded, stage, run, todo, busy)
        finally:
            started.end()
        self._take(graded, run, busy)
        left = [key for key in todo if key not in records and key not in busy]
        if self._stop.is_set() or not left or reason == "given up":
            return busy
        if shutil.disk_usage(self.out).free < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.out))
        current = run.current()
        said = started.last_line()
        if current is None:  # no line of the submission has run
            raise RuntimeError(f"the process {reason} before the first trial: {said}")
        if current in left:
            self._add(graded, stage, run, [current], cause, f"the submission's process {reason}")
        else:  # between two trials
            message = f"the process {reason} before the trial" + (f": {shown(said)}" if said else "")
            self._add(graded, stage, run, left[:1], cause, message)
        return busy

    def _watch(
        self, started: Started, graded: Graded, stage: Stage, run: Run, todo: list[Key], busy: set[Key]
    ) -> tuple[Cause, str]:
        """Wait for a process, and say how it ended."""
        virtual = stage == "trials" and self.grading.mode != "real"
        limit, memory = self.grading.limit, self.processes.memory(stage)
        process = started.process
        used, since = 0.0, time.monotonic()
        delivered = 0.0
        while process.wait(POLL) is None:
            now = time.monotonic()
            if self._stop.is_set():
                return "not_run", "was stopped"
            usage = process.usage()
            if usage.memory > memory:
                return "memory", f"took more than {memory // MEGABYTE} MB of memory"
            if self._take(graded, run, busy):
                used, since = usage.seconds, now
                if self._in_vain(graded, stage, todo):
                    return "not_run", "given up"
                if all(key in graded.records[stage] or key in busy for key in todo):
                    delivered = now
            if delivered:
                if now - delivered > LAST_SECOND:
                    return "", "had delivered all"
            elif virtual and usage.seconds - used > limit:
                return "timeout", f"made no progress for {limit:g} s"
            elif now - since > (limit * BACKSTOP if virtual else limit + GRACE):
                return "timeout", f"made no progress for {limit * BACKSTOP if virtual else limit:g} s of real time"
        return "exit", started.ending()

    def _new_run(self, graded: Graded) -> Run:
        with self._lock:
            runs = self._runs(graded)
            runs.mkdir(parents=True, exist_ok=True)
            run = runs / f"{len(list(runs.iterdir())) + 1:04}"
            run.mkdir()
            return Run(run)

    # -- records -------------------------------------------------------------------------------------------------

    def _take(self, graded: Graded, run: Run, busy: set[Key] | None = None) -> int:
        """Add what a run has recorded since the last time, or was recorded of it: how many are new."""
        with self._lock:
            new = 0
            plan = run.plan()
            for record in run.new_records() if plan else ():
                assert plan is not None
                key = Key(record.test, record.trial)
                if plan.stage == "isolated" and record.cause == "load":
                    graded.loads[record.test] += 1
                    if busy is not None:
                        busy.add(key)
                    new += 1
                elif graded.records[plan.stage].setdefault(key, record) is record:
                    graded.runs[plan.stage, key] = run.name
                    new += 1
            return new

    def _add(self, graded: Graded, stage: Stage, run: Run, keys: Iterable[Key], cause: Cause, message: str) -> None:
        """Record trials that could not do it themselves."""
        plan = run.plan()
        assert plan is not None
        run.add(
            Record(
                nodeid=f"{test}[trial{trial}]",
                test=test,
                trial=trial,
                seed=plan.seed + trial,
                mode=plan.mode,
                outcome="failed",
                cause=cause,
                message=message,
                costly=True,
            )
            for test, trial in keys
        )
        self._take(graded, run)

    def _in_vain(self, graded: Graded, stage: Stage, block: list[Key]) -> list[Key]:
        """The trials of the block that are not to be run any more, by what has ended in all processes."""
        rest: list[Key] = []
        many = self.grading.give_up
        records = graded.records[stage]
        for test in dict.fromkeys(key.test for key in block) if many else ():
            last = [r for key, r in list(records.items()) if key.test == test and r.cause != "not_run"][-many:]
            if len(last) == many and all(r.costly or r.cause in COSTLY for r in last):
                rest += [key for key in block if key.test == test and key not in records]
        return rest

    def _give_up(self, graded: Graded, stage: Stage, block: list[Key]) -> None:
        with self._lock:
            rest = self._in_vain(graded, stage, block)
        for test in dict.fromkeys(key.test for key in rest):
            keys = [key for key in rest if key.test == test]
            last = [r for key, r in list(graded.records[stage].items()) if key.test == test and r.cause != "not_run"]
            message = f"not run: {self.grading.give_up} trials in a row had ended with: {last[-1].message}"
            run = self._new_run(graded)
            self.processes.plan(stage, run, keys)
            self._add(graded, stage, run, keys, "not_run", message)


# -- files ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(out: Path) -> Any:
    """What the grader's own disk refuses ends the grading with one message; what there is stays."""
    try:
        yield
    except OSError as e:
        raise GradingError(
            f"{e.filename or out}: {e.strerror or e}. Nothing is lost: mend that, and the same command goes on"
        ) from e
    except SandboxError as e:
        raise GradingError(str(e)) from e


def written(file: Path, data: bytes) -> None:
    """All of it, or nothing."""
    new = file.with_name(f"{file.name}.new")
    new.write_bytes(data)
    new.replace(file)


def _encoded(submission: intake.Submission) -> bytes:
    fields = vars(submission) | {"path": os.fsencode(submission.path)}  # base64: it may be no UTF-8
    return msgspec.json.encode(fields)


def _known(out: Path) -> list[intake.Submission]:
    """What has been graded into `out`. One whose description is damaged is none, and begins again."""
    found = []
    for file in sorted(out.glob("*/submission.json")):
        try:
            fields = msgspec.json.decode(file.read_bytes())
            path = Path(os.fsdecode(msgspec.convert(fields.pop("path"), bytes, strict=False)))
            fields["notes"] = tuple(fields["notes"])
            found.append(intake.Submission(path, **fields))
        except (OSError, msgspec.MsgspecError, TypeError, KeyError, AttributeError, ValueError):
            continue
    return found


def _collect(g: Grading) -> list[str]:
    """The names of the tests. Raises GradingError when there are none."""
    command = [sys.executable, "-P", "-m", "pytest", *pytest_arguments(g, 1), "--collect-only"]
    command += [f"--raft={HOME / 'raft' / 'skeleton.py'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {"PYTHONPATH": str(HOME)})
    tests = [found.test for line in done.stdout.splitlines() if (found := NodeId.parse(line))]
    if done.returncode != 0 or not tests:
        raise GradingError(f"-m {g.parts!r} selects no tests: {(done.stderr or done.stdout)[-1000:].strip()}")
    return tests
