"""How a process of a grading is started: pytest on the lab's tests, in a sandbox, with its output and its limits.

There are two kinds. The first runs trials in which the submission and the lab share the process: all of it runs in the
sandbox. The other is a judge of isolated trials, in which no line of the submission is executed: it runs as the grader,
and starts the servers in the sandbox (labgrade.judging). Both start in the folder of the submission's copy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from labgrade import judging, places, sandbox
from labgrade.intake import Submission
from labgrade.policy import Grading, GradingError
from labgrade.protocol import Key, Plan, Run, Stage, Task
from labgrade.sandbox import MEGABYTE, OVERHEAD, Limits, SandboxError
from labrun import HOME, TESTS
from labrun.record import Mode
from labrun.version import lab_version

__all__ = ["Processes", "Started", "pytest_arguments"]

OUTPUT_LIMIT = 1_000_000  # bytes of a process's output that are kept
INSIDE = ("__init__.py", "guard.py", "protocol.py")  # of this package, what a process of a submission imports
PLENTY = 1 << 46  # bytes of address space. There each thread's stack counts as a whole; what is in use is watched
SERVERS = 7  # of one test, at most


class Processes:
    """Starts the processes of one grading into `out`. Raises GradingError if there is no such sandbox."""

    def __init__(self, grading: Grading, out: Path) -> None:
        self.grading = grading
        labs = [HOME / name for name in ("labgob", "labrpc", "labrun", "labsim", "labwatch", "raft")]
        own = HOME / "labgrade"
        tests = [*sorted(TESTS.glob("test_*.py")), *map(Path, grading.tests)]
        readable = [*labs, *tests, *(own / name for name in INSIDE)]
        hidden = [HOME / "raft" / "raft.py", places.HARNESS_TESTS]
        hidden += [path for path in sorted(own.iterdir()) if path.name not in (*INSIDE, "__pycache__")]
        try:
            self._none = sandbox.choose("none", readable=[], path=[HOME])
            kind = "none" if grading.trusted else grading.sandbox
            self._sandbox = sandbox.choose(kind, readable=readable, hidden=hidden, path=[HOME])
            self._sandbox.check(out)
        except SandboxError as e:
            raise GradingError(str(e)) from None
        self.line = self._sandbox.line

    def memory(self, stage: Stage) -> int:
        """Bytes that a process may have in use, with all that it has started."""
        g = self.grading
        limit = g.memory * MEGABYTE * (SERVERS if stage == "isolated" else 1) + OVERHEAD
        return min(limit, g.memory_in_all * MEGABYTE) if g.memory_in_all else limit

    def plan(
        self,
        stage: Stage,
        submission: Submission,
        run: Run,
        todo: Sequence[Key],
        copy: str = "",
        players: dict[str, Any] | None = None,
    ) -> None:
        """Say what a run is. Raises OSError."""
        g = self.grading
        mode: Mode = "isolated" if stage == "isolated" else "virtual" if g.virtual(stage) else "real"
        warns = g.paper == "warn" and stage != "hunt"
        plan = Plan(stage, mode, g.seed, copy, lab_version(), submission.digest, list(todo), warns)
        run.prepare(plan, Task(list(todo), g.memory, g.trusted, players))

    def start(self, stage: Stage, copy: Path, submission: Submission, run: Run, todo: Sequence[Key]) -> Started:
        """Raises OSError, SandboxError."""
        g = self.grading
        judge = stage == "isolated"
        virtual = g.virtual(stage)
        seconds = int(g.limit_of(stage) * len(todo)) + 60
        if virtual:
            limits = Limits(memory=g.memory * MEGABYTE, seconds=seconds)
        else:  # real threads, all of a trial's servers or the judge's
            limits = Limits(memory=PLENTY, seconds=10 * seconds, files=4096, processes=5000)
        players = None
        if judge:
            players = judging.described(self._sandbox, Limits(memory=4 * g.memory * MEGABYTE, seconds=seconds))
        self.plan(stage, submission, run, todo, str(copy), players)
        how = ["--isolate"] if judge else {"real": [], "sim": ["--sim"], "race": ["--race"]}[g.mode]
        how += [f"--hunt={g.hunt}x"] if stage == "hunt" else [f"--trials={max(key.trial for key in todo) + 1}"]
        arguments = [
            *pytest_arguments(g),
            *(["-p", "labgrade.judging"] if judge else []),
            *("-p", "labgrade.guard", f"--grading={run.box}", f"--report={run.box / 'report'}"),
            *(["--paper"] if g.paper != "off" and not judge else []),
            *(f"--raft={submission.solution}", *how, f"--timeout={0 if virtual else g.limit}"),
        ]
        return Started(
            (self._none if judge else self._sandbox).start(
                "pytest:main",
                arguments,
                copy=copy,
                limits=limits,
                writable=run.box,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )


def pytest_arguments(g: Grading) -> list[str]:
    """pytest's, for the lab's tests, whatever the folder or its settings."""
    return [
        *map(str, sorted(TESTS.glob("test_*.py"))),
        *g.tests,
        *(f"--rootdir={TESTS}", f"--confcutdir={TESTS}", f"-c={os.devnull}", "-p", "no:cacheprovider", "-q"),
        *("-m", g.parts, f"--seed={g.seed}"),
    ]


class Started:
    """A process that runs, with its output, which is cut."""

    def __init__(self, process: sandbox.Process) -> None:
        self.process = process
        self._output = bytearray()
        assert process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=[process.stdout], daemon=True)
        self._reader.start()

    def _read(self, stdout: IO[bytes]) -> None:
        while data := os.read(stdout.fileno(), 65536):
            if len(self._output) < OUTPUT_LIMIT:
                self._output += data

    def last_line(self) -> str:
        lines = bytes(self._output[-5000:]).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def ending(self) -> str:
        status = self.process.status
        if status is not None and status < 0:
            return f"was ended by signal {-status} ({_signal(-status)})"
        return f"ended (exit status {status})"

    def end(self) -> None:
        self.process.kill()
        self._reader.join(1)  # at most, should something that outlives it keep the pipe open
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
