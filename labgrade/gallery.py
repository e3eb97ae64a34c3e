"""The gallery: broken Rafts, each with one bug that students write, and which of the lab's tests catches it.

Each is a file in `tests/harness/broken/` whose docstring says so, the last paragraph for programs as well:

    '''Half of the votes make a leader.

    Why somebody writes that, and what then happens.

    Part: 2A
    Caught by: TestReElection2A: expected no leader
    Rate: 90%
    '''

Part is the part of the lab that is to find it. Caught by names a test and its message, or a part of it, with N for
numbers; there may be more. Rate is the least share of trials in which the first of these tests fails with one of its
messages, in virtual time. A bug that the lab's own checks do not see has `Caught by: nothing`, and the docstring says
why. Files whose names begin with `_` are what several bugs have in common.

`bugs` reads them, and `prove` runs them and shows how often each test fails by the lab's own checks, and beside it in
how many trials of all tests a rule of the paper was broken (labwatch.paper), and which: the proof that the harness
catches what it should, and what it does not. A bug is reported as missed when so few failures are improbable (less than
one in a hundred) for the number of trials that were run.
"""

from __future__ import annotations

import ast
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labgrade.batch import Batch
from labgrade.block import Graded
from labgrade.intake import Submission
from labgrade.places import GALLERY
from labgrade.policy import Grading
from labrun.record import Record, without_numbers

__all__ = ["Bug", "GalleryError", "bugs", "prove", "select"]

IMPROBABLE = 0.01


class GalleryError(Exception):
    """A file of the gallery does not say what it should: which, and what is missing. Or there is no such file."""


@dataclass(frozen=True)
class Bug:
    name: str
    path: Path
    title: str
    part: str
    caught_by: tuple[tuple[str, str], ...]  # test and message
    rate: float

    @property
    def test(self) -> str:
        """The test that catches it first; "" if none does."""
        return self.caught_by[0][0] if self.caught_by else ""

    def is_caught(self, message: str) -> bool:
        """Whether a failure of that test is what it should be."""
        general = without_numbers(message)
        return any(known in general for test, known in self.caught_by if test == self.test)


def bugs(folder: Path = GALLERY) -> list[Bug]:
    """All of the gallery, by part and name. Raises GalleryError."""
    files = [path for path in folder.glob("*.py") if not path.name.startswith("_")]
    return sorted(map(_read_bug, files), key=lambda bug: (bug.part, bug.name))


def _read_bug(path: Path) -> Bug:
    """What a file says of its bug; it is not executed. Raises GalleryError."""
    try:
        text = ast.get_docstring(ast.parse(path.read_bytes(), str(path))) or ""
    except (SyntaxError, ValueError) as e:
        raise GalleryError(f"{path}: it is no Python file: {e}") from None
    title, facts = text.partition("\n\n")[0], text.rpartition("\n\n")[2]
    part = re.search(r"^Part: (2[ABCD])$", facts, re.MULTILINE)
    caught = re.findall(r"^Caught by: (Test\w+): (.+)$", facts, re.MULTILINE)
    rate = re.search(r"^Rate: (\d+)%$", facts, re.MULTILINE)
    unseen = re.search(r"^Caught by: nothing$", facts, re.MULTILINE)
    if not part:
        raise GalleryError(f"{path}: its docstring has no line 'Part: 2A' (or 2B, 2C, 2D) in the last paragraph")
    if bool(caught) == bool(unseen):
        raise GalleryError(f"{path}: its docstring wants 'Caught by: TEST: MESSAGE', or 'Caught by: nothing'")
    if bool(caught) != bool(rate):
        raise GalleryError(f"{path}: its docstring wants 'Rate: N%' if, and only if, a test catches the bug")
    return Bug(path.stem, path, title, part[1], tuple(caught), int(rate[1]) / 100 if rate else 0.0)


def select(parts: Sequence[str], only: Sequence[str] = ()) -> list[Bug]:
    """The bugs of some parts; of these the ones named, all if empty. Raises GalleryError."""
    known = [bug for bug in bugs() if bug.part in parts]
    unknown = set(only) - {bug.name for bug in known}
    if unknown:
        raise GalleryError(f"there is no {min(unknown)} in the gallery of part {' and '.join(parts)} ({GALLERY})")
    return [bug for bug in known if not only or bug.name in only]


