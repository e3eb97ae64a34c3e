"""Grading on more than one machine: blocks on Dask's distributed, the extra `cluster`.

    dask scheduler --scheduler-file cluster.json              # or whatever deployment of Dask's you have:
    dask worker --scheduler-file cluster.json --nthreads 8    # SLURM, HTCondor, Kubernetes, ssh
    python -m labgrade grade ... --cluster cluster.json       # or an address, tcp://host:8786

A block carries what it needs (the submission's copy, the tests of the course's own, the grading) and gives back the
files of its runs, which are kept as if they had run here: with the seed, a virtual trial leaves the same record
wherever it runs, but for the seconds that it took. So a grading can be begun on a cluster and go on without one.

- A worker needs the same lab, installed for its Python; one with another version is named, and nothing is graded there.
- Submissions run in sandboxed processes below the worker, as they do here: one that kills what runs it is a record.
- A worker that is lost costs its blocks, which run again elsewhere, in the end AGAIN times (labgrade.batch).
- When the scheduler is lost, the grading ends with one message; what came back is kept, and the same command goes on.
- Isolated trials run in real time: a worker should have no more threads than processors (`--nthreads`).

`dask worker` has its own ideas of memory: it looks at its own process, not at those below.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import os
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from labgrade import intake
from labgrade.block import GRADERS_OWN, Graded, Runner, Streak, could_not
from labgrade.policy import Grading, GradingError
from labgrade.process import Processes
from labgrade.protocol import Key, Run, Stage
from labgrade.sandbox import SandboxError
from labrun.version import lab_version

__all__ = ["Cluster", "run_block"]

PATIENCE = 5.0  # s without a scheduler
CONNECT = 20.0  # s to find it
AHEAD = 2  # blocks for each thread of a worker: one runs, the next lies ready


@dataclass(frozen=True)
class Job:
    """A block, as it travels."""

    version: str
    grading: Grading
    tests: dict[str, bytes]  # the course's own, by name
    name: str  # the submission's, in what is shown
    solution: str
    digest: str
    copy: bytes  # a tar of its files
    stage: Stage
    todo: list[Key]
    streaks: list[tuple[str, int, str]]  # of costly failures, by test


@dataclass(frozen=True)
class Done:
    """What a block has come to."""

    worker: str
    version: str  # of its lab
    error: str = ""  # the worker's own trouble
    trouble: str = ""  # the submission's
    log: str = ""
    runs: list[dict[str, bytes]] | None = None


@functools.cache
def version() -> str:
    """Of the lab and of its grader."""
    whole = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        whole.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"{lab_version()}, grader {whole.hexdigest()[:12]}"


# -- the grader's side -------------------------------------------------------------------------------------------------


class Cluster:
    """The Engine of a cluster. `address` is a scheduler's, or the path of a scheduler file. Raises GradingError."""

    def __init__(self, address: str, runner: Runner) -> None:
        try:
            import distributed
        except ImportError:
            raise GradingError('--cluster wants Dask: python -m pip install "raft-lab[cluster]"') from None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what a person must know is said here
        self._address = address
        self._runner = runner
        where: dict[str, Any] = {"scheduler_file": address} if os.path.isfile(address) else {"address": address}
        try:
            self._client = distributed.Client(**where, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as e:
            raise GradingError(f"--cluster {address}: there is no scheduler ({e})") from None
        self._lost_worker: type[Exception] = distributed.scheduler.KilledWorker
        self._executor = self._client.get_executor(pure=False)
        self._window, self._looked, self._answered = 1, 0.0, time.monotonic()
        self._own = {Path(name).name: Path(name).read_bytes() for name in runner.grading.tests}

    def window(self, stage: Stage, again: int) -> int:
        now = time.monotonic()
        if now - self._looked > 1:
            self._looked = now
            with contextlib.suppress(Exception):  # `check` finds out
                self._window = AHEAD * max(1, sum(self._client.nthreads().values()))
        return self._window

    def submit(self, graded: Graded, stage: Stage, block: Sequence[Key]) -> Future[Any]:
        try:
            job = self._job(graded, stage, block)
        except Exception as e:  # as in Runner.run
            if isinstance(e, OSError) and e.errno in GRADERS_OWN:
                raise
            refused: Future[Any] = Future()
            refused.set_exception(e if isinstance(e, _Refused) else _Refused(could_not(e), traceback.format_exc(20)))
            return refused
        future: Future[Any] = self._executor.submit(run_block, job)
        return future

    def _job(self, graded: Graded, stage: Stage, block: Sequence[Key]) -> bytes:
        s = graded.submission
        with tempfile.TemporaryDirectory(prefix="labgrade-") as scratch:
            taken = intake.take(s, Path(scratch) / "submission")
            if taken.reason:
                raise _Refused(taken.reason, taken.log)
            copy = io.BytesIO()
            with tarfile.open(fileobj=copy, mode="w") as whole:
                whole.add(Path(scratch) / "submission", ".")
        streaks = [(test, *streak) for (of, test), streak in graded.streaks.items() if of == stage]
        grading = replace(self._runner.grading, tests=[])
        job = Job(
            version(), grading, self._own, s.name, s.solution, s.digest, copy.getvalue(), stage, list(block), streaks
        )
        return msgspec.msgpack.encode(job)

    def collect(self, graded: Graded, stage: Stage, block: Sequence[Key], done: Future[Any]) -> None:
        try:
            found = msgspec.msgpack.decode(done.result(), type=Done)
        except self._lost_worker:
            return  # it runs again
        except _Refused as e:
            graded.trouble = graded.trouble or str(e)
            graded.log_trouble(e.log or str(e))
            return
        except (CancelledError, OSError, TimeoutError) as e:
            raise self._gone(e) from None
        except ModuleNotFoundError as e:
            raise GradingError(f"--cluster {self._address}: a worker has no lab ({e}): install it there") from None
        if found.version != version():
            raise GradingError(
                f"--cluster {self._address}: the worker {found.worker} has lab {found.version}, and here it is "
                f"{version()}: install the same there"
            )
        if found.error:
            raise GradingError(f"--cluster {self._address}: the worker {found.worker} cannot run trials: {found.error}")
        for files in found.runs or []:
            self._runner.adopt(graded, files)
        if found.trouble:
            graded.trouble = graded.trouble or found.trouble
            graded.log_trouble(found.log or found.trouble)

    def check(self) -> None:
        now = time.monotonic()
        if self._client.status == "running":
            self._answered = now
        elif now - self._answered > PATIENCE:
            raise self._gone(self._client.status)

    def _gone(self, why: object) -> GradingError:
        return GradingError(
            f"--cluster {self._address}: the scheduler does not answer any more ({why}). Nothing is lost: the same "
            "command goes on, on this cluster when it is there again, on another one, or without --cluster"
        )

    def stop(self) -> None:
        """Blocks that run on a worker run to their end there, in vain."""

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close(timeout=2)


class _Refused(Exception):
    """The submission can no longer be copied: why."""

    def __init__(self, reason: str, log: str) -> None:
        super().__init__(reason)
        self.log = log


# -- the worker's side -------------------------------------------------------------------------------------------------


def run_block(data: bytes) -> bytes:
    """Run a Job; returns a Done."""
    job = msgspec.msgpack.decode(data, type=Job)
    worker = f"{os.uname().nodename}, process {os.getpid()}"
    if job.version != version():
        return msgspec.msgpack.encode(Done(worker, version()))
    try:
        return msgspec.msgpack.encode(_run(job, worker))
    except (OSError, SandboxError, GradingError) as e:
        return msgspec.msgpack.encode(Done(worker, version(), error=f"{type(e).__name__}: {e}"))


def _run(job: Job, worker: str) -> Done:
    with tempfile.TemporaryDirectory(prefix="labgrade-", ignore_cleanup_errors=True) as scratch:
        os.chmod(scratch, 0o755)  # whoever runs it may be another user
        folder = Path(scratch) / "results"
        folder.mkdir()
        submission = intake.Submission(folder, job.name, solution=job.solution, digest=job.digest)
        graded = Graded(submission, folder)
        for test, length, message in job.streaks:
            graded.streaks[job.stage, test] = Streak(length, message)
        grading, processes = _processes(msgspec.msgpack.encode((job.grading, job.tests)))

        def unpacked(submission: intake.Submission, to: Path) -> intake.Submission:
            with tarfile.open(fileobj=io.BytesIO(job.copy)) as whole:
                whole.extractall(to, filter="data")
            to.chmod(0o755)
            return submission

        Runner(grading, processes, unpacked).run(graded, job.stage, job.todo)
        runs = [Run(run).packed() for run in sorted(graded.runs.glob("*"))]
        trouble = folder / "trouble.log"
        log = trouble.read_text(errors="replace") if trouble.exists() else ""
        return Done(worker, version(), trouble=graded.trouble, log=log, runs=runs)


_lock = threading.Lock()


def _processes(grading: bytes) -> tuple[Grading, Processes]:
    """What starts the processes of a grading: found out once for each, as it takes a probe of the sandbox."""
    with _lock:
        return _known_processes(grading)


@functools.lru_cache(maxsize=4)
def _known_processes(data: bytes) -> tuple[Grading, Processes]:
    grading, tests = msgspec.msgpack.decode(data, type=tuple[Grading, dict[str, bytes]])
    folder = Path(tempfile.mkdtemp(prefix="labgrade-tests-"))
    folder.chmod(0o755)
    for name, content in tests.items():
        (folder / Path(name).name).write_bytes(content)
    grading = replace(grading, tests=[str(folder / Path(name).name) for name in tests])
    return grading, Processes(grading, folder)
