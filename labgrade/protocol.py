"""The files by which a grader (labgrade.batch) and a process that it starts (labgrade.guard) understand each other.

A run is one such process, and a folder of the grader's:

- `plan.json` (Plan): what is to run, and how; nobody but the grader touches it;
- `ended.jsonl`, records of trials that could not be recorded by the process itself;
- `box`, the one folder in which the process may write: `task.json` (Task) lies there when it begins; it leaves
  `current`, the trial that is running, should it end in the midst of it, and `report/`, as labrun.report writes it.

A submission can put whatever it likes into the box: links, FIFOs, forged records. So the grader opens what lies there
without following links, and takes of a record what may be said there, cut and escaped (`received`): the trial is one of
the plan, the first record of a trial counts, and seed and mode are the grader's own. That a forged record says "passed"
is possible in virtual time and on real threads; that is why these trials give no points.

Reading is linear: `Run.new_records` goes on where the last call stopped.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec

from labrun.record import Mode, NodeId, Record, from_line, to_line
from labrun.report import RECORDS
from labrun.text import shown

__all__ = ["Key", "Plan", "Run", "Stage", "Task", "opened"]

Stage = Literal["trials", "isolated", "hunt"]
"""Trials as the grading's mode says, which can only take points away; then isolated ones, which give them; then a hunt
(labrun.hunt) for each part of which a test has passed, which can only take away, too."""

AT_ONCE = 16_000_000  # bytes of records that are read at once; a line that is longer is none
LOG = re.compile(r"logs/[\w.-]{1,200}\.log")
PICTURE = re.compile(r"pictures/[\w.-]{1,200}\.html")
KEPT = re.compile(rf"plan\.json|ended\.jsonl|box/report/({re.escape(RECORDS)}|{LOG.pattern}|{PICTURE.pattern})")
MOST_LOGS = 200  # of one run, and as many pictures
STORY = 5_000  # characters of the story that a hunt has found
LINES = 20  # of what the lab printed in a trial


class Key(NamedTuple):
    """A trial. With the seed of the grading it is the same trial however many of them are asked for."""

    test: str
    trial: int

    @classmethod
    def of(cls, nodeid: str) -> Key | None:
        found = NodeId.parse(nodeid)
        return cls(found.test, found.trial) if found else None


@dataclass(frozen=True)
class Task:
    """What the process must know."""

    todo: list[Key]
    memory: int  # MB, as messages call the limit
    trusted: bool  # whether it may use the shipped Raft
    players: dict[str, Any] | None = None  # a judge's: the sandbox of its players, and their limits


@dataclass(frozen=True)
class Plan:
    """What the grader knows of a run."""

    stage: Stage
    mode: Mode
    seed: int  # of trial 0
    copy: str  # the submission's folder, which messages do not name; "" if it is not run
    lab: str  # the lab's version, and a digest of the submission: for the records
    solution: str
    todo: list[Key] = field(default_factory=list)
    forgives: bool = False  # a broken rule of the paper is no failure


class Run:
    """The folder of one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.box = folder / "box"
        self._plan: Plan | None = None
        self._read: dict[str, int] = {}  # bytes of whole lines that have been read

    # -- the grader's side --

    def prepare(self, plan: Plan, task: Task) -> None:
        """Raises OSError."""
        self.box.mkdir(parents=True)
        (self.box / "task.json").write_bytes(msgspec.json.encode(task))
        (self.folder / "plan.json").write_bytes(msgspec.json.encode(plan))
        self._plan = plan

    def plan(self) -> Plan | None:
        """None if there is none: the grader was ended before it had written it, or it is damaged."""
        if self._plan is None:
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                self._plan = msgspec.json.decode((self.folder / "plan.json").read_bytes(), type=Plan)
        return self._plan

    def new_records(self) -> Iterator[Record]:
        """The records that have come since the last call. A line that is damaged, or says what it must not, is none."""
        plan = self.plan()
        if plan is None:
            return
        todo, copy = set(plan.todo), f"{plan.copy}/".encode()
        for name in (f"box/report/{RECORDS}", "ended.jsonl"):
            for line in self._new_lines(name):
                try:
                    record = from_line(line.replace(copy, b"") if plan.copy else line)
                except (msgspec.MsgspecError, ValueError):
                    continue
                if (record.test, record.trial) in todo:
                    yield _received(record, plan, grader=name == "ended.jsonl")

    def _new_lines(self, name: str) -> list[bytes]:
        try:
            with opened(self.folder, name) as file:
                file.seek(self._read.get(name, 0))
                data = file.read(AT_ONCE)
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read[name] = self._read.get(name, 0) + len(whole)
        return whole.splitlines()

    def add(self, records: Iterable[Record]) -> None:
        """Record trials that the process could not record. Raises OSError."""
        with (self.folder / "ended.jsonl").open("ab") as file:
            file.write(b"".join(to_line(record) + b"\n" for record in records))

    def packed(self) -> dict[str, bytes]:
        """What is to be kept of it, for `unpack` on another machine."""
        found: dict[str, bytes] = {}
        names = ["plan.json", "ended.jsonl", f"box/report/{RECORDS}"]
        for folder in ("logs", "pictures"):
            with contextlib.suppress(OSError):
                there = filter(
                    KEPT.fullmatch, (f"box/report/{folder}/{n}" for n in os.listdir(self.box / "report" / folder))
                )
                names += sorted(there)[:MOST_LOGS]
        for name in filter(KEPT.fullmatch, names):
            with contextlib.suppress(OSError), opened(self.folder, name) as file:
                found[name] = file.read(AT_ONCE)
        return found

    def unpack(self, files: dict[str, bytes]) -> None:
        """Put what another run has `packed` into this folder, which is new. Raises OSError."""
        for name, data in files.items():
            if KEPT.fullmatch(name):
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def current(self) -> Key | None:
        """The trial that the process says it was running."""
        try:
            with opened(self.box, "current") as file:
                return Key.of(file.read(1000).decode(errors="replace"))
        except OSError:
            return None

    # -- the process's side --

    @staticmethod
    def task(box: Path) -> Task:
        return msgspec.json.decode((box / "task.json").read_bytes(), type=Task)

    @staticmethod
    def begins(box: Path, nodeid: str) -> None:
        new = box / f"current.{os.getpid()}"
        new.write_text(nodeid)
        new.replace(box / "current")  # as a whole: the submission may have forked


