"""Grades submissions, each in processes of its own, and can be stopped and started again.

Three stages, one after the other for the whole class:

1. `trials`: N trials of each test, in virtual time or on real threads. They are quick and many, but the submission runs
   in the process that judges it: they can only take points away.
2. `isolated`: K trials of each test that has had no failure (with the rule "share", that has passed once), each server
   in a process of its own, judged from outside. These give the points. One whose cause is `load` says nothing about the
   submission: it is run again, AGAIN times, in the end alone, and never counts.
3. `hunt`, if the policy asks for it: a hunt (labrun.hunt) in each part of which a test has passed all trials. It runs
   as those of the first stage do, and can only take points away, or give a human something to look at.

A stage is independent blocks of trials (labgrade.block), and where they run is an Engine's matter: in processes of this
machine, or on a cluster (labgrade.cluster). What goes wrong with one submission is its `trouble`: no points, the reason
in its row; the others go on, and the next start tries it again. A full or read-only disk is the grader's own:
GradingError, and the same command goes on later.

OUT keeps what has been graded: `grading.json` says what all records depend on (Grading.marks) and what was asked for;
`NAME/submission.json` what was graded under that name. A submission is known by its path, or else its name; one that
has changed begins again, and what was there is set aside in `NAME/earlier-K`. Those that are not named this time keep
their results.

A virtual trial depends on its seed alone, so the records of a submission are the same whatever is graded beside it,
with however many processes or machines, and however often the grading was interrupted. (On real threads, the seed
repeats the faults and not the schedule. In more than one block, how many trials are given up depends on which ended
first.)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from labgrade import intake
from labgrade.block import POLL, STAGES, Graded, Runner
from labgrade.policy import Grading, GradingError
from labgrade.process import Processes, pytest_arguments
from labgrade.protocol import Key, Run, Stage
from labgrade.sandbox import SandboxError
from labrun import HOME
from labrun.record import NodeId
from labrun.settings import PARTS

__all__ = [
    "Batch",
    "Counts",
    "Engine",
    "Here",
    "collect",
    "disk",
    "known_seed",
    "known_submissions",
    "look",
    "written",
]

BLOCK = 200  # virtual trials of each test that a process runs before the next one takes over
SIDE_BY_SIDE = 3  # isolated trials for each process that may run at once: their servers sleep most of the time
AGAIN = 5  # times that an isolated trial is run again for the machine's load
RESERVED = (  # names in OUT that no submission can have
    "grading.json",
    "grades.csv",
    "grades.json",
    "moodle.csv",
    "canvas.csv",
    "index.html",
    "anonymous",
    "lock",
)


class Counts(NamedTuple):
    """How far a grading is."""

    done: int  # trials that have a record
    passed: int
    total: int  # that there are to be, the isolated ones as far as is known


def look(
    paths: Iterable[str], out: Path, only: Sequence[str] = (), late: Sequence[str] = ()
) -> list[intake.Submission]:
    """Look at the submissions that the command line names; what `out` knows by its path keeps its name there.

    `only` are the names of those to grade, all if empty; `late` of those that came late, whatever the names of their
    files say. Raises GradingError.
    """
    with disk(out):
        looked = intake.look(paths, reserved=RESERVED)
    known = {s.path: s.name for s in known_submissions(out)}
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
        found.append(replace(s, name=name, late=s.late or name in late))
    for option, names in (("--only", only), ("--late", late)):
        missing = set(names) - {s.name for s in found}
        if missing:
            raise GradingError(f"{option} {min(missing)}: the submissions are {', '.join(s.name for s in found)}")
    return [s for s in found if not only or s.name in only]


def known_seed(out: Path) -> int | None:
    """The seed of the grading that has been started in `out`, if any."""
    try:
        return int(json.loads((out / "grading.json").read_text())["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Engine(Protocol):
    """Where blocks run, behind futures as concurrent.futures has them."""

    def window(self, stage: Stage, again: int) -> int:
        """How many blocks may be under way at once, when those of a stage run for the nth time again."""

    def submit(self, graded: Graded, stage: Stage, block: Sequence[Key]) -> Future[Any]: ...

    def collect(self, graded: Graded, stage: Stage, block: Sequence[Key], done: Future[Any]) -> None:
        """Take what a block has come to. Raises OSError or GradingError for the grader's own trouble."""

    def check(self) -> None:
        """Raises GradingError if the blocks that run will never end."""

    def stop(self) -> None:
        """Let the blocks that run end soon."""

    def close(self) -> None: ...


