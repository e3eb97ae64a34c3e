"""What a grading comes to: the score of a submission, from the records of its trials alone, and what it is made of.

How much a test is worth for its records is labrun.scoring's matter. What could not be graded has a `reason`, and no
points. A late submission loses what the policy says.

`Failure`, `TestGrade` and `Grade` are also the schema of `grades.json`; `ClosingTable`, `in_full` and `explain` put
them in words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from labgrade.batch import Batch
from labgrade.block import Graded, Known
from labgrade.policy import Grading, GradingError
from labgrade.protocol import Key, Stage
from labrun.record import Cause, Record, grouped, shown_seeds, table, without_numbers
from labrun.text import shown

__all__ = [
    "ClosingTable",
    "Failure",
    "Grade",
    "TestGrade",
    "explain",
    "first_failure",
    "grade",
    "in_full",
    "paper_of",
    "story",
]

WARNINGS = 5  # kinds of them that are listed for a human to look at
MESSAGE = 200  # characters of a message in a table
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
    causes: list[str] = field(default_factory=list)  # what is likely to be wrong, in one of them
    log: str = ""  # of one of them, relative to the submission's folder
    picture: str = ""  # likewise


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
    broken: int = 0  # trials in which a rule of the paper was broken
    unchecked: list[str] = field(default_factory=list)  # rules that could not be judged, and why

    __test__ = False  # it is none of pytest's


@dataclass
class Hunted:
    """What the hunt in a part has come to: a story that fails, or no end."""

    part: str
    cause: Cause
    message: str
    story: str  # as a lab test; "" if the hunt itself was ended
    repeat: str
    cost: float  # points that it costs


@dataclass
class Grade:
    name: str
    path: str
    score: float
    max_score: float
    student: str = ""
    id: str = ""
    platform: str = ""  # whose export gave the file its name: "moodle", "canvas"
    late: bool = False
    penalty: float = 0.0  # points that were lost for it
    solution: str = ""  # what was chosen in the submission, and why
    digest: str = ""  # of the submission's files
    lab: str = ""  # the version of the lab that judged it
    notes: list[str] = field(default_factory=list)
    reason: str = ""  # why it could not be graded
    look: list[str] = field(default_factory=list)  # what a human should look at
    tests: list[TestGrade] = field(default_factory=list)
    hunted: list[Hunted] = field(default_factory=list)  # what hunts have found


def grade(batch: Batch, graded: Graded) -> Grade:
    """The score of a submission. Raises OSError if its records cannot be read."""
    s, g = graded.submission, batch.grading
    known = graded.records()
    tests = [_of_test(batch, graded, known, test) for test in batch.tests]
    hunted = _hunted(g, known, tests)
    score = sum(t.score for t in tests) - sum(found.cost for found in hunted)
    penalty = round(score * g.late_penalty, 2) if s.late else 0.0
    first = next((k.record for stage in known.values() for k in stage.values()), None)
    return Grade(
        name=s.name,
        path=shown(str(s.path)),
        score=round(score - penalty, 2),
        max_score=round(sum(t.max_score for t in tests), 2),
        student=s.student,
        id=s.id,
        platform=s.platform,
        late=s.late,
        penalty=penalty,
        solution=s.how,
        digest=s.digest,
        lab=first.lab if first else "",
        notes=list(s.notes),
        reason=graded.trouble,
        look=[
            *(mark for t in tests for mark in _marks(t)),
            *(_short(found) for found in hunted),
            *_warned(tests),
            *_unchecked(tests),
        ],
        tests=tests,
        hunted=hunted,
    )


def _hunted(g: Grading, known: dict[Stage, dict[Key, Known]], tests: Sequence[TestGrade]) -> list[Hunted]:
    hunted = []
    for key, (r, _) in known["hunt"].items() if g.hunt else ():
        part = key.test[-2:]
        worth = sum(t.score for t in tests if t.test.endswith(part))
        cost = round(worth * g.hunt_cost, 2) if r.story else 0.0
        if not r.passed:
            hunted.append(Hunted(part, r.cause, r.message, r.story, r.repeat, cost))
    return hunted


def _short(found: Hunted) -> str:
    return f"{found.part}: " + (f"a hunt found: {found.message}" if found.story else f"the hunt: {found.message}")


def _marks(t: TestGrade) -> list[str]:
    """What a human should look at."""
    isolated = [f for f in t.failures if f.stage == "isolated"]
    unjudged = [f for f in isolated if f.cause in ("load", "not_run")]
    marks = []
    if t.passed == t.trials and len(isolated) > len(unjudged):
        marks.append(f"{t.test}: {SHARED} ({isolated[0].message.partition(chr(10))[0]})")
    elif unjudged:
        marks.append(f"{t.test}: {unjudged[0].message}")
    return marks


def _warned(tests: list[TestGrade]) -> list[str]:
    """The kinds of warnings of trials that passed, each once, whatever the tests and the numbers in it."""
    kinds: dict[str, list[tuple[str, str, int]]] = {}
    for t in tests:
        for warning, count in t.warnings.items():
            kinds.setdefault(without_numbers(warning), []).append((t.test, warning, count))
    lines = []
    for kind in kinds.values():
        where = ", ".join(dict.fromkeys(test for test, _, _ in kind))
        lines.append(f"{where}: {kind[0][1]} (in {sum(count for *_, count in kind)} trials that passed)")
    rest = len(lines) - WARNINGS
    return lines if rest <= 0 else [*lines[:WARNINGS], f"and {rest} other kinds of warnings"]


def _unchecked(tests: list[TestGrade]) -> list[str]:
    """What was not judged by the paper's rules, each once."""
    unchecked: dict[str, list[str]] = {}
    for t in tests:
        for what in t.unchecked if t.passed else ():
            unchecked.setdefault(what, []).append(t.test)
    return [f"{', '.join(where)}: {what} (the paper's rules)" for what, where in unchecked.items()]


