"""What `--report DIR` leaves: every trial's record as soon as there is one, and the log of each failure.

`DIR/records.jsonl` has a line of JSON for each trial, in the order in which they ended: a labrun.record.Record. It is
what labgrade reads. `DIR/results.json` has the same for people's programs, and is valid JSON at every moment. Each
trial is added by one write over the closing brackets, so a run that is interrupted or killed keeps all that had ended.
Its schema, version 2:

    {"schema": 2,
     "solution": what --raft named,     "seed": of the first trial,     "trials_asked": per test,
     "mode": "real" or "virtual",       "race": whether --race,         "started": UTC, ISO 8601,
     "versions": {"python", "platform", "pytest", "raft-lab"},
     "trials": [ one object a line, with the fields of labrun.record.Record, which says what each is; of these
        "outcome" is "passed" or "failed", "cause" a word of the closed set labrun.record.CAUSES, "" if it passed,
        "log" a file below DIR, or null when it passed, or when MOST_LOGS failures of its kind have one ]}

`DIR/logs/TEST-seedS.log` has all that pytest would show of a failure, in its order: what failed and where, the test so
far (events of the harness with their times, what each server answered, RPC counts, where the solution's threads were),
data races, the solution's output, and how to repeat it. One longer than LONGEST_LOG is cut in the middle, and says so.

`DIR/logs/TEST-seedS.jsonl` has the journal of such a failure, where one was kept (labwatch.journal has its schema), and
`DIR/logs/TEST-seedS.txt` the same as text, with a column for each server (labwatch.columns). They are written by the
process that ran the trial, for the first MOST_JOURNALS failures of a kind there; the trial's record names the first.

`DIR/pictures/TEST-seedS.html` has the picture of such a failure (labwatch.picture), and the record names that, too.
"""

from __future__ import annotations

import datetime
import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labrun.record import SCHEMA, Kind, Record, to_line
from labrun.version import digest_of, lab_version
from labwatch import Journal
from labwatch.columns import columns
from labwatch.picture import page, write

__all__ = [
    "COLUMNS",
    "MOST_JOURNALS",
    "RECORDS",
    "Report",
    "ReportError",
    "cut",
    "marks",
    "write_journal",
    "write_picture",
]

RECORDS = "records.jsonl"
COLUMNS = "what happened"  # the section of a failure's report that --columns adds
COLUMN = 40  # characters of a server's column in a file
MOST_LOGS = 20  # of failures of one kind
MOST_JOURNALS = 3  # of failures of one kind, in each process that runs trials
LONGEST_LOG = 200_000  # characters
END = b"\n]}\n"


class ReportError(Exception):
    """There can be no report: one message that says why, and what to do."""


class Report:
    """The report of one run, written by the process that collects its results."""

    def __init__(self, folder: Path, solution: Path) -> None:
        """`solution` is its file, or its folder."""
        self.folder = folder
        self.file = folder / "results.json"
        self._logs: Counter[Kind] = Counter()
        self._first = True
        self._solution = digest_of(solution)
        if self.file.exists():
            raise ReportError(
                f"--report {folder}: it has the results of an earlier run; give another folder, or remove it"
            )

    def begin(self, **settings: Any) -> None:
        """Write the head. Raises ReportError if the folder cannot be written to."""
        head = {
            "schema": SCHEMA,
            **settings,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "pytest": pytest.__version__,
                "raft-lab": lab_version(),
            },
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(json.dumps(head)[:-1].encode() + b',\n"trials": [' + END)
            (self.folder / RECORDS).touch()
        except OSError as e:
            raise ReportError(f"--report {self.folder}: {e}") from None

    def add(self, report: pytest.TestReport, record: Record) -> Record:
        """Add a trial that has ended. Returns its record, with the name of its log."""
        if not record.passed:
            record = record.changed(log=self._log(report, record))
        record = record.changed(lab=lab_version(), solution=self._solution)
        line = to_line(record)
        with (self.folder / RECORDS).open("ab") as file:
            file.write(line + b"\n")
        with self.file.open("r+b") as file:
            file.seek(-len(END), 2)
            file.write((b"\n" if self._first else b",\n") + line + END)
        self._first = False
        return record

    def _log(self, report: pytest.TestReport, record: Record) -> str | None:
        self._logs[record.kind] += 1
        if self._logs[record.kind] > MOST_LOGS:
            return None
        name = f"{_stem(record)}.log"
        parts = [f"{record.test}, seed {record.seed}: {record.message}", *record.lines, report.longreprtext]
        parts += [f"{f' {title} ':-^80}\n{text}" for title, text in report.sections]
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(cut("\n\n".join(parts), LONGEST_LOG), errors="replace")
        return name


def _stem(record: Record) -> str:
    return f"logs/{record.test}-seed{record.seed}"


def write_journal(folder: Path, journal: Journal, record: Record, about: dict[str, Any]) -> Record:
    """Write the journal of a failing trial into a report's folder, twice; the record, which names it.

    `about` is its header (labwatch.journal).
    """
    name = f"{_stem(record)}.jsonl"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    journal.write(path, **about)
    servers = record.servers or 3
    lines = [
        f"{record.test}, seed {record.seed}: {record.message}",
        f"repeat with: {record.repeat}",
        "",
        *columns(journal, width=10 + servers * COLUMN, marks=marks(about)),
    ]
    path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), "utf-8", "backslashreplace")
    return record.changed(journal=name)


def write_picture(folder: Path, journal: Journal, record: Record, about: dict[str, Any], *, whole: bool) -> Record:
    """Write the picture of a trial below a folder; the record, which names it, with the folder if `whole`."""
    name = f"pictures/{record.test}-seed{record.seed}.html"
    write(folder / name, page(journal.lines(**about)))
    return record.changed(picture=str(folder / name) if whole else name)


def marks(about: dict[str, Any]) -> list[tuple[float, str]]:
    """What the header of a journal says of moments: their times, and what to write there."""
    return [
        *((broken["t"], f"PAPER: {broken['message']}") for broken in about["broken"]),
        *((race["t"], f"RACE: {race['summary']}") for race in about["races"]),
    ]


def cut(text: str, most: int) -> str:
    """The text, without its middle if it is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