class Here:
    """The Engine of this machine: `processes` at once, each minded by a thread."""

    def __init__(self, runner: Runner, processes: int, side_by_side: int = SIDE_BY_SIDE) -> None:
        self._runner = runner
        self._processes = processes
        self._side_by_side = side_by_side
        self._pool = ThreadPoolExecutor(processes * side_by_side)

    def window(self, stage: Stage, again: int) -> int:
        if stage != "isolated" or again == 1:
            return self._processes
        return self._processes * self._side_by_side if again == 0 else 1

    def submit(self, graded: Graded, stage: Stage, block: Sequence[Key]) -> Future[Any]:
        return self._pool.submit(self._runner.run, graded, stage, block)

    def collect(self, graded: Graded, stage: Stage, block: Sequence[Key], done: Future[Any]) -> None:
        done.result()

    def check(self) -> None:
        pass

    def stop(self) -> None:
        self._runner.stop()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


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
        self.current: list[str] = []  # the names of those that run
        self.out_of_time = False  # there was no time for all of the trials
        self._held = contextlib.ExitStack()

    # -- beginning -----------------------------------------------------------------------------------------------

    def prepare(self, tests: Sequence[str] = ()) -> None:
        """Begin, or go on where an earlier start of this grading has stopped.

        `tests` are the names of the grading's, if they are known. Raises GradingError.
        """
        self.tests = list(tests) or collect(self.grading)
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
        asked = {"tests": self.tests, "policy": asdict(self.grading)}
        written(file, json.dumps(marks | asked, indent=1).encode())
        known_before = {s.name: s for s in known_submissions(self.out)}
        for submission in self.submissions:
            before = known_before.pop(submission.name, None)
            self.graded.append(self._one(submission, before))
        self.others = [Graded(s, self.out / s.name, trouble=s.reason) for s in known_before.values()]
        for graded in [*self.graded, *self.others]:
            count(graded)

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
        graded = Graded(submission, folder, trouble=submission.reason)
        if submission.log:
            graded.log_trouble(submission.log)
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

    # -- what is to be done --------------------------------------------------------------------------------------

    def left(self, graded: Graded, stage: Stage) -> Iterator[Key]:
        """The trials of a stage that have no record, as far as is known by now."""
        tests, most, tally = self.tests, self.grading.trials, graded.tally[stage]
        if stage == "isolated":
            tests, most = [test for test in tests if self.is_worth_it(graded, test)], self.grading.confirm
        if stage == "hunt":
            passed = {test[-2:] for test in tests if self.is_worth_it(graded, test)}
            tests, most = [f"TestHunt{part}" for part in PARTS if part in passed and self.grading.hunt], 1
        tests = [test for test in tests if tally.known(test, most) < most]
        if tests and not graded.trouble:
            yield from (key for trial in range(most) for test in tests if (key := Key(test, trial)) not in tally)

    def is_worth_it(self, graded: Graded, test: str) -> bool:
        """Whether isolated trials could give points for it."""
        g, tally = self.grading, graded.tally["trials"]
        passed = tally.passed(test, g.trials)
        asked = tally.known(test, g.trials) if g.not_run == "leave out" and self.out_of_time else g.trials
        return passed > 0 and (g.rule == "share" or passed == asked)

    @property
    def stopped(self) -> str:
        """Why a trial has no record."""
        return "there was no time for them" if self.out_of_time else "the grading was stopped"

    def counts(self) -> Counts:
        done = passed = total = 0
        for graded in self.graded:
            for stage, tally in graded.tally.items():
                known = tally.known()
                done, passed = done + known, passed + tally.passed()
                total += known + sum(1 for _ in self.left(graded, stage))
        return Counts(done, passed, total)

    def _blocks(self, graded: Graded, stage: Stage) -> Iterator[list[Key]]:
        """The trials of each process: in virtual time many, as it takes as long to start as ten of them."""
        size = BLOCK if stage == "trials" and self.grading.mode != "real" else 1
        blocks: dict[int, list[Key]] = {}
        for key in self.left(graded, stage):
            blocks.setdefault(key.trial // size, []).append(key)
        yield from (blocks[number] for number in sorted(blocks))

    def _jobs(self, stage: Stage) -> Iterator[tuple[Graded, list[Key]]]:
        """Each submission's first block, then each one's second, and so on."""
        waiting = [(graded, self._blocks(graded, stage)) for graded in self.graded]
        while waiting:
            left = []
            for graded, blocks in waiting:
                block = next(blocks, None)
                if block:
                    yield graded, block
                    left.append((graded, blocks))
            waiting = left

    # -- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        engine: Engine,
        progress: Callable[[], None],
        stages: Sequence[Stage] = STAGES,
        until: float = math.inf,
    ) -> None:
        """Run all trials of some stages that have no record; `progress` is called now and then.

        Ctrl-C ends it, and loses nothing. So does the time `until` (time.monotonic), and `out_of_time` says so. Raises
        GradingError when the grader itself can not go on.
        """
        with disk(self.out), contextlib.closing(engine):
            try:
                if "trials" in stages:
                    for again in range(AGAIN + 1):  # those whose machine was lost
                        self._run_stage("trials", engine, again, progress, until)
                if "isolated" in stages:
                    for again in range(AGAIN + 1):
                        self._run_stage("isolated", engine, again, progress, until)
                if "hunt" in stages:
                    self._run_stage("hunt", engine, 0, progress, until)
            except BaseException:
                engine.stop()
                raise

    def _run_stage(
        self, stage: Stage, engine: Engine, again: int, progress: Callable[[], None], until: float = math.inf
    ) -> None:
        jobs, running = self._jobs(stage), dict[Future[Any], tuple[Graded, list[Key]]]()
        left = True
        while left or running:
            while left and len(running) < engine.window(stage, again) and time.monotonic() <= until:
                job = next(jobs, None)
                if job is None:
                    left = False
                else:
                    running[engine.submit(job[0], stage, job[1])] = job
            self.current = list(dict.fromkeys(graded.name for graded, _ in running.values()))
            done, _ = wait(running, POLL, FIRST_COMPLETED)
            for future in done:
                graded, block = running.pop(future)
                engine.collect(graded, stage, block, future)
            engine.check()
            progress()
            if (left or running) and time.monotonic() > until:
                self.out_of_time = True
                engine.stop()
                left = False


