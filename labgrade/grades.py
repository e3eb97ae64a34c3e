"""What a grading comes to: scores, and the files that a course takes them from.

Written into the folder of the grading, from the records of the trials alone:

- `grades.csv`: a line a submission: score, the most it could be, for each test "passed/trials", and the first failure;
- `grades.json`: the same and more, for programs: `{"schema": 2, "settings": ..., "submissions": [...]}`, each with its
  `tests`, and each of those with its kinds of failures, how often, with which seeds, and how to repeat one;
- `NAME/results.json`: one submission's results as Gradescope's autograder wants them;
- `NAME/logs/`: of each kind of failure, the log of one trial.

By the rule "all", a test has its points when all of its trials have passed; by "share", the share of them that passed.
A trial without a record has not passed.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labgrade.batch import Batch, Submission, node
from labgrade.policy import POINTS
from labrun.record import Cause, Record, grouped, shown_seeds, table

__all__ = ["Failure", "Grade", "TestGrade", "closing_table", "grade", "write"]

MESSAGE = 200  # characters of a message in a table


@dataclass
class Failure:
    """Failures of one test that differ in numbers at the most."""

    cause: Cause
    message: str
    seeds: list[int]
    repeat: str
    log: str = ""  # of one of them, relative to the submission's folder


@dataclass
class TestGrade:
    test: str
    passed: int
    trials: int
    score: float
    max_score: float
    failures: list[Failure]

    __test__ = False  # it is none of pytest's


@dataclass
class Grade:
    name: str
    path: str
    score: float
    max_score: float
    tests: list[TestGrade] = field(default_factory=list)


def grade(batch: Batch, submission: Submission) -> Grade:
    """The score of a submission."""
    g = batch.grading
    trials: dict[str, list[str]] = {}
    for nodeid in batch.tests:
        trials.setdefault(node(nodeid).test, []).append(nodeid)
    tests = []
    for test, nodeids in trials.items():
        records = [record for nodeid in nodeids if (record := submission.records.get(nodeid))]
        passed = sum(record.passed for record in records)
        worth = g.points.get(test, POINTS)
        share = passed / len(nodeids) if g.rule == "share" else float(passed == len(nodeids))
        failures = [_failure(submission, kind) for kind in grouped(records)]
        missing = len(nodeids) - len(records)
        if missing:
            failures.append(Failure("not_run", f"{missing} trials have no record: the grading was stopped", [], ""))
        tests.append(TestGrade(test, passed, len(nodeids), round(worth * share, 2), worth, failures))
    score, most = (round(sum(getattr(t, name) for t in tests), 2) for name in ("score", "max_score"))
    return Grade(submission.name, str(submission.path), score, most, tests)


def _failure(submission: Submission, kind: Sequence[Record]) -> Failure:
    first = next((r for r in kind if r.log), kind[0])
    log = f"runs/{submission.runs[first.nodeid]}/report/{first.log}" if first.log else ""
    return Failure(first.cause, first.message, sorted(r.seed for r in kind), first.repeat, log)


def write(batch: Batch, grades: Sequence[Grade]) -> None:
    """All files of a grading, as the module says."""
    with (batch.out / "grades.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["submission", "score", "max_score", *(t.test for t in grades[0].tests), "first failure"])
        for g in grades:
            passed = [f"{t.passed}/{t.trials}" for t in g.tests]
            table.writerow([g.name, f"{g.score:g}", f"{g.max_score:g}", *passed, _first_failure(g)])
    for g in grades:
        folder = batch.out / g.name
        logs = folder / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        for test in g.tests:
            for failure in test.failures:
                if failure.log and (folder / failure.log).exists():
                    logs.mkdir(exist_ok=True)
                    failure.log = str(Path(shutil.copy(folder / failure.log, logs)).relative_to(folder))
        (folder / "results.json").write_text(json.dumps(_for_gradescope(g, batch.grading.rule), indent=1))
    whole = {"schema": 2, "settings": asdict(batch.grading), "submissions": list(map(asdict, grades))}
    (batch.out / "grades.json").write_text(json.dumps(whole, indent=1))


def _for_gradescope(g: Grade, rule: str) -> dict[str, Any]:
    tests = []
    for t in g.tests:
        lines = [f"{t.passed} of {t.trials} trials passed" + (", and all must" if rule == "all" else "")]
        for failure in t.failures:
            lines += ["", failure.message, f"    with seeds {shown_seeds(failure.seeds)}"]
            if failure.repeat:
                lines.append(f"    repeat with: {failure.repeat}")
        tests.append(
            {
                "name": t.test,
                "score": t.score,
                "max_score": t.max_score,
                "status": "passed" if t.passed == t.trials else "failed",
                "output": "\n".join(lines),
                "visibility": "visible",
            }
        )
    return {
        "score": g.score,
        "output": f"{g.score:g} of {g.max_score:g} points",
        "visibility": "visible",
        "tests": tests,
    }


def closing_table(grades: Sequence[Grade]) -> list[str]:
    """A line a submission, and what most of its failures say."""
    rows = [["submission", "score", *(t.test.removeprefix("Test") for t in grades[0].tests)]]
    rows += [[g.name, f"{g.score:g}/{g.max_score:g}", *(f"{t.passed}/{t.trials}" for t in g.tests)] for g in grades]
    return [
        f"{line}  {_first_failure(g)[:MESSAGE]}".rstrip() if g else line
        for line, g in zip(table(rows), [None, *grades], strict=True)
    ]


def _first_failure(g: Grade) -> str:
    """Of the first test that failed, in one line."""
    for t in g.tests:
        if t.failures:
            return t.failures[0].message.partition("\n")[0]
    return ""
