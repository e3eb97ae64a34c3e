"""The gallery: broken Rafts, each with one bug that students write, and which of the lab's tests catches it.

Each is a file in `tests/harness/broken/` whose docstring says so, the last paragraph for programs as well:

    '''Half of the votes make a leader.

    Why somebody writes that, and what then happens.

    Part: 2A
    Caught by: TestReElection2A: expected no leader
    Rate: 90%
    '''

Part is the part of the lab that is to find it. Caught by names a test, and how its message begins, with N for numbers;
there may be more, the first counts. Rate is the least share of trials that fail there, in virtual time. A bug that the
lab's own checks do not see has `Caught by: nothing`, and the docstring says why.

`bugs` reads them, and `prove` runs them all and shows how often each test fails: the proof that the harness catches
what it should, and what it does not.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labgrade import HOME
from labgrade.batch import Batch, Record, Settings, Submission, test_of

__all__ = ["FOLDER", "Bug", "GalleryError", "bugs", "prove", "read_bug"]

FOLDER = HOME / "tests" / "harness" / "broken"


class GalleryError(Exception):
    """A file of the gallery does not say what it should: which, and what is missing."""


@dataclass(frozen=True)
class Bug:
    name: str
    path: Path
    title: str
    part: str
    caught_by: tuple[tuple[str, str], ...]  # test, and how its message begins; the first is the one that `rate` is of
    rate: float


def bugs(folder: Path = FOLDER) -> list[Bug]:
    """All of the gallery, by part and name. Raises GalleryError."""
    return sorted((read_bug(path) for path in folder.glob("*.py")), key=lambda bug: (bug.part, bug.name))


def read_bug(path: Path) -> Bug:
    """What a file says of its bug; it is not executed. Raises GalleryError."""
    text = ast.get_docstring(ast.parse(path.read_text(), str(path))) or ""
    title, *_, facts = text.split("\n\n")
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


def prove(
    only: Sequence[str],
    settings: Callable[[str], Settings],
    run: Callable[[Batch], bool],
) -> int:
    """Run the bugs of the parts in `only` and print, for each test, the share of trials that failed.

    `settings` says how for a part, and `run` runs a batch (true when that was stopped). Returns 1 when a bug was caught
    less often than its file says, or not with that message.
    """
    missed = 0
    for part in only:
        of_part = [bug for bug in bugs() if bug.part == part]
        with tempfile.TemporaryDirectory(prefix="labgrade-gallery-") as out:
            submissions = {bug.name: Submission(bug.name, bug.path) for bug in of_part}
            batch = Batch(list(submissions.values()), settings(part), Path(out))
            batch.prepare()
            if run(batch):
                return 130
        tests = batch.test_names()
        width = max(len(bug.name) for bug in of_part)
        print(f"\n{part}: of {batch.settings.trials} trials, how many % failed, by test")
        for number, test in enumerate(tests, 1):
            print(f"  {number:2}  {test}")
        print(" " * width + "".join(f"{number:>5}" for number in range(1, len(tests) + 1)))
        for bug in of_part:
            records = submissions[bug.name].records
            print(
                bug.name.ljust(width)
                + "".join(f"{_rate(records, test):5.0%}" for test in tests)
                + _verdict(bug, records)
            )
            missed += _is_missed(bug, records)
    print(f"\n{missed} bugs were caught less often than they should be" if missed else "\nall as the gallery says")
    return 1 if missed else 0


def _rate(records: Mapping[str, Record], test: str, message: str = "") -> float:
    """The share of a test's trials that failed, with a message that begins like that."""
    of_test = [record for nodeid, record in records.items() if test_of(nodeid) == test]
    failed = [r for r in of_test if r["outcome"] != "passed" and message in re.sub(r"\d+", "N", r["message"])]
    return len(failed) / len(of_test) if of_test else 0.0


def _is_missed(bug: Bug, records: Mapping[str, Record]) -> bool:
    return bool(bug.caught_by) and _rate(records, *bug.caught_by[0]) < bug.rate


def _verdict(bug: Bug, records: Mapping[str, Record]) -> str:
    if not bug.caught_by:
        return "  not seen by the lab's checks"
    test, message = bug.caught_by[0]
    if _is_missed(bug, records):
        return f"  MISSED: {bug.rate:.0%} of {test} should say: {message}"
    return f"  {message}"
