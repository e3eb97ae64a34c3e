"""What became of a trial: one frozen record, and the few things that all who read records have in common.

A Record is made once, where the exception is in hand (`cause_of`, `message_of`) or where somebody knows why there is
none (the process ended). From then on it is data: the terminal, reports, grades, the gallery and the guard read its
fields, and nobody looks at the beginning of a message.

Records are written as JSON lines (`to_line`, `from_line`). This is schema 2; a field that is added keeps the number,
one that goes or changes its meaning raises it.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import pytest

from labrun.text import shown

__all__ = [
    "CAUSES",
    "SCHEMA",
    "Cause",
    "Kind",
    "Mode",
    "NodeId",
    "Record",
    "cause_of",
    "facts_of",
    "from_line",
    "grouped",
    "message_of",
    "repeat_lines",
    "shown_seeds",
    "table",
    "to_line",
    "trials_table",
    "without_numbers",
]

SCHEMA = 2
FACTS = 20_000  # characters

Cause = Literal[
    "",  # it has passed
    "lab",  # a check of the lab's tests does not hold
    "died",  # an exception in the solution: in a thread, a handler, or in what the harness called
    "paper",  # a rule of the paper, with --paper
    "race",  # two accesses that nothing orders
    "deadlock",  # threads wait for each other: all of them, or those for which a call such as GetState waits
    "spin",  # a thread computes and never gives way, in virtual time
    "timeout",  # pytest-timeout, the grader's limit, or an isolated server that does not answer
    "exit",  # the solution ended the process, or tried to
    "import",  # there is nothing to run: no file, no Make, an exception at import
    "memory",  # beyond the limit
    "forbidden",  # something that a submission must not do
    "changed",  # the solution changed the harness
    "unsupported",  # what cannot be virtual: sockets, processes, asyncio
    "repeat",  # --sim-check: two runs of one seed differ
    "harness",  # an exception that is none of the above: a fault of the test or of the harness
    "load",  # the machine was too busy to judge
    "not_run",  # given up, or left out
]
Mode = Literal["real", "virtual", "isolated"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

COSTLY: frozenset[Cause] = frozenset({"spin", "timeout", "exit", "memory"})
"""Failures that take seconds or minutes of a machine, each time."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One trial of one lab test."""

    nodeid: str  # pytest's
    test: str  # "TestReElection2A"
    trial: int  # from 0 on
    seed: int  # its own
    mode: Mode
    outcome: Literal["passed", "failed"]
    cause: Cause = ""
    message: str = ""  # of a failure: the lab's own sentence, or the exception, in a line
    seconds: float | None = None  # the test's own time, real or virtual; this and the next four: None without servers
    servers: int | None = None
    rpcs: int | None = None
    bytes: int | None = None
    commands: int | None = None
    elapsed: float = 0.0  # s of real time
    costly: bool = False  # it took a lot of the machine's time to fail
    repeat: str = ""  # the command that runs this trial again
    lines: tuple[str, ...] = ()  # what the lab printed
    broken: tuple[
        str, ...
    ] = ()  # rules of the paper, where these were judged: with --paper, of single trials, of failures
    unchecked: tuple[str, ...] = ()  # rules that could not be judged then, and why
    causes: tuple[str, ...] = ()  # of a failure: what is likely to be wrong (labwatch.causes)
    warnings: tuple[str, ...] = ()  # that make a pass suspicious: labgob's complaints, threads that outlive Kill
    story: str = ""  # what a hunt has found, as a file of a lab test
    log: str | None = None  # the file of a failure's log, relative to its report
    lab: str = ""  # the lab's version, with a digest of its files (labrun.version)
    solution: str = ""  # a digest of the solution's files
    picture: str | None = None  # the file of its picture, relative to the report; whole if there is no report
    journal: str | None = None  # that of its journal, likewise; the same in columns is beside it, as .txt

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    @property
    def kind(self) -> Kind:
        return Kind.of(self.test, self.cause, self.message)

    def changed(self, **fields: Any) -> Record:
        return replace(self, **fields)


class Kind(NamedTuple):
    """Failures of one kind differ in numbers at the most."""

    test: str
    cause: Cause
    message: str

    @classmethod
    def of(cls, test: str, cause: Cause, message: str) -> Kind:
        return cls(test, cause, without_numbers(message))


def without_numbers(message: str) -> str:
    """What messages have in common that differ in numbers at the most."""
    return re.sub(r"\d+", "N", message)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def to_line(record: Record) -> bytes:
    """A line of JSON, without its end."""
    return _encoder.encode(record)


def from_line(line: bytes) -> Record:
    """The record of a line. Raises ValueError for anything else."""
    return _decoder.decode(line)


