"""The files by which a grader (labgrade.batch) and a process that it starts (labgrade.guard) understand each other.

A run is one such process, and a folder of its own:

- the grader leaves `todo`, the node ids of the trials that are to run, one a line; and `settings.json` (`Guarding`);
- the process leaves `current`, the node id of the trial that is running, should it end in the midst of it, and
  `report/`, as labrun.report writes it;
- the grader adds `ended.jsonl`, records of trials that could not be recorded by the process itself.

Reading is linear: `Run.new_records` goes on where the last call stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from labrun.record import Record, from_line, to_line
from labrun.report import RECORDS

__all__ = ["Guarding", "Run"]


@dataclass(frozen=True)
class Guarding:
    """What the guard of a process must know."""

    submission: str  # its folder
    memory: int  # MB
    trusted: bool  # whether it may use the shipped Raft
    pipe: int  # an open file: its other end is closed when the grader has ended


class Run:
    """The folder of one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.report = folder / "report"
        self._read: dict[Path, int] = {}  # bytes of whole lines that have been read

    # -- the grader's side --

    def prepare(self, todo: Iterable[str], guarding: Guarding) -> None:
        (self.folder / "todo").write_text("\n".join(todo))
        (self.folder / "settings.json").write_bytes(msgspec.json.encode(guarding))
        (self.folder / "scratch").write_text(guarding.submission)

    def new_records(self) -> Iterator[Record]:
        """The records that have come since the last call. A line that is damaged is none."""
        scratch = f"{_text(self.folder / 'scratch') or '(none)'}/".encode()
        for file in (self.report / RECORDS, self.folder / "ended.jsonl"):
            try:
                with file.open("rb") as lines:
                    lines.seek(self._read.get(file, 0))
                    data = lines.read()
            except OSError:
                continue
            whole = data[: data.rfind(b"\n") + 1]
            self._read[file] = self._read.get(file, 0) + len(whole)
            for line in whole.splitlines():
                try:
                    yield from_line(line.replace(scratch, b""))  # without the name of its scratch folder
                except (msgspec.DecodeError, ValueError):
                    continue

    def add(self, records: Iterable[Record]) -> None:
        """Record trials that the process could not record."""
        with (self.folder / "ended.jsonl").open("ab") as file:
            file.write(b"".join(to_line(record) + b"\n" for record in records))

    def progress(self) -> int:
        """It grows with each record."""
        try:
            return (self.report / RECORDS).stat().st_size
        except OSError:
            return 0

    def current(self) -> str:
        return _text(self.folder / "current")

    # -- the process's side --

    def todo(self) -> set[str]:
        return set(_text(self.folder / "todo").splitlines())

    def guarding(self) -> Guarding:
        return msgspec.json.decode((self.folder / "settings.json").read_bytes(), type=Guarding)

    def begins(self, nodeid: str) -> None:
        (self.folder / "current").write_text(nodeid)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
