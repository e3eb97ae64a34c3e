"""Writes what a grading has come to, for a course to take from there; one submission at a time, so memory stays flat.

- `grades.csv`: a line a submission: who, score, the most it could be, for each test how many trials passed and of how
  many, of isolated ones likewise, what a human should look at, and the first failure. It is for spreadsheets, starts
  with a BOM, and no cell can start a formula;
- `grades.json`: the same and more, for programs: `{"schema": 3, "settings": ..., "submissions": [...]}`, a line each
  (labgrade.grades.Grade), with its `tests`, and each of those with its kinds of failures, how often, with which seeds,
  and how to repeat one;
- `moodle.csv`, `canvas.csv`: the scores as these import them, where there are submissions with names of theirs
  (labgrade.gradebooks);
- `index.html`, and `anonymous/` without names (labgrade.pages);
- `NAME/results.json`: one submission's results as Gradescope's autograder wants them (labgrade.gradebooks);
- `NAME/feedback.html`, `NAME/feedback.txt`: what to give to its student;
- `NAME/logs/`, `NAME/pictures/`: of each kind of failure, the log of one trial, and the picture of one
  (labwatch.picture). What a submission's process has made is taken for data: no page of its own comes through.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from labgrade import gradebooks, pages
from labgrade.batch import Batch, disk, written
from labgrade.block import Graded
from labgrade.gradebooks import Sink
from labgrade.grades import ClosingTable, Grade, first_failure, grade, in_full, paper_of
from labgrade.protocol import opened
from labgrade.sheets import sheet
from labrun.text import shown
from labwatch.picture import MOST_PAGE, ours, write

__all__ = ["publish"]

LOG = 200_000  # bytes of a log that are kept


def publish(batch: Batch) -> ClosingTable:
    """All files of a grading, as the module says. Raises GradingError if the disk does not take them."""
    closing = ClosingTable(batch.grading.confirm, batch.tests, paper=batch.grading.paper != "off")
    with disk(batch.out), contextlib.ExitStack() as files:
        sinks = [
            files.enter_context(_json(batch)),
            files.enter_context(_spreadsheet(batch)),
            files.enter_context(gradebooks.moodle(batch.out / "moodle.csv")),
            files.enter_context(gradebooks.canvas(batch.out / "canvas.csv", batch.grading)),
            files.enter_context(pages.everybody(batch)),
        ]
        for graded in sorted([*batch.graded, *batch.others], key=lambda graded: graded.name):
            g = _one(batch, graded)
            closing.add(g)
            for sink in sinks:
                sink(g)
    return closing


def _one(batch: Batch, graded: Graded) -> Grade:
    try:
        g = grade(batch, graded)
        _keep_logs(graded.folder, g)
        _keep_pictures(graded.folder, g)
    except OSError:
        raise
    except Exception as e:
        graded.trouble = f"its grade could not be written: {type(e).__name__}: {shown(str(e), 300)}"
        graded.log_trouble(traceback.format_exc(limit=20))
        g = grade(batch, graded)
    rule = batch.grading.rule
    written(graded.folder / "results.json", json.dumps(gradebooks.gradescope(g, rule), indent=1).encode())
    written(graded.folder / "feedback.txt", ("\n".join(in_full(g, rule)) + "\n").encode(errors="replace"))
    return g


def _keep_logs(folder: Path, g: Grade) -> None:
    """Copy a log of each kind of failure; what the submission has made of it is not followed."""
    logs = folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    for failure in (f for test in g.tests for f in test.failures if f.log):
        try:
            with opened(folder, failure.log) as file:
                text = file.read(LOG)
        except OSError:
            failure.log = ""
            continue
        logs.mkdir(exist_ok=True)
        prefix = "isolated-" if failure.stage == "isolated" else ""
        copy = logs / f"{prefix}{failure.log.rpartition('/')[2]}"
        copy.write_bytes(text)
        failure.log = str(copy.relative_to(folder))


def _keep_pictures(folder: Path, g: Grade) -> None:
    """Copy a picture of each kind of failure: its data, in a page of ours."""
    shutil.rmtree(folder / "pictures", ignore_errors=True)
    for test in g.tests:
        for failure in (f for f in test.failures if f.picture):
            try:
                with opened(folder, failure.picture) as file:
                    page = ours(file.read(MOST_PAGE).decode(errors="replace"), f"{g.name}, {test.test}")
            except (OSError, ValueError):
                failure.picture = ""
                continue
            prefix = "isolated-" if failure.stage == "isolated" else ""
            copy = folder / "pictures" / f"{prefix}{failure.picture.rpartition('/')[2]}"
            write(copy, page)
            failure.picture = str(copy.relative_to(folder))


@contextlib.contextmanager
def _json(batch: Batch) -> Iterator[Sink]:
    file = batch.out / "grades.json"
    new = file.with_name("grades.json.new")
    with new.open("w") as out:
        settings = json.dumps(asdict(batch.grading))
        out.write(f'{{"schema": 3, "settings": {settings}, "submissions": [')
        before = "\n"

        def add(g: Grade) -> None:
            nonlocal before
            out.write(before + json.dumps(asdict(g)))
            before = ",\n"

        yield add
        out.write("\n]}\n")
    new.replace(file)


@contextlib.contextmanager
def _spreadsheet(batch: Batch) -> Iterator[Sink]:
    isolated = batch.grading.confirm > 0
    columns = ["submission", "student", "id", "late", "score", "max_score"]
    for test in batch.tests:
        columns += [f"{test} passed", f"{test} trials"]
        columns += [f"{test} isolated passed", f"{test} isolated trials"] * isolated
    columns += ["paper"] * (batch.grading.paper != "off")
    with sheet(batch.out / "grades.csv", [*columns, "look at", "first failure"], bom=True) as write:

        def add(g: Grade) -> None:
            counts: list[int] = []
            for t in g.tests:
                counts += [t.passed, t.trials, *([t.isolated_passed, t.isolated_trials] if isolated else [])]
            who = [g.name, g.student, g.id, "late" if g.late else "", g.score, g.max_score]
            said = [paper_of(g.tests)] * (batch.grading.paper != "off")
            write([*who, *counts, *said, "; ".join(g.look), first_failure(g)])

        yield add
