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
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labgrade import HOME

__all__ = [
    "NOT_RUN",
    "Batch",
    "GradingError",
    "Record",
    "Settings",
    "Submission",
    "known_seed",
    "submissions_of",
    "test_of",
]

Record = dict[str, Any]  # of one trial, as labgrade.report writes it

BLOCK = 200  # virtual trials of each test that a process runs before the next one takes over
COSTLY = (
    "Spin:",
    "Timeout",
    "test took longer than 120 seconds",
)  # failures, by the beginnings of their messages, that take seconds or minutes each
POLL = 0.1  # s
GRACE = 10.0  # s until a process is killed whose own timeout has not come
NOT_RUN = "not run"
OUTPUT_LIMIT = 1_000_000  # bytes of a process's output that are kept


class GradingError(Exception):
    """The grading cannot begin, or go on: one message that says why, and what to do."""


@dataclass(frozen=True)
class Settings:
    """What a grading is; two with the same settings, of the same submissions, have the same results."""

    parts: str  # as -m takes them
    trials: int
    seed: int
    mode: str  # "real", "sim" or "race"
    timeout: float  # s without any progress: real, or in virtual time the processor's
    memory: int  # MB
    give_up: int  # 0 for never
    trusted: bool = False  # may build on the shipped Raft, as the gallery does


