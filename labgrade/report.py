"""What `--report DIR` leaves: every trial's record as soon as there is one, and the log of each failure.

`DIR/results.json` is valid JSON at every moment. Each trial is added by one write over the closing brackets, so a run
that is interrupted or killed keeps all that had ended. Its schema, version 1:

    {"schema": 1,
     "solution": what --raft named,     "seed": of the first trial,     "trials_asked": per test,
     "mode": "real" or "virtual",       "race": whether --race,         "started": UTC, ISO 8601,
     "versions": {"python", "platform", "pytest", "raft-lab"},
     "trials": [ one object a line:
        {"nodeid": pytest's, "test": "TestReElection2A", "trial": from 0 on, "seed": its own,
         "outcome": "passed" or "failed", "message": the lab's sentence or the exception, "" if passed,
         "seconds": the test's own time, virtual or real, "servers", "rpcs", "bytes", "commands": as the lab prints them
             (these five are null when the test did not get that far),
         "virtual": true or false, "elapsed": real seconds, "repeat": the command for this trial,
         "log": file below DIR, or null when it passed, or when MOST_LOGS failures of its kind have one} ]}

`DIR/logs/TEST-seedS.log` has all that pytest would show of a failure, in its order: what failed and where, the test so
far (events of the harness with their times, what each server answered, RPC counts, where the solution's threads were),
data races, the solution's output, and how to repeat it. One longer than LONGEST_LOG is cut in the middle, and says so.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labgrade.summary import LabRecord, failure_kind

__all__ = ["Report", "ReportError", "cut"]

MOST_LOGS = 20  # of failures of one kind
LONGEST_LOG = 200_000  # characters
END = "\n]}\n"


class ReportError(Exception):
    """There can be no report: one message that says why, and what to do."""


class Report:
    """The report of one run, written by the process that collects its results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "results.json"
        self._logs: Counter[tuple[str, str]] = Counter()
        self._first = True
        if self.file.exists():
            raise ReportError(
                f"--report {folder}: it has the results of an earlier run; give another folder, or remove it"
            )

    def begin(self, **settings: Any) -> None:
        """Write the head. Raises ReportError if the folder cannot be written to."""
        head = {
            "schema": 1,
            **settings,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "pytest": pytest.__version__,
                "raft-lab": importlib.metadata.version("raft-lab"),
            },
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(head)[:-1] + ',\n"trials": [' + END)
        except OSError as e:
            raise ReportError(f"--report {self.folder}: {e}") from None

    def add(self, report: pytest.TestReport, record: LabRecord, virtual: bool) -> None:
        """Add a trial that has ended."""
        row = {
            "nodeid": report.nodeid,
            "trial": int(found[1]) if (found := re.search(r"\[trial(\d+)\]$", report.nodeid)) else 0,
            **{key: value for key, value in record.items() if key != "lines"},
            "virtual": virtual,
            "elapsed": round(report.duration, 3),
            "log": self._log(report, record) if record["outcome"] == "failed" else None,
        }
        with self.file.open("r+b") as file:
            file.seek(-len(END), 2)
            file.write(f"{'' if self._first else ','}\n{json.dumps(row)}{END}".encode())
        self._first = False

    def _log(self, report: pytest.TestReport, record: LabRecord) -> str | None:
        kind = failure_kind(record)
        self._logs[kind] += 1
        if self._logs[kind] > MOST_LOGS:
            return None
        name = f"logs/{record['test']}-seed{record['seed']}.log"
        parts = [f"{record['test']}, seed {record['seed']}: {record['message']}", *record["lines"], report.longreprtext]
        parts += [f"{f' {title} ':-^80}\n{text}" for title, text in report.sections]
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(cut("\n\n".join(parts), LONGEST_LOG), errors="replace")
        return name


def cut(text: str, most: int) -> str:
    """The text, without its middle if it is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