def paper_of(tests: Sequence[TestGrade]) -> str:
    """What the paper's rules say of a submission, in a word or two."""
    broken = sum(t.broken for t in tests)
    if broken:
        return f"{broken} broken"
    return "unchecked" if any(t.unchecked for t in tests) else "ok"


def _of_test(batch: Batch, graded: Graded, known: dict[Stage, dict[Key, Known]], test: str) -> TestGrade:
    g = batch.grading
    if graded.trouble:
        failure = Failure("trials", "import", graded.trouble, [], "")
        return TestGrade(test, 0, g.trials, 0, 0, 0.0, g.worth(test), [failure], {}, 0)
    trials, isolated = _asked(known["trials"], test, g.trials), _asked(known["isolated"], test, g.confirm)
    wanted = g.confirm if batch.is_worth_it(graded, test) else 0
    failures = [*_failures("trials", trials), *_failures("isolated", isolated)]
    if len(trials) < g.trials:
        missing = f"{g.trials - len(trials)} trials have no record: {batch.stopped}"
        failures.append(Failure("trials", "not_run", missing, [], ""))
    if len(isolated) < wanted:
        load = graded.loads[test] and not batch.out_of_time
        why = "the machine was too busy to judge; the same command runs them again" if load else batch.stopped
        missing = f"{wanted - len(isolated)} isolated trials have no record: {why}"
        failures.append(Failure("isolated", "load" if load else "not_run", missing, [], ""))
    records, confirmed = ([k.record for k in some] for some in (trials, isolated))
    return TestGrade(
        test,
        sum(r.passed for r in records),
        g.trials,
        sum(r.passed for r in confirmed),
        wanted,
        round(g.worth(test) * g.scoring.share(records, confirmed), 2),
        g.worth(test),
        failures,
        _counted([r.warnings for r in (*records, *confirmed) if r.passed]),
        graded.loads[test],
        sum(bool(r.broken) for r in records),
        list(dict.fromkeys(what for r in records for what in r.unchecked)),
    )


def _counted(warnings: list[tuple[str, ...]]) -> dict[str, int]:
    """Of each kind of warning the first, and how many trials had it."""
    first: dict[str, str] = {}
    count = Counter(kind for of_trial in warnings for kind in {without_numbers(w) for w in of_trial})
    for warning in (w for of_trial in warnings for w in of_trial):
        first.setdefault(without_numbers(warning), warning)
    return {shown(warning, MESSAGE): count[kind] for kind, warning in first.items()}


def _asked(known: dict[Key, Known], test: str, most: int) -> list[Known]:
    """Of those trials that are asked for, in their order."""
    return [found for trial in range(most) if (found := known.get(Key(test, trial)))]


def _failures(stage: Stage, known: Sequence[Known]) -> Iterable[Failure]:
    runs = {k.record.trial: k.run for k in known}
    for kind in grouped(k.record for k in known):
        first: Record = next((r for r in kind if r.log), kind[0])
        log, picture = (
            next((f"runs/{runs[r.trial]}/box/report/{file}" for r in kind if (file := getattr(r, what))), "")
            for what in ("log", "picture")
        )
        seeds, causes = sorted(r.seed for r in kind), next((list(r.causes) for r in kind if r.causes), [])
        yield Failure(stage, first.cause, first.message, seeds, first.repeat, causes, log, picture)


# -- in words --------------------------------------------------------------------------------------------------------


def story(t: TestGrade, rule: str) -> list[str]:
    """What a student is told of a test."""
    lines = [f"{t.passed} of {t.trials} trials passed" + (", and all must" if rule == "all" else "")]
    if t.isolated_trials:
        lines[0] += f"; with each server in a process of its own, {t.isolated_passed} of {t.isolated_trials}"
    for failure in t.failures:
        where = "isolated: " if failure.stage == "isolated" else ""
        lines += ["", f"{where}{failure.message}"]
        lines += [f"    likely cause: {cause}" for cause in failure.causes]
        if failure.seeds:
            lines.append(f"    with seeds {shown_seeds(failure.seeds)}")
        if failure.repeat:
            lines.append(f"    repeat with: {failure.repeat}")
    if t.passed == t.trials and any(f.stage == "isolated" and f.seeds for f in t.failures):
        lines += ["", f"It {SHARED}"]
    return lines