@dataclass
class Submission:
    """A file or a folder, and the name that its results go under."""

    name: str
    path: Path
    records: dict[str, Record] = field(default_factory=dict)  # by node id

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

    def __init__(self, submissions: Sequence[Submission], settings: Settings, out: Path) -> None:
        self.submissions = submissions
        self.settings = settings
        self.out = out
        self.tests: list[str] = []  # node ids of all trials, in pytest's order
        self._lock = threading.Lock()  # guards records, and the number of runs
        self._stop = threading.Event()

    # -- beginning -----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Look for results of an earlier start of the same grading. Raises GradingError if there are others."""
        self.tests = _collect(self.settings)
        marks = {"settings": asdict(self.settings), "submissions": {s.name: s.digest() for s in self.submissions}}
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
            for run in sorted(self._runs(submission).glob("*")):
                self._take(submission, run)

    def _runs(self, submission: Submission) -> Path:
        return self.out / submission.name / "runs"

    def test_names(self) -> list[str]:
        return list(dict.fromkeys(map(test_of, self.tests)))

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
        size = 1 if self.settings.mode == "real" else BLOCK
        blocks: dict[int, list[str]] = {}
        for test in self.tests:
            blocks.setdefault(_trial(test) // size, []).append(test)
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
        if submission.path.is_dir():
            shutil.copytree(submission.path, copy, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        else:
            shutil.copy(submission.path, copy)
        (run / "todo").write_text("\n".join(todo))
        theirs, ours = os.pipe()  # ours is closed when we end, whatever ends us
        settings = {
            "submission": str(scratch),
            "memory": self.settings.memory,
            "trusted": self.settings.trusted,
            "pipe": theirs,
        }
        (run / "settings.json").write_text(json.dumps(settings))
        (run / "scratch").write_text(str(scratch))
        process = _Process(self._command(copy.name, run), scratch, theirs)
        try:
            reason = self._watch(process, submission, block, run)
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)
        self._take(submission, run)
        if self._stop.is_set() or reason == "given up":
            return
        current = _read(run / "current")
        if all(test in submission.records for test in todo):
            return
        if current in submission.records or current not in todo:  # between two trials, or before the first one
            tail = process.output().decode(errors="replace")[-2000:]
            left = [test for test in todo if test not in submission.records]
            self._add(submission, run, left[:1] if current else left, f"the process {reason} before the trial", tail)
        else:
            self._add(submission, run, [current], f"the submission's process {reason}", "")

    def _watch(self, process: _Process, submission: Submission, block: list[str], run: Path) -> str:
        """Wait for a process, and say how it ended."""
        clock = time.monotonic if self.settings.mode == "real" else process.processor_time
        size, since = 0, clock()
        while process.runs():
            time.sleep(POLL)
            if self._stop.is_set():
                return "was stopped"
            if process.memory_used() > self.settings.memory:
                return f"took more than {self.settings.memory} MB of memory"
            written = _size(run / "report" / "results.json")
            if written != size:
                size, since = written, clock()
                self._take(submission, run)
                if self._in_vain(submission, block):
                    return "given up"
            elif clock() - since > self.settings.timeout + (GRACE if self.settings.mode == "real" else 0):
                return f"made no progress for {self.settings.timeout:g} s"
        process.kill()
        return process.ending()

    def _command(self, solution: str, run: Path) -> list[str]:
        s = self.settings
        how = {"real": [], "sim": ["--sim"], "race": ["--race"]}[s.mode]
        return [
            *_pytest(s),
            *("-p", "labgrade.guard", f"--grading={run}", f"--report={run / 'report'}"),
            *(f"--raft={solution}", *how, f"--timeout={s.timeout if s.mode == 'real' else 0}"),
        ]

    def _new_run(self, submission: Submission) -> Path:
        with self._lock:
            runs = self._runs(submission)
            runs.mkdir(parents=True, exist_ok=True)
            run = runs / f"{len(list(runs.iterdir())) + 1:04}"
            run.mkdir()
            return run

    # -- records -------------------------------------------------------------------------------------------------

    def _take(self, submission: Submission, run: Path) -> None:
        """Add what a run has recorded, and what was recorded of it here, without the name of its scratch folder."""
        scratch = _read(run / "scratch") or "(none)"
        for file in (run / "report" / "results.json", run / "ended.json"):
            try:
                trials = json.loads(file.read_text().replace(f"{scratch}{os.sep}", ""))["trials"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            with self._lock:
                for record in trials:
                    record["run"] = run.name
                    submission.records.setdefault(record["nodeid"], record)

    def _add(self, submission: Submission, run: Path, tests: list[str], message: str, output: str) -> None:
        """Record trials that could not do it themselves."""
        records = [
            {
                "nodeid": test,
                "test": test_of(test),
                "trial": _trial(test),
                "seed": self.settings.seed + _trial(test),
                "outcome": "failed",
                "message": message,
                "output": output,
                "costly": True,
            }
            for test in tests
        ]
        file = run / "ended.json"
        earlier = json.loads(file.read_text())["trials"] if file.exists() else []
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps({"trials": earlier + records}))
        fresh.replace(file)
        self._take(submission, run)

    def _in_vain(self, submission: Submission, block: list[str]) -> list[str]:
        """The trials of the block that are not to be run any more."""
        rest: list[str] = []
        for test in dict.fromkeys(map(test_of, block)):
            trials = [trial for trial in block if test_of(trial) == test]
            done = [submission.records[trial] for trial in trials if trial in submission.records]
            last = done[-self.settings.give_up :] if self.settings.give_up else []
            if len(last) == self.settings.give_up > 0 and all(map(_is_costly, last)):
                rest += [trial for trial in trials if trial not in submission.records]
        return rest

    def _give_up(self, submission: Submission, block: list[str]) -> None:
        rest = self._in_vain(submission, block)
        for test in dict.fromkeys(map(test_of, rest)):
            trials = [trial for trial in rest if test_of(trial) == test]
            before = [r for t in block if (r := submission.records.get(t)) and r["test"] == test]
            message = f"{NOT_RUN}: {self.settings.give_up} trials in a row had ended with: {before[-1]['message']}"
            self._add(submission, self._new_run(submission), trials, message, "")


class _Process:
    """A grading process with its output, which is cut, and all that it starts."""

    def __init__(self, command: list[str], folder: Path, pipe: int) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=[pipe],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._output = bytearray()
        self._killed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65536):
            if len(self._output) < OUTPUT_LIMIT:
                self._output += data

    def output(self) -> bytes:
        return bytes(self._output)

    def runs(self) -> bool:
        """Without collecting its status: until `kill` has ended its group, no other process may get its number."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def ending(self) -> str:
        status = self._process.returncode
        if status < 0:
            return f"was ended by signal {-status} ({signal.Signals(-status).name})"
        return f"ended (exit status {status})"

    def processor_time(self) -> float:
        """Seconds that it has used; where the system does not tell, real ones."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_used(self) -> float:
        """MB that are in use, where the system tells."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def kill(self) -> None:
        """End it, and whatever it has started that has not left its session; once only."""
        if self._killed:
            return
        self._killed = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        self._reader.join(1)  # at most, should something that has left the session keep the pipe open
        if self._process.stdout is not None:
            self._process.stdout.close()


def _pytest(settings: Settings) -> list[str]:
    """pytest on the lab's tests, whatever the folder or its settings."""
    return [
        *(sys.executable, "-m", "pytest", str(HOME / "tests"), f"--ignore={HOME / 'tests' / 'harness'}"),
        *(f"--rootdir={HOME}", f"-c={HOME / 'pyproject.toml'}", "-p", "no:cacheprovider", "-q"),
        *("-m", settings.parts, f"--trials={settings.trials}", f"--seed={settings.seed}"),
    ]


def _collect(settings: Settings) -> list[str]:
    """The node ids of all trials. Raises GradingError when there are none."""
    command = [*_pytest(settings), "--collect-only", f"--raft={HOME / 'raft' / 'skeleton.py'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(HOME)})
    tests = [line for line in done.stdout.splitlines() if "::" in line]
    if done.returncode != 0 or not tests:
        raise GradingError(f"-m {settings.parts!r} selects no tests: {(done.stderr or done.stdout)[-1000:].strip()}")
    return tests


def test_of(nodeid: str) -> str:
    return nodeid.rpartition("::")[2].partition("[")[0]


def _trial(nodeid: str) -> int:
    return int(nodeid.rpartition("[trial")[2].rstrip("]")) if "[trial" in nodeid else 0


def _is_costly(record: Record) -> bool:
    """Whether a trial failed in a way that takes long, again and again."""
    if record["outcome"] == "passed":
        return False
    return bool(record.get("costly")) or record["message"].startswith(COSTLY)


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


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