def count(graded: Graded) -> None:
    """Count what its runs have recorded."""
    for folder in sorted(graded.runs.glob("*")):
        run = Run(folder)
        plan = run.plan()
        for record in run.new_records() if plan else ():
            assert plan is not None
            graded.add(plan.stage, record)


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


def known_submissions(out: Path) -> list[intake.Submission]:
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


def collect(g: Grading) -> list[str]:
    """The names of the tests. Raises GradingError when there are none, or none in a file of the course's own."""
    command = [sys.executable, "-P", "-m", "pytest", *pytest_arguments(g), "--trials=1", "--collect-only"]
    command += [f"--raft={HOME / 'raft' / 'skeleton.py'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {"PYTHONPATH": str(HOME)})
    tests = [found.test for line in done.stdout.splitlines() if (found := NodeId.parse(line))]
    if done.returncode != 0 or not tests:
        raise GradingError(f"-m {g.parts!r} selects no tests: {(done.stderr or done.stdout)[-1000:].strip()}")
    twice = [test for test, times in Counter(tests).items() if times > 1]
    if twice:
        raise GradingError(f"there are two tests called {twice[0]}: give yours another name")
    for name in map(Path, g.tests):
        if not set(re.findall(r"^def (Test\w+)\(", name.read_text(errors="replace"), re.MULTILINE)) & set(tests):
            raise GradingError(
                f"{name} has no test of part {g.parts}: it wants functions Test...2A(make_config) and the line "
                'pytestmark = getattr(pytest.mark, "2A")'
            )
    return tests