class ClosingTable:
    """A line a submission, with what most of its failures say; then what a human should look at."""

    def __init__(self, confirm: int, tests: Sequence[str], *, paper: bool = False) -> None:
        self._confirm = confirm
        self._paper = ["paper"] * paper
        self._rows = [["submission", "score", *(test.removeprefix("Test") for test in tests), *self._paper]]
        self._failures = [""]
        self._look: list[str] = []
        self._loads = 0

    def add(self, g: Grade) -> None:
        counts = [
            f"{t.passed}/{t.trials}" + (f"+{t.isolated_passed}/{t.isolated_trials}" if t.isolated_trials else "")
            for t in g.tests
        ]
        said = [paper_of(g.tests) if not g.reason else "-" for _ in self._paper]
        self._rows.append([g.name, f"{g.score:g}/{g.max_score:g}", *counts, *said])
        self._failures.append(first_failure(g)[:MESSAGE])
        self._look += [f"  {g.name}: {what}" for what in g.look]
        self._loads += sum(t.loads for t in g.tests)

    def __len__(self) -> int:
        return len(self._rows) - 1

    def lines(self) -> list[str]:
        rows = zip(table(self._rows), self._failures, strict=True)
        lines = [f"{line}  {failure}".rstrip() for line, failure in rows]
        if not self._confirm:
            lines += ["", f"WARNING: {UNCONFIRMED}"]
        if self._loads:
            lines += ["", f"{self._loads} isolated trials were run again, as the machine was too busy to judge"]
        return [*lines, "", "look at:", *self._look] if self._look else lines


def first_failure(g: Grade) -> str:
    """Of the first test that failed, in one line."""
    return next((t.failures[0].message.partition("\n")[0] for t in g.tests if t.failures), "")


def in_full(g: Grade, rule: str, test: str = "") -> list[str]:
    """All that a student is to be told of a submission, or of one of its tests."""
    lines = [f"{g.name}: {g.score:g} of {g.max_score:g} points"]
    if g.penalty:
        lines.append(f"late: {g.penalty:g} points are lost")
    if g.reason:
        return [*lines, g.reason, *g.notes]
    lines += [f"graded: {g.solution}", *g.notes]
    if g.lab:
        lines.append(f"judged by lab {g.lab}; the digest of the submission begins with {g.digest[:12]}")
    for t in g.tests:
        if test in ("", t.test):
            lines += ["", f"{t.test}: {t.score:g} of {t.max_score:g} points"]
            lines += [f"  {line}".rstrip() for line in story(t, rule)]
            lines += [f"  warning: {warning} (in {count} trials)" for warning, count in t.warnings.items()]
    for found in g.hunted if not test else ():
        cost = f", which costs {found.cost:g} points" if found.cost else ""
        lines += ["", _short(found) + cost, *(f"    {line}".rstrip() for line in found.story.splitlines())]
        lines.append(f"  repeat with: {found.repeat}")
    return lines


def explain(out: Path, name: str, test: str = "") -> list[str]:
    """What a student is to be told of a submission, or of one of its tests with the logs. Raises GradingError."""
    g, settings = graded_before(out, name)
    if test not in ("", *(t.test for t in g.tests)):
        raise GradingError(f"there is no test {test} among {', '.join(t.test for t in g.tests)}")
    lines = in_full(g, settings["rule"], test)
    lines.insert(1, f"mode {settings['mode']}, seeds from {settings['seed']} on")
    for failure in (f for t in g.tests if test in ("", t.test) for f in t.failures if f.log):
        if test:
            log = (out / name / failure.log).read_text(errors="replace").rstrip()
            lines += ["", f"----- {failure.log}", log]
        else:
            lines.append(f"  log: {out / name / failure.log}")
        if failure.picture:
            lines.append(f"  picture: {out / name / failure.picture}")
    return lines


def graded_before(out: Path, name: str) -> tuple[Grade, dict[str, Any]]:
    """A submission's grade as `out` has it, and the settings of the grading. Raises GradingError."""
    try:
        whole = json.loads((out / "grades.json").read_text())
        known = {g["name"]: g for g in whole["submissions"]}
        if name not in known:
            raise GradingError(f"there is no submission {name} in {out}; there are {', '.join(known)}")
        return msgspec.convert(known[name], Grade), dict(whole["settings"])
    except OSError as e:
        raise GradingError(f"{out / 'grades.json'}: {e.strerror}: grade first") from None
    except (ValueError, KeyError, TypeError):
        raise GradingError(f"{out / 'grades.json'} is damaged: the same grading again writes it anew") from None