_NODE_ID = re.compile(r"[^:]*::(?P<test>Test\w*?(?P<part>2[ABCD])?)(\[trial(?P<trial>\d+)\])?")


class NodeId(NamedTuple):
    """What the node id of a lab test says: `tests/test_2a.py::TestReElection2A[trial7]`."""

    test: str
    part: str  # "" for a test whose name does not end in one
    trial: int

    @classmethod
    def parse(cls, nodeid: str) -> NodeId | None:
        """None for what is no lab test's."""
        found = _NODE_ID.fullmatch(nodeid)
        return cls(found["test"], found["part"] or "", int(found["trial"] or 0)) if found else None


# --- where the exception is in hand --------------------------------------------------------------------------------


def cause_of(e: BaseException) -> Cause:
    """Why a trial failed that raised this. A world's exceptions are classes of its own copies, known by their names."""
    given: Cause | None = getattr(e, "cause", None)
    if given in CAUSES:
        return given  # a LabFailure, a race, an import: whoever raised it has said
    verdict = _VERDICTS.get(type(e).__name__)
    if verdict:
        return verdict
    if isinstance(e, MemoryError):
        return "memory"
    if _is_from_pytest_timeout(e):
        return "timeout"
    return "died" if isinstance(e, Exception) else "harness"


_VERDICTS: dict[str, Cause] = {"Deadlock": "deadlock", "Spin": "spin", "Unsupported": "unsupported"}  # of labsim


def _is_from_pytest_timeout(e: BaseException) -> bool:
    tb = e.__traceback__
    while tb is not None:
        if tb.tb_frame.f_globals.get("__name__") == "pytest_timeout":
            return True
        tb = tb.tb_next
    return False


def message_of(e: BaseException) -> str:
    """What a failure says, in a line: the lab's own sentence, or the exception. Cut and escaped."""
    if isinstance(e, AssertionError) and hasattr(e, "message"):  # LabFailure, perhaps a virtual world's own copy
        return shown(str(e.message))
    try:
        first_line = str(e).partition("\n")[0]
    except Exception:  # of the solution's own class
        first_line = ""
    named = hasattr(e, "cause") or isinstance(e, pytest.fail.Exception) or first_line.startswith(type(e).__name__)
    return shown(first_line if named else f"{type(e).__name__}: {first_line}")


def facts_of(e: BaseException) -> str:
    """All that an exception says, cut and escaped."""
    try:
        return shown(str(e), FACTS)
    except Exception:  # of the solution's own class
        return type(e).__name__


# --- many records --------------------------------------------------------------------------------------------------


def grouped(records: Iterable[Record]) -> list[list[Record]]:
    """The failures, by kind; the most frequent kind first, and last what was not even run because of others."""
    kinds: dict[Kind, list[Record]] = {}
    for record in records:
        if not record.passed:
            kinds.setdefault(record.kind, []).append(record)
    return sorted(kinds.values(), key=lambda kind: (kind[0].cause == "not_run", -len(kind)))


def repeat_lines(records: Sequence[Record]) -> list[str]:
    """Each kind of failure once: test, message, how often, with which seeds, and the command."""
    lines = []
    for kind in grouped(records):
        first = min(kind, key=lambda r: r.seed)
        total = sum(r.test == first.test for r in records)
        lines += [
            f"{first.test}: {first.message}",
            f"    {len(kind)} of {total} trials; seeds {shown_seeds(r.seed for r in kind)}",
            f"    repeat with: {first.repeat}",
        ]
    return lines


def shown_seeds(seeds: Iterable[int]) -> str:
    """Ten of them at the most."""
    known = sorted(seeds)
    return ", ".join(map(str, known[:10])) + (", ..." if len(known) > 10 else "")


def trials_table(records: Iterable[Record]) -> list[str]:
    """A line a test: failed, total, and mean and spread (standard deviation) over its trials."""
    by_test: dict[str, list[Record]] = {}
    for record in records:
        by_test.setdefault(record.test, []).append(record)
    rows = [("test", "failed", "total", "time (s)", "RPCs", "bytes")]
    for test, of_test in by_test.items():
        rows.append(
            (
                test,
                str(sum(not r.passed for r in of_test)),
                str(len(of_test)),
                _mean_and_spread([r.seconds for r in of_test if r.seconds is not None], 1),
                _mean_and_spread([r.rpcs for r in of_test if r.rpcs is not None], 0),
                _mean_and_spread([r.bytes for r in of_test if r.bytes is not None], 0),
            )
        )
    return table(rows)


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Rows in columns, the first `left` of them aligned to the left, all others to the right."""
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]


def _mean_and_spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.pstdev(values):.{digits}f}"
