"""Runs trials of one submission, one process after another, until each has a record or it is in vain.

A block is some trials of one submission and stage. For it one process runs at a time (labgrade.process), in the
sandbox, with a run of labgrade.protocol below `FOLDER/NAME/runs`. Nothing that a process prints, and no exit status,
counts; a trial has passed when its record says so. What happens to a trial whose record is missing:

- The process ended while it ran, or took too much memory, or made no progress for `timeout` seconds and was killed: the
  trial has failed, with that message, and a new process goes on with the next one. In virtual time these are seconds of
  processor time, so that a busy machine fails nobody, and ten times as many real ones.
- The last `give_up` trials of its test that have ended all failed in such a way, or by a loop or a timeout that took
  its time to be noticed: the trial has failed with them, and is not run.
- The grading was stopped: it has none, and runs when the grading is started again. What has a record is not run twice.

Whatever else goes wrong with a submission (it cannot be copied, started, read) is its `trouble`: the reason in its row,
the traceback in `FOLDER/NAME/trouble.log`. Raised is only what is the grader's own: OSError for a full or read-only
disk.

The records stay in the files of the runs (`Graded.records`): in memory there is a bit for each trial (Tally), so that
a grading takes as much for two thousand submissions as for a hundred.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, get_args

from labgrade import intake
from labgrade.policy import Grading
from labgrade.process import Processes, Started
from labgrade.protocol import Key, Run, Stage
from labgrade.sandbox import MEGABYTE
from labrun.record import COSTLY, Cause, Record
from labrun.text import shown

__all__ = ["GRADERS_OWN", "STAGES", "Graded", "Runner", "Streak", "Tally", "could_not", "is_load"]

POLL = 0.1  # s
GRACE = 10.0  # s until a process is killed whose own timeout has not come
LAST_SECOND = 1.0  # s to end, for a process that has delivered all its records
BACKSTOP = 10  # s of real time for each second of processor time
ROOM = 1_000_000  # bytes that must be free on the disk for a process's end to be the submission's fault
GRADERS_OWN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}
STAGES: tuple[Stage, ...] = get_args(Stage)


Take = Callable[[intake.Submission, Path], intake.Submission]
"""Makes the copy of a submission that is run, as labgrade.intake.take does."""


class Tally:
    """Which trials have a record, and which of them have passed: a bit for each."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}  # by test, bit k for trial k
        self._passed: dict[str, int] = {}

    def __contains__(self, key: Key) -> bool:
        return bool(self._known.get(key.test, 0) >> key.trial & 1)

    def add(self, key: Key, passed: bool) -> bool:
        """Whether it is new. The first record of a trial counts."""
        if key in self:
            return False
        self._known[key.test] = self._known.get(key.test, 0) | 1 << key.trial
        if passed:
            self._passed[key.test] = self._passed.get(key.test, 0) | 1 << key.trial
        return True

    def known(self, test: str | None = None, trials: int | None = None) -> int:
        """How many have a record: of one test or all, of its first trials or all."""
        return self._count(self._known, test, trials)

    def passed(self, test: str | None = None, trials: int | None = None) -> int:
        return self._count(self._passed, test, trials)

    @staticmethod
    def _count(bits: dict[str, int], test: str | None, trials: int | None) -> int:
        found = bits.values() if test is None else [bits.get(test, 0)]
        return sum((b if trials is None else b & (1 << trials) - 1).bit_count() for b in found)


class Streak(NamedTuple):
    """How many trials of a test in a row, the last ones to end, failed at great cost, and what the last one said."""

    length: int = 0
    message: str = ""


class Known(NamedTuple):
    """A record, and the run that made it."""

    record: Record
    run: str


@dataclass
class Graded:
    """A submission, and what is known of its trials."""

    submission: intake.Submission
    folder: Path  # of its results
    tally: dict[Stage, Tally] = field(default_factory=lambda: {stage: Tally() for stage in STAGES})
    streaks: dict[tuple[Stage, str], Streak] = field(default_factory=dict)  # by stage and test
    loads: Counter[str] = field(default_factory=Counter)  # by test: isolated trials that the machine was too busy for
    trouble: str = ""  # why it cannot be graded, at least not now

    @property
    def name(self) -> str:
        return self.submission.name

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def add(self, stage: Stage, record: Record) -> bool:
        """Count a record. Whether it is new."""
        key = Key(record.test, record.trial)
        if is_load(stage, record):
            self.loads[record.test] += 1
            return True
        if not self.tally[stage].add(key, record.passed):
            return False
        if record.cause != "not_run":
            costly = record.costly or record.cause in COSTLY
            before = self.streaks.get((stage, record.test), Streak())
            self.streaks[stage, record.test] = Streak(before.length + 1, record.message) if costly else Streak()
        return True

    def records(self) -> dict[Stage, dict[Key, Known]]:
        """All that the runs have recorded; the first record of a trial counts."""
        found: dict[Stage, dict[Key, Known]] = {stage: {} for stage in STAGES}
        for folder in sorted(self.runs.glob("*")):
            run = Run(folder)
            plan = run.plan()
            for record in run.new_records() if plan else ():
                assert plan is not None
                if not is_load(plan.stage, record):
                    found[plan.stage].setdefault(Key(record.test, record.trial), Known(record, run.name))
        return found

    def log_trouble(self, text: str) -> None:
        with (self.folder / "trouble.log").open("a", errors="backslashreplace") as log:
            log.write(f"{text}\n")


