"""What the lab says after a run with trials: a table of them, and each kind of failure once.

It works on the `lab` records that labgrade.plugin attaches to test reports (LabRecord), and knows nothing of pytest.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from typing import TypedDict


class LabRecord(TypedDict):
    """One trial, in types that JSON knows."""

    test: str
    seed: int
    outcome: str  # "passed" or "failed"
    seconds: float | None  # the test's own time; None if it never got to make its servers
    servers: int | None
    rpcs: int | None
    bytes: int | None
    commands: int | None
    message: str  # of a failure: the lab's own sentence, or the exception
    repeat: str  # the command that runs this trial again
    lines: list[str]  # what the lab printed


def table(records: Iterable[LabRecord]) -> list[str]:
    """A line a test: failed, total, and mean and spread (standard deviation) over its trials."""
    by_test: dict[str, list[LabRecord]] = {}
    for record in records:
        by_test.setdefault(record["test"], []).append(record)
    rows = [("test", "failed", "total", "time (s)", "RPCs", "bytes")]
    for test, of_test in by_test.items():
        rows.append(
            (
                test,
                str(sum(r["outcome"] != "passed" for r in of_test)),
                str(len(of_test)),
                _mean_and_spread([r["seconds"] for r in of_test if r["seconds"] is not None], 1),
                _mean_and_spread([r["rpcs"] for r in of_test if r["rpcs"] is not None], 0),
                _mean_and_spread([r["bytes"] for r in of_test if r["bytes"] is not None], 0),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _mean_and_spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.pstdev(values):.{digits}f}"


def failure_kind(record: LabRecord) -> tuple[str, str]:
    """Failures of one kind differ in numbers at the most."""
    return record["test"], re.sub(r"\d+", "N", record["message"])


def grouped_failures(records: Sequence[LabRecord]) -> list[str]:
    """Each kind of failure once, the most frequent first: test, message, how often, seeds, and the command."""
    kinds: dict[tuple[str, str], list[LabRecord]] = {}
    for record in records:
        if record["outcome"] != "passed":
            kinds.setdefault(failure_kind(record), []).append(record)
    lines = []
    for failures in sorted(kinds.values(), key=len, reverse=True):
        first = min(failures, key=lambda r: r["seed"])
        total = sum(r["test"] == first["test"] for r in records)
        seeds = sorted(r["seed"] for r in failures)
        shown = ", ".join(map(str, seeds[:10])) + (", ..." if len(seeds) > 10 else "")
        lines += [
            f"{first['test']}: {first['message']}",
            f"    {len(failures)} of {total} trials; seeds {shown}",
            f"    repeat with: {first['repeat']}",
        ]
    return lines
