"""Makes the tree that students get: the lab, without its solutions and without what is only for the staff.

`raft/raft.py` is the skeleton there, so `pytest -m 2A` runs what the student writes, and fails until it works. Left out
are the shipped Raft; the folders of working and broken Rafts, with the tests of the harness that need one (STUDENTS has
the other ones); and the commands of the staff.

README.md becomes the student's: what stands between `<!-- staff -->` and `<!-- /staff -->` goes, what stands in a
comment that begins with `handout` comes to light, and commands name no solution, as there is just one.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from labgrade import HOME

__all__ = ["HandoutError", "handout"]

STUDENTS = (  # patterns, from the top of the repository
    ".gitignore",
    "conftest.py",
    "pyproject.toml",
    "*/py.typed",
    "labgob/*.py",
    "labrpc/*.py",
    "labsim/*.py",
    "labgrade/__init__.py",
    "labgrade/integrity.py",
    "labgrade/plugin.py",
    "labgrade/report.py",
    "labgrade/simulation.py",
    "labgrade/solution.py",
    "labgrade/summary.py",
    "raft/__init__.py",
    "raft/api.py",
    "raft/config.py",
    "raft/persister.py",
    "tests/test_2?.py",
    "tests/harness/conftest.py",
    "tests/harness/test_config.py",
    "tests/harness/test_labgob.py",
    "tests/harness/test_labrpc.py",
    "tests/harness/test_labsim_*.py",
)


class HandoutError(Exception):
    """There can be no handout: one message that says why, and what to do."""


def handout(destination: Path) -> None:
    """Write the student's tree. Raises HandoutError if there is something already, or it cannot be written."""
    try:
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise HandoutError(f"{destination} exists already: name a new folder for the handout, or remove it")
        for pattern in STUDENTS:
            for file in sorted(HOME.glob(pattern)):
                _copy(file, destination / file.relative_to(HOME))
        _copy(HOME / "raft" / "skeleton.py", destination / "raft" / "raft.py")
        (destination / "README.md").write_text(students_readme((HOME / "README.md").read_text()))
    except OSError as e:
        raise HandoutError(f"the handout cannot be written: {e}") from None


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def students_readme(text: str) -> str:
    """README.md as it is in the handout."""
    text = re.sub(r"<!-- staff -->\n.*?<!-- /staff -->\n", "", text, flags=re.DOTALL)
    text = re.sub(r"<!-- handout\n(.*?)-->\n", r"\1", text, flags=re.DOTALL)
    return text.replace(" --raft myraft.py", "").replace("myraft.py", "raft/raft.py")