def could_not(e: Exception) -> str:
    """The trouble of a submission with which something unforeseen happened."""
    return f"it could not be graded: {type(e).__name__}: {shown(str(e), 300)}"


def is_load(stage: Stage, record: Record) -> bool:
    """Whether it says nothing about the submission, as the machine was too busy to judge."""
    return stage == "isolated" and record.cause == "load"


class Runner:
    """Runs blocks of one grading; from several threads at once."""

    def __init__(self, grading: Grading, processes: Processes, take: Take | None = None) -> None:
        self.grading = grading
        self.processes = processes
        self._copy = take or intake.take
        self._lock = threading.Lock()  # guards what is known of trials, and the number of runs
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let all blocks end soon."""
        self._stop.set()

    def run(self, graded: Graded, stage: Stage, block: Sequence[Key]) -> None:
        """Run a block. Raises OSError for the grader's own trouble; the submission's becomes `graded.trouble`."""
        try:
            busy: set[Key] = set()  # the machine was
            while not self._stop.is_set() and not graded.trouble:
                self._give_up(graded, stage, block)
                todo = [key for key in block if key not in graded.tally[stage] and key not in busy]
                if not todo:
                    return
                with tempfile.TemporaryDirectory(prefix="labgrade-", ignore_cleanup_errors=True) as scratch:
                    os.chmod(scratch, 0o755)  # whoever runs it may be another user
                    busy |= self._run_process(graded, stage, todo, Path(scratch))
        except Exception as e:
            if isinstance(e, OSError) and e.errno in GRADERS_OWN:
                raise
            graded.trouble = graded.trouble or could_not(e)
            graded.log_trouble(traceback.format_exc(limit=20))

    def _run_process(self, graded: Graded, stage: Stage, todo: list[Key], scratch: Path) -> set[Key]:
        """One process for what is to do, until it ends, hangs, or goes on in vain. Returns what was `load`."""
        submission, copy = graded.submission, scratch / "submission"
        if self.grading.trusted:
            copy = submission.path.parent  # as it lies there: it may use what lies beside it
        else:
            taken = self._copy(submission, copy)
            if taken.reason:
                graded.trouble = taken.reason
                graded.log_trouble(taken.log or taken.reason)
                return set()
        run = self._new_run(graded)
        tally = graded.tally[stage]
        busy: set[Key] = set()
        started = self.processes.start(stage, copy, submission, run, todo)
        try:
            cause, reason = self._watch(started, graded, stage, run, todo, busy)
        finally:
            started.end()
        self._take(graded, run, busy)
        left = [key for key in todo if key not in tally and key not in busy]
        if self._stop.is_set() or not left or reason == "given up":
            return busy
        if shutil.disk_usage(graded.folder).free < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(graded.folder))
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
        virtual = self.grading.virtual(stage)
        limit, memory = self.grading.limit_of(stage), self.processes.memory(stage)
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
                if all(key in graded.tally[stage] or key in busy for key in todo):
                    delivered = now
            if delivered:
                if now - delivered > LAST_SECOND:
                    return "", "had delivered all"
            elif virtual and usage.seconds - used > limit:
                return "timeout", f"made no progress for {limit:g} s"
            elif now - since > (limit * BACKSTOP if virtual else limit + GRACE):
                return "timeout", f"made no progress for {limit * BACKSTOP if virtual else limit:g} s of real time"
        return "exit", started.ending()

    def adopt(self, graded: Graded, files: dict[str, bytes]) -> None:
        """Take what a run on another machine has packed. Raises OSError."""
        run = self._new_run(graded)
        run.unpack(files)
        self._take(graded, run, set())

    def _new_run(self, graded: Graded) -> Run:
        with self._lock:
            graded.runs.mkdir(parents=True, exist_ok=True)
            run = graded.runs / f"{len(list(graded.runs.iterdir())) + 1:04}"
            run.mkdir()
            return Run(run)

    # -- records -------------------------------------------------------------------------------------------------

    def _take(self, graded: Graded, run: Run, busy: set[Key]) -> int:
        """Count what a run has recorded since the last time, or was recorded of it: how many are new."""
        with self._lock:
            plan = run.plan()
            new = 0
            for record in run.new_records() if plan else ():
                assert plan is not None
                new += graded.add(plan.stage, record)
                if is_load(plan.stage, record):
                    busy.add(Key(record.test, record.trial))
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
        self._take(graded, run, set())

    def _in_vain(self, graded: Graded, stage: Stage, block: Sequence[Key]) -> list[Key]:
        """The trials of the block that are not to be run any more, by what has ended in all processes."""
        many = self.grading.give_up
        given_up = {test for (of, test), streak in graded.streaks.items() if of == stage and streak.length >= many}
        if not many or not given_up:
            return []
        return [key for key in block if key.test in given_up and key not in graded.tally[stage]]

    def _give_up(self, graded: Graded, stage: Stage, block: Sequence[Key]) -> None:
        with self._lock:
            rest = self._in_vain(graded, stage, block)
        for test in dict.fromkeys(key.test for key in rest):
            keys = [key for key in rest if key.test == test]
            said = graded.streaks[stage, test].message
            message = f"not run: {self.grading.give_up} trials in a row had ended with: {said}"
            run = self._new_run(graded)
            self.processes.plan(stage, graded.submission, run, keys)
            self._add(graded, stage, run, keys, "not_run", message)
