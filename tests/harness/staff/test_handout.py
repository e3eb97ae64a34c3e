"""The student's tree: complete, without solutions, and failing as the lab should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from labgrade.handout import HandoutError, handout, students_readme


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handout") / "lab"
    handout(folder)
    return folder


def run(tree: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=tree, env={"PYTHONPATH": str(tree), "PATH": os.environ["PATH"]}, capture_output=True, text=True
    ).stdout


def test_it_holds_the_skeleton_and_no_solution(tree: Path) -> None:
    assert (tree / "raft/raft.py").read_text() == (REPOSITORY / "raft/skeleton.py").read_text()
    names = {str(path.relative_to(tree)) for path in tree.rglob("*")}
    assert not {"raft/skeleton.py", "tests/harness/broken", "tests/harness/staff/styles", ".git", ".ci"} & names
    for path in tree.rglob("*.py"):
        assert "becomeLeader" not in path.read_text(), path


def test_part_2a_runs_and_fails_as_the_lab_should(tree: Path) -> None:
    output = run(tree, "-m", "2A", "--sim")
    assert "3 failed" in output
    assert output.count("LabFailure: expected one leader, got none") >= 3


@pytest.mark.timeout(400)
def test_its_own_tests_pass(tree: Path) -> None:
    """Those that depend on what is there; the rest of labsim's and of isolated's, which take long, is the same code."""
    output = run(tree, "tests/harness", "-q", "-x", "-k", "not labsim and not isolated")
    assert "failed" not in output
    assert "passed" in output.splitlines()[-1]


def test_its_readme_is_the_students(tree: Path) -> None:
    readme = (tree / "README.md").read_text()
    for word in ("<!--", "myraft", "skeleton", "For graders", "For instructors", "python -m labgrade", "handout"):
        assert word not in readme
    for chapter in (
        "## For students",
        "### The API",
        "## Virtual time",
        "## Data races",
        "## Differences from Go's lab",
    ):
        assert chapter in readme
    assert "Write your Raft into `raft/raft.py`" in readme


def test_what_is_between_marks_goes_and_comes() -> None:
    text = "a\n<!-- staff -->\nb --raft myraft.py\n<!-- /staff -->\n<!-- handout\nc\n-->\npytest --raft myraft.py\n"
    assert students_readme(text) == "a\nc\npytest\n"


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(HandoutError, match="exists already: name a new folder"):
        handout(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "labgrade", "handout", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("labgrade: ")
