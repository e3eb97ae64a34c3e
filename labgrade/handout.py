"""Makes the tree that students get: whole folders of the lab, without solutions and without what is for staff only.

`raft/raft.py` is the skeleton there, so `pytest -m 2A` runs what the student writes, and fails until it works. Left out
are the shipped Raft, `labgrade`, and `tests/harness/staff` (the gallery, right solutions, what only staff run).

README.md becomes the student's: what stands between `<!-- staff -->` and `<!-- /staff -->` goes, what stands in a
comment that begins with `handout` comes to light, commands name no solution, as there is just one, and a policy's "how
you are graded" comes in. With a part, the lab's later parts are left out, and what stands between `<!-- part 2C -->`
and `<!-- /part -->` with them.

`.lab.json` names the lab's version, and each of its files with a digest. So `update` knows what is whose: a file that
is still as it was handed out is brought to the newer lab, or removed where that has it no more. Whatever a student has
added or changed stays, and the newer one of a changed file comes beside it as `NAME.new`; `raft/raft.py` is theirs.

`grader` makes the tree of an autograder: the same, and `labgrade`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labgrade.places import HARNESS_TESTS, TOP
from labgrade.policy import Grading, in_words
from labrun import HOME, TESTS
from labrun.settings import PARTS
from labrun.version import lab_version

__all__ = ["Handout", "HandoutError", "grader", "students_readme"]

FOLDERS = ("labgob", "labrpc", "labsim", "labwatch", "labrun", "raft")
TOP_FILES = (".gitignore", "conftest.py", "pyproject.toml")
NOT_STUDENTS = ("__pycache__", "*.pyc", "staff", "lab")  # `lab`: a wheel's copy of the tests
MANIFEST = ".lab.json"
THEIRS = "raft/raft.py"


class HandoutError(Exception):
    """There can be no handout: one message that says why, and what to do."""


@dataclass(frozen=True)
class Handout:
    """What students are to get."""

    part: str = "2D"  # the last one
    tests: Sequence[Path] = ()  # lab tests of the course's own
    harness: bool = True  # with the harness's own tests
    grading: Grading | None = None  # that they are told of
    names: Sequence[str] = ()  # of the tests that it grades

    def make(self, destination: Path) -> list[str]:
        """Write a new tree: what it holds, in words. Raises HandoutError if there is something already."""
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise HandoutError(
                f"{destination} exists already: name a new folder, or say --update to bring it up to date"
            )
        try:
            self._write(destination)
        except OSError as e:
            raise HandoutError(f"the handout cannot be written: {e}") from None
        parts = "part 2A" if self.part == "2A" else f"parts 2A to {self.part}"
        own = "".join(f", tests/{test.name}" for test in self.tests)
        harness = "" if self.harness else ", without those of the harness"
        return [
            f"in {destination}: the students' tree, with the tests of {parts}{own}{harness}",
            f"students write {destination / THEIRS}, which fails until then. Try it there: pytest -m 2A --sim",
        ]

    def update(self, destination: Path) -> list[str]:
        """Bring a tree that was handed out to this lab: what was done. Raises HandoutError."""
        try:
            known = dict(json.loads((destination / MANIFEST).read_text()))
            before = dict(known["files"])
            with tempfile.TemporaryDirectory(prefix="labgrade-") as scratch:
                self._write(Path(scratch) / "lab")
                return _merged(Path(scratch) / "lab", destination, before, str(known["lab"]))
        except OSError as e:
            raise HandoutError(
                f"{e.filename}: {e.strerror}: --update wants a folder that was made by handout"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise HandoutError(
                f"{destination / MANIFEST} is damaged: make a new handout, and copy raft/raft.py"
            ) from None

    def _write(self, to: Path) -> None:
        _write_lab(to, self.harness)
        (to / "raft" / "skeleton.py").replace(to / THEIRS)
        parts = list(PARTS)[: list(PARTS).index(self.part) + 1]
        (to / "tests").mkdir(exist_ok=True)
        for file in TESTS.glob("test_*.py"):
            if not re.fullmatch(r"test_2[abcd]\.py", file.name) or file.stem.removeprefix("test_").upper() in parts:
                shutil.copyfile(file, to / "tests" / file.name)
        for test in self.tests:
            shutil.copyfile(test, to / "tests" / test.name)
        graded = in_words(self.grading, self.names) if self.grading else ""
        readme = students_readme((TOP / "README.md").read_text(encoding="utf-8"), parts, graded, self.harness)
        (to / "README.md").write_text(readme, encoding="utf-8")
        project = to / "pyproject.toml"
        project.write_text(without_marked(project.read_text(encoding="utf-8"), "grader", "staff"), encoding="utf-8")
        files = {str(p.relative_to(to)): _digest(p) for p in sorted(to.rglob("*")) if p.is_file()}
        files.pop(THEIRS)
        (to / MANIFEST).write_text(json.dumps({"lab": lab_version(), "files": files}, indent=1))


def grader(to: Path) -> None:
    """Write the tree of an autograder, which is installed with pip. Raises OSError."""
    _write_lab(to, harness=False)
    (to / "raft" / "raft.py").unlink(missing_ok=True)
    shutil.copytree(HOME / "labgrade", to / "labgrade", ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "tree"))
    (to / "tests").mkdir()
    for file in TESTS.glob("test_*.py"):
        shutil.copyfile(file, to / "tests" / file.name)
    shutil.copyfile(TOP / "README.md", to / "README.md")
    project = to / "pyproject.toml"
    project.write_text(without_marked(project.read_text(encoding="utf-8"), "staff"), encoding="utf-8")


def _write_lab(to: Path, harness: bool) -> None:
    ignore = shutil.ignore_patterns(*NOT_STUDENTS)
    for name in FOLDERS:
        shutil.copytree(HOME / name, to / name, ignore=ignore)
    if harness:
        shutil.copytree(HARNESS_TESTS, to / "tests" / "harness", ignore=ignore)
    for name in TOP_FILES:
        shutil.copyfile(TOP / name, to / name)


def _merged(new: Path, old: Path, before: dict[str, str], version: str) -> list[str]:
    """Put the files of `new` into `old`, as the module says."""
    files = [str(path.relative_to(new)) for path in sorted(new.rglob("*")) if path.is_file()]
    done: dict[str, list[str]] = {
        "brought up to date": [],
        "removed": [],
        "left as they are, with the newer one in": [],
    }
    for name in files:
        target = old / name
        now = _digest(target) if target.is_file() else None
        if name == THEIRS or now == _digest(new / name):
            continue
        if name == MANIFEST or now is None or now == before.get(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new / name, target)
            done["brought up to date"].append(name)
        else:
            shutil.copyfile(new / name, target.with_name(f"{target.name}.new"))
            done["left as they are, with the newer one in"].append(f"{name}.new")
    for name in before.keys() - set(files):
        if (old / name).is_file() and _digest(old / name) == before[name]:
            (old / name).unlink()
            done["removed"].append(name)
    lines = [f"{old}: from lab {version} to {lab_version()}"]
    changed = {what: [name for name in names if name != MANIFEST] for what, names in done.items()}
    return lines + [f"{what}: {', '.join(sorted(names))}" for what, names in changed.items() if names]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def students_readme(text: str, parts: Iterable[str] = PARTS, graded: str = "", harness: bool = True) -> str:
    """README.md as it is in the handout."""
    text = re.sub(r"<!-- staff -->\n.*?<!-- /staff -->\n", "", text, flags=re.DOTALL)
    text = re.sub(r"<!-- handout\n(.*?)-->\n", r"\1", text, flags=re.DOTALL)
    for part in set(PARTS) - set(parts):  # its rows, what it prints, and what is marked
        text = re.sub(rf"^\| {part} \|.*\n|^`pytest -m {part}`:\n\n```\n[^`]*```\n\n", "", text, flags=re.MULTILINE)
        text = re.sub(rf"<!-- part {part} -->\n.*?<!-- /part -->\n", "", text, flags=re.DOTALL)
    text = re.sub(r"<!-- /?part( 2[A-D])? -->\n", "", text)
    text = re.sub(r"<!-- harness -->\n(.*?)<!-- /harness -->\n", r"\1" if harness else "", text, flags=re.DOTALL)
    graded = f"## How you are graded\n\n{graded}\n\n" if graded else ""
    text = text.replace("<!-- graded -->\n", graded)
    return text.replace(" --raft myraft.py", "").replace("myraft.py", "raft/raft.py")


def without_marked(text: str, *marks: str) -> str:
    """pyproject.toml without the lines between `# MARK` and `# /MARK`, such as the packages of staff."""
    for mark in marks:
        text = re.sub(rf"# {mark}\n.*?# /{mark}\n", "", text, flags=re.DOTALL)
    return text