def _received(record: Record, plan: Plan, grader: bool) -> Record:
    """A record as it enters: whoever wrote it may have been the submission."""
    if plan.forgives and record.cause == "paper":  # so the lab's own checks have passed
        told = tuple(f"the paper forbids this: {message}" for message in record.broken)
        record = record.changed(outcome="passed", log=None, causes=(), warnings=(*record.warnings, *told))
    failed = not record.passed
    return record.changed(
        nodeid=shown(record.nodeid, 300),
        seed=plan.seed + record.trial,
        mode=plan.mode,
        cause=(record.cause or "died") if failed else "",
        message=shown(record.message) if failed else "",
        costly=record.costly and grader,
        repeat=shown(record.repeat),
        lines=tuple(shown(line) for line in record.lines[:LINES]),
        warnings=tuple(shown(warning) for warning in record.warnings[:LINES]),
        broken=tuple(shown(message) for message in record.broken[:LINES]),
        unchecked=tuple(shown(what) for what in record.unchecked[:LINES]),
        causes=tuple(shown(cause) for cause in record.causes[:LINES]) if failed else (),
        story="\n".join(shown(line) for line in record.story[:STORY].splitlines()) if failed else "",
        log=record.log if record.log and LOG.fullmatch(record.log) else None,
        journal=None,
        picture=record.picture if record.picture and PICTURE.fullmatch(record.picture) else None,
        lab=plan.lab,
        solution=plan.solution,
    )


@contextlib.contextmanager
def opened(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """A regular file below a folder; no part of `name` is a link that is followed. Raises OSError."""
    *folders, last = name.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        number = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=at)
    finally:
        os.close(at)
    with open(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{name} is no regular file")
        yield file
