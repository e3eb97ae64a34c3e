"""Scores in the forms that other systems take: Moodle's and Canvas's CSV files, Gradescope's results.json.

`moodle.csv` is an offline grading worksheet, as an assignment's "Upload grading worksheet" takes it. Moodle finds its
columns by their names, of which it wants `Identifier` ("Participant 1234", with the number that the names of exported
files have), `Grade` and `Last modified (grade)`; feedback goes by `Feedback comments` (mod/assign/feedback/offline/
importgradeslib.php). `Full name` is for people. A dash as the time is what Moodle itself writes for who has no grade;
to replace grades that are there already, tick "Allow updating records that have been modified more recently in Moodle
than in the spreadsheet" when you upload. The language of the names is that of your Moodle: they are English here.

`canvas.csv` is what the Gradebook's "Import" takes: the columns `Student`, `ID`, `SIS User ID`, `SIS Login ID`,
`Section`, and then the assignment's, by its name with its number in parentheses, or by its name alone; a second row
whose first cell says `Points Possible` (lib/gradebook_importer.rb). Canvas finds a student by `ID`, the first number
in the names of exported files, and leaves a user alone whose columns of SIS are empty.

Gradescope's results.json: https://gradescope-autograders.readthedocs.io/en/latest/specs/.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labgrade.grades import Grade, first_failure, story
from labgrade.policy import Grading
from labgrade.sheets import sheet

__all__ = ["CANVAS", "MOODLE", "Sink", "canvas", "gradescope", "moodle"]

Sink = Callable[[Grade], None]

MOODLE = ("Identifier", "Full name", "Grade", "Last modified (grade)", "Feedback comments")
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


@contextlib.contextmanager
def moodle(file: Path) -> Iterator[Sink]:
    """Takes grades; writes those whose submissions have a name of Moodle's. Raises OSError."""
    with sheet(file, MOODLE) as write:

        def add(g: Grade) -> None:
            if g.platform == "moodle":
                said = g.reason or first_failure(g)
                write([f"Participant {g.id}", g.student, g.score, "-", said])

        yield add


@contextlib.contextmanager
def canvas(file: Path, grading: Grading) -> Iterator[Sink]:
    """Takes grades; writes those whose submissions have a name of Canvas's. Raises OSError."""
    assignment = grading.assignment or f"Raft lab {grading.parts}"
    first = True
    with sheet(file, [*CANVAS, assignment]) as write:

        def add(g: Grade) -> None:
            nonlocal first
            if g.platform == "canvas":
                if first:
                    write(["    Points Possible", "", "", "", "", g.max_score])
                first = False
                write([g.student, g.id, "", "", "", g.score])

        yield add


def gradescope(g: Grade, rule: str) -> dict[str, Any]:
    """All fields of Gradescope's specification that serve; what a test's time is the autograder adds."""
    tests = []
    for number, t in enumerate(g.tests, 1):
        causes = sorted({f.cause for f in t.failures if f.cause})
        tests.append(
            {
                "name": t.test,
                "number": str(number),
                "score": t.score,
                "max_score": t.max_score,
                "status": "passed" if t.score == t.max_score else "failed",
                "output": "\n".join(story(t, rule)),
                "output_format": "text",
                "tags": causes,
                "visibility": "visible",
                "extra_data": {"seeds": sorted({seed for f in t.failures for seed in f.seeds})[:100]},
            }
        )
    late = [f"late: {g.penalty:g} points are lost"] if g.penalty else []
    said = g.reason or "\n".join([f"{g.score:g} of {g.max_score:g} points", *late, f"graded: {g.solution}", *g.notes])
    return {
        "score": g.score,
        "output": said,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"lab": g.lab, "digest": g.digest, "look": g.look},
    }
