"""Makes the tree that students get: whole folders of the lab, without solutions and without what is for staff only.

`raft/raft.py` is the skeleton there, so `pytest -m 2A` runs what the student writes, and fails until it works. Left out
are the shipped Raft, `labgrade`, and `tests/harness/staff` (the gallery, right solutions, what only staff run).

README.md becomes the student's: what stands between `<!-- staff -->` and `<!-- /staff -->` goes, what stands in a
comment that begins with `handout` comes to light, and commands name no solution, as there is just one.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from labgrade.places import HARNESS_TESTS, TOP
from labrun import HOME, TESTS

__all__ = ["HandoutError", "handout"]

FOLDERS = ("labgob", "labrpc", "labsim", "labwatch", "labrun", "raft")
TOP_FILES = (".gitignore", "conftest.py", "pyproject.toml")
NOT_STUDENTS = ("__pycache__", "*.pyc", "staff", "lab")  # `lab`: a wheel's copy of the tests


class HandoutError(Exception):
    """There can be no handout: one message that says why, and what to do."""


def handout(destination: Path) -> None:
    """Write the student's tree. Raises HandoutError if there is something already, or it cannot be written."""
    ignore = shutil.ignore_patterns(*NOT_STUDENTS)
    try:
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise HandoutError(f"{destination} exists already: name a new folder for the handout, or remove it")
        for name in FOLDERS:
            shutil.copytree(HOME / name, destination / name, ignore=ignore, dirs_exist_ok=True)
        (destination / "raft" / "skeleton.py").replace(destination / "raft" / "raft.py")
        (destination / "tests").mkdir()
        for file in TESTS.glob("test_*.py"):
            shutil.copyfile(file, destination / "tests" / file.name)
        shutil.copytree(HARNESS_TESTS, destination / "tests" / "harness", ignore=ignore)
        for name in TOP_FILES:
            shutil.copyfile(TOP / name, destination / name)
        readme = (TOP / "README.md").read_text(encoding="utf-8")
        (destination / "README.md").write_text(students_readme(readme), encoding="utf-8")
        project = destination / "pyproject.toml"
        project.write_text(students_project(project.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as e:
        raise HandoutError(f"the handout cannot be written: {e}") from None


def students_readme(text: str) -> str:
    """README.md as it is in the handout."""
    text = re.sub(r"<!-- staff -->\n.*?<!-- /staff -->\n", "", text, flags=re.DOTALL)
    text = re.sub(r"<!-- handout\n(.*?)-->\n", r"\1", text, flags=re.DOTALL)
    return text.replace(" --raft myraft.py", "").replace("myraft.py", "raft/raft.py")


def students_project(text: str) -> str:
    """pyproject.toml as it is in the handout: without the packages of staff, which stand between marks, too."""
    return re.sub(r"# staff\n.*?# /staff\n", "", text, flags=re.DOTALL)
