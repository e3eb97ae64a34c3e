"""What a grading comes to: scores, and the files that a course takes them from.

Written into the folder of the grading, from the records of the trials alone:

- `grades.csv`: a line a submission: who, score, the most it could be, for each test how many trials passed and of how
  many, of isolated ones likewise, what a human should look at, and the first failure. It is for spreadsheets, starts
  with a BOM, and no cell can start a formula;
- `grades.json`: the same and more, for programs: `{"schema": 3, "settings": ..., "submissions": [...]}`, each with its
  `tests`, and each of those with its kinds of failures, how often, with which seeds, and how to repeat one;
- `NAME/results.json`: one submission's results as Gradescope's autograder wants them;
- `NAME/logs/`: of each kind of failure, the log of one trial.

By the rule "all", a test has its points when all of its trials have passed, isolated ones included; by "share", the
share of them that passed, or that of the isolated ones if it is less: they are what cannot be forged. A trial without a
record has not passed. What could not be graded has a `reason`, and no points.

`explain` says in words what a student is to be told.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labgrade.batch import Batch, Graded, disk, written
from labgrade.policy import POINTS, Grading, GradingError
from labgrade.protocol import Stage, opened
from labrun.record import Cause, Record, grouped, shown_seeds, table
from labrun.text import shown

__all__ = ["Failure", "Grade", "TestGrade", "closing_table", "explain", "grade", "write"]

MESSAGE = 200  # characters of a message in a table
LOG = 200_000  # bytes of a log that are kept
FORMULA = ("=", "+", "-", "@", "\t", "\r")
UNCONFIRMED = (
    "no isolated trials (--confirm 0): these points come from processes in which the submission ran beside its judge, "
    "and a submission made for that can have all of them without a Raft"
)
SHARED = (
    "passes in one process, fails isolated: do the servers share something (a global, a class's attribute, a default "
    "argument), or was it made to pass there?"
)


@dataclass
class Failure:
    """Failures of one test that differ in numbers at the most."""

    stage: Stage
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
    isolated_passed: int
    isolated_trials: int  # that have been run, or should have been
    score: float
    max_score: float
    failures: list[Failure]
    warnings: dict[str, int]  # of trials that passed, and in how many of them
    loads: int  # isolated trials that were run again, as the machine was too busy

    __test__ = False  # it is none of pytest's


@dataclass
class Grade:
    name: str
    path: str
    score: float
    max_score: float
    student: str = ""
    id: str = ""
    late: bool = False
    solution: str = ""  # what was chosen in the submission, and why
    notes: list[str] = field(default_factory=list)
    reason: str = ""  # why it could not be graded
    look: list[str] = field(default_factory=list)  # what a human should look at
    tests: list[TestGrade] = field(default_factory=list)


def grade(batch: Batch, graded: Graded) -> Grade:
    """The score of a submission."""
    s = graded.submission
    tests = [_of_test(batch, graded, test) for test in batch.tests]
    score, most = (round(sum(getattr(t, name) for t in tests), 2) for name in ("score", "max_score"))
    look = []
    for t in tests:
        isolated = [f for f in t.failures if f.stage == "isolated"]
        unjudged = [f for f in isolated if f.cause in ("load", "not_run")]
        if t.passed == t.trials and len(isolated) > len(unjudged):
            look.append(f"{t.test}: {SHARED} ({isolated[0].message.partition(chr(10))[0]})")
        elif unjudged:
            look.append(f"{t.test}: {unjudged[0].message}")
        look += [f"{t.test}: {warning} (in {count} trials that passed)" for warning, count in t.warnings.items()]
    return Grade(
        name=s.name,
        path=shown(str(s.path)),
        score=score,
        max_score=most,
        student=s.student,
        id=s.id,
        late=s.late,
        solution=s.how,
        notes=list(s.notes),
        reason=graded.trouble,
        look=look,
        tests=tests,
    )


def _of_test(batch: Batch, graded: Graded, test: str) -> TestGrade:
    g = batch.grading
    worth = g.points.get(test, POINTS)
    if graded.trouble:
        failure = Failure("trials", "import", graded.trouble, [], "")
        return TestGrade(test, 0, g.trials, 0, 0, 0.0, worth, [failure], {}, 0)
    trials, isolated = (batch.of_test(graded, stage, test) for stage in ("trials", "isolated"))
    passed, confirmed = (sum(r.passed for r in records) for records in (trials, isolated))
    wanted = sum(key.test == test for key in batch.planned(graded, "isolated"))
    failures = [_failure(graded, "trials", kind) for kind in grouped(trials)]
    failures += [_failure(graded, "isolated", kind) for kind in grouped(isolated)]
    if len(trials) < g.trials:
        missing = f"{g.trials - len(trials)} trials have no record: the grading was stopped"
        failures.append(Failure("trials", "not_run", missing, [], ""))
    if len(isolated) < wanted:
        why = "the machine was too busy to judge" if graded.loads[test] else "the grading was stopped"
        missing = f"{wanted - len(isolated)} isolated trials have no record: {why}; the same command runs them again"
        cause: Cause = "load" if graded.loads[test] else "not_run"
        failures.append(Failure("isolated", cause, missing, [], ""))
    share = passed / g.trials
    if g.confirm:
        share = min(share, confirmed / wanted) if wanted else 0.0
    if g.rule == "all":
        share = float(share == 1)
    warnings = Counter(shown(w, MESSAGE) for r in (*trials, *isolated) if r.passed for w in r.warnings)
    return TestGrade(
        test,
        passed,
        g.trials,
        confirmed,
        wanted,
        round(worth * share, 2),
        worth,
        failures,
        dict(warnings),
        graded.loads[test],
    )


def _failure(graded: Graded, stage: Stage, kind: Sequence[Record]) -> Failure:
    first = next((r for r in kind if r.log), kind[0])
    run = next(run for (s, key), run in graded.runs.items() if s == stage and key == (first.test, first.trial))
    log = f"runs/{run}/box/report/{first.log}" if first.log else ""
    return Failure(stage, first.cause, first.message, sorted(r.seed for r in kind), first.repeat, log)


# -- files -----------------------------------------------------------------------------------------------------------


def write(batch: Batch) -> list[Grade]:
    """All files of a grading, as the module says. Raises GradingError if the disk does not take them."""
    with disk(batch.out):
        everybody = sorted([*batch.graded, *batch.others], key=lambda graded: graded.name)
        grades = [_written(batch, graded) for graded in everybody]
        whole = {"schema": 3, "settings": asdict(batch.grading), "submissions": list(map(asdict, grades))}
        written(batch.out / "grades.json", json.dumps(whole, indent=1).encode())
        written(batch.out / "grades.csv", _spreadsheet(batch, grades).encode("utf-8-sig"))
    return grades


def _written(batch: Batch, graded: Graded) -> Grade:
    try:
        g = grade(batch, graded)
        folder = batch.out / g.name
        _keep_logs(folder, g)
    except OSError:
        raise
    except Exception as e:
        graded.trouble = f"its grade could not be written: {type(e).__name__}: {shown(str(e), 300)}"
        batch.log_trouble(graded, traceback.format_exc(limit=20))
        g = grade(batch, graded)
        folder = batch.out / g.name
    written(folder / "results.json", json.dumps(_for_gradescope(g, batch.grading), indent=1).encode())
    return g


def _keep_logs(folder: Path, g: Grade) -> None:
    """Copy a log of each kind of failure; what the submission has made of it is not followed."""
    logs = folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    for test in g.tests:
        for failure in test.failures:
            if not failure.log:
                continue
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


def _spreadsheet(batch: Batch, grades: Sequence[Grade]) -> str:
    isolated = batch.grading.confirm > 0
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    columns = ["submission", "student", "id", "late", "score", "max_score"]
    for test in batch.tests:
        columns += [f"{test} passed", f"{test} trials"]
        columns += [f"{test} isolated passed", f"{test} isolated trials"] * isolated
    rows.writerow([*columns, "look at", "first failure"])
    for g in grades:
        counts: list[object] = []
        for t in g.tests:
            counts += [t.passed, t.trials, *([t.isolated_passed, t.isolated_trials] if isolated else [])]
        row = [g.name, g.student, g.id, "late" if g.late else "", f"{g.score:g}", f"{g.max_score:g}", *counts]
        rows.writerow([_cell(str(value)) for value in (*row, "; ".join(g.look), _first_failure(g))])
    return text.getvalue()


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = text.partition("\n")[0]
    return f"'{text}" if text.startswith(FORMULA) else text


def _for_gradescope(g: Grade, grading: Grading) -> dict[str, Any]:
    tests = [
        {
            "name": t.test,
            "score": t.score,
            "max_score": t.max_score,
            "status": "passed" if t.score == t.max_score else "failed",
            "output": "\n".join(_story(t, grading.rule)),
            "visibility": "visible",
        }
        for t in g.tests
    ]
    said = g.reason or "\n".join([f"{g.score:g} of {g.max_score:g} points", f"graded: {g.solution}", *g.notes])
    return {"score": g.score, "output": said, "visibility": "visible", "tests": tests}


def _story(t: TestGrade, rule: str) -> list[str]:
    """What a student is told of a test."""
    lines = [f"{t.passed} of {t.trials} trials passed" + (", and all must" if rule == "all" else "")]
    if t.isolated_trials:
        lines[0] += f"; with each server in a process of its own, {t.isolated_passed} of {t.isolated_trials}"
    for failure in t.failures:
        where = "isolated: " if failure.stage == "isolated" else ""
        lines += ["", f"{where}{failure.message}"]
        if failure.seeds:
            lines.append(f"    with seeds {shown_seeds(failure.seeds)}")
        if failure.repeat:
            lines.append(f"    repeat with: {failure.repeat}")
    if t.passed == t.trials and any(f.stage == "isolated" and f.seeds for f in t.failures):
        lines += ["", f"It {SHARED}"]
    return lines


def closing_table(grades: Sequence[Grade], grading: Grading) -> list[str]:
    """A line a submission, with what most of its failures say; then what a human should look at."""
    rows = [["submission", "score", *(t.test.removeprefix("Test") for t in grades[0].tests)]]
    for g in grades:
        counts = [
            f"{t.passed}/{t.trials}" + (f"+{t.isolated_passed}/{t.isolated_trials}" if t.isolated_trials else "")
            for t in g.tests
        ]
        rows.append([g.name, f"{g.score:g}/{g.max_score:g}", *counts])
    lines = [
        f"{line}  {_first_failure(g)[:MESSAGE]}".rstrip() if g else line
        for line, g in zip(table(rows), [None, *grades], strict=True)
    ]
    if not grading.confirm:
        lines += ["", f"WARNING: {UNCONFIRMED}"]
    loads = sum(t.loads for g in grades for t in g.tests)
    if loads:
        lines += ["", f"{loads} isolated trials were run again, as the machine was too busy to judge"]
    look = [f"  {g.name}: {what}" for g in grades for what in g.look]
    if look:
        lines += ["", "look at:", *look]
    return lines


def _first_failure(g: Grade) -> str:
    """Of the first test that failed, in one line."""
    for t in g.tests:
        if t.failures:
            return t.failures[0].message.partition("\n")[0]
    return ""


# -- explaining --------------------------------------------------------------------------------------------------------


def explain(out: Path, name: str, test: str = "") -> list[str]:
    """What a student is to be told of a submission, or of one of its tests with the logs. Raises GradingError."""
    try:
        whole = json.loads((out / "grades.json").read_text())
        known = {g["name"]: g for g in whole["submissions"]}
        rule = whole["settings"]["rule"]
    except OSError as e:
        raise GradingError(f"{out / 'grades.json'}: {e.strerror}: grade first") from None
    except (ValueError, KeyError, TypeError):
        raise GradingError(f"{out / 'grades.json'} is damaged: the same grading again writes it anew") from None
    if name not in known:
        raise GradingError(f"there is no submission {name} in {out}; there are {', '.join(known)}")
    g = known[name]
    tests = [
        TestGrade(**{**t, "failures": [Failure(**f) for f in t["failures"]]})
        for t in g["tests"]
        if test in ("", t["test"])
    ]
    if not tests:
        raise GradingError(f"there is no test {test} among {', '.join(t['test'] for t in g['tests'])}")
    lines = [f"{name}: {g['score']:g} of {g['max_score']:g} points"]
    if g["reason"]:
        return [*lines, g["reason"], *g["notes"]]
    lines += [f"graded: {g['solution']}", *g["notes"]]
    for t in tests:
        lines += [
            "",
            f"{t.test}: {t.score:g} of {t.max_score:g} points",
            *(f"  {line}".rstrip() for line in _story(t, rule)),
        ]
        lines += [f"  warning: {warning} (in {count} trials)" for warning, count in t.warnings.items()]
        for failure in t.failures:
            if failure.log and test:
                lines += ["", f"----- {failure.log}", (out / name / failure.log).read_text(errors="replace").rstrip()]
            elif failure.log:
                lines.append(f"  log: {out / name / failure.log}")
    return lines