def prove(parts: Sequence[str], grading: Grading, run: Callable[[Batch], bool], only: Sequence[str] = ()) -> int:
    """Run the bugs of some parts, each on the tests of its part, and print how many of the trials failed.

    `grading` says how (its parts do not count), `run` runs a batch and says whether it was stopped, and `only` names
    the bugs to run, all if empty. Returns 1 when a bug was caught less often than its file says, or not with that
    message; 130 when it was stopped. Raises GalleryError.
    """
    selected = select(parts, only)
    missed = 0
    for part in parts:
        of_part = [bug for bug in selected if bug.part == part]
        if not of_part:
            continue
        with tempfile.TemporaryDirectory(prefix="labgrade-gallery-") as out:
            submissions = [Submission(bug.path, bug.name, solution=bug.path.name) for bug in of_part]
            batch = Batch(submissions, replace(grading, parts=part, trusted=True, confirm=0), Path(out))
            batch.prepare()
            if run(batch):
                return 130
            batch.close()
            found = [_records(bug, graded) for bug, graded in zip(of_part, batch.graded, strict=True)]
        tests = batch.tests
        width = max(len(bug.name) for bug in of_part)
        print(f"\n{part}: of {grading.trials} trials, {grading.mode}, how many % failed, by test")
        for number, test in enumerate(tests, 1):
            print(f"  {number:2}  {test}")
        print(" " * width + "".join(f"{number:>5}" for number in range(1, len(tests) + 1)) + "  paper")
        for bug, records in zip(of_part, found, strict=True):
            rates = "".join(f"{_share(records, test):5.0%}" for test in tests)
            paper, places = _paper(records)
            print(f"{bug.name.ljust(width)}{rates}{paper:7.0%}{_verdict(bug, records)}{places}")
            missed += _is_missed(bug, records)
    print(f"\n{missed} bugs were caught less often than they should be" if missed else "\nall as the gallery says")
    return 1 if missed else 0


def _records(bug: Bug, graded: Graded) -> list[Record]:
    """What was recorded of a bug's trials. Raises GalleryError if nothing was."""
    records = [known.record for known in graded.records()["trials"].values()]
    if graded.trouble or not records:
        raise GalleryError(f"{bug.path}: {graded.trouble or 'none of its trials has a record'}")
    return records


def _of_test(records: Sequence[Record], test: str) -> list[Record]:
    return [record for record in records if record.test == test]


def _share(records: Sequence[Record], test: str) -> float:
    """The share of a test's trials that failed."""
    of_test = _of_test(records, test)
    return sum(not record.passed for record in of_test) / len(of_test) if of_test else 0.0


def _is_missed(bug: Bug, records: Sequence[Record]) -> bool:
    """Whether so few failures are improbable for a bug that is seen as often as its file says."""
    of_test = _of_test(records, bug.test)
    caught = sum(not record.passed and bug.is_caught(record.message) for record in of_test)
    trials = len(of_test)
    as_few = sum(math.comb(trials, k) * bug.rate**k * (1 - bug.rate) ** (trials - k) for k in range(caught + 1))
    return bool(bug.caught_by) and as_few < IMPROBABLE


def _paper(records: Sequence[Record]) -> tuple[float, str]:
    """The share of trials in which a rule of the paper was broken, and the rule's place there, of the most frequent."""
    broken = [message for record in records for message in record.broken[:1]]
    places = Counter(message.rpartition("(")[2].removesuffix(")") for message in broken)
    return len(broken) / len(records), f" | {places.most_common(1)[0][0]}" if broken else ""


def _verdict(bug: Bug, records: Sequence[Record]) -> str:
    if not bug.caught_by:
        return "  not seen by the lab's checks"
    if _is_missed(bug, records):
        return f"  MISSED: {bug.rate:.0%} of {bug.test} should say: {bug.caught_by[0][1]}"
    return f"  {bug.caught_by[0][1]}"
