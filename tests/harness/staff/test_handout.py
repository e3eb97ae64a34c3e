"""The student's tree: complete, without solutions, and failing as the lab should."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from labgrade.__main__ import main
from labgrade.handout import Handout, HandoutError, students_readme


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handout") / "lab"
    Handout().make(folder)
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
    """Those that depend on what is there; the others, which are collected, are the same code on the same code."""
    assert "error" not in run(tree, "tests/harness", "-q", "--collect-only").splitlines()[-1]
    files = (f"tests/harness/test_{name}.py" for name in ("config", "integrity", "start_up"))
    output = run(tree, *files, "-q", "-x")
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
        Handout().make(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "labgrade", "handout", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("labgrade: ")


def test_a_handout_for_one_part_names_nothing_of_later_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_mine.py").write_text("# mine\n")
    (tmp_path / "policy.toml").write_text(
        '[tool.labgrade]\nmode = "sim"\nconfirm = 2\npoints = {TestReElection2A = 25}\n'
    )
    tree = tmp_path / "tree"
    how = ["--part", "2B", "--with", str(tmp_path / "test_mine.py"), "--without-harness-tests"]
    assert main(["handout", str(tree), *how]) == 0
    said = capsys.readouterr().out
    assert f"in {tree}: the students' tree, with the tests of parts 2A to 2B, tests/test_mine.py, without those" in said
    assert f"students write {tree}/raft/raft.py, which fails until then. Try it there: pytest -m 2A --sim" in said
    assert sorted(path.name for path in (tree / "tests").iterdir()) == ["test_2a.py", "test_2b.py", "test_mine.py"]
    readme = (tree / "README.md").read_text()
    assert "`pytest -m 2B`" in readme
    for word in (
        "pytest -m 2C",
        "pytest -m 2D",
        "| 2C",
        "| 2D",
        "TestFigure8",
        "tests/harness",
        "<!--",
        "How you are graded",
    ):
        assert word not in readme, word
    assert main(["handout", str(tmp_path / "told"), "--policy", str(tmp_path / "policy.toml")]) == 0
    told = (tmp_path / "told/README.md").read_text()
    assert "## How you are graded\n\nEach test of part 2A runs 20 times in virtual time" in told
    assert "| TestReElection2A | 25 |" in told


def test_an_update_brings_a_tree_to_this_lab_and_touches_nothing_of_the_students(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tree, mine)
    manifest = json.loads((mine / ".lab.json").read_text())
    old = {"labrpc/__init__.py": "older\n", "labrpc/gone.py": "gone\n", "README.md": "older\n"}
    for name, text in old.items():  # as an older lab had handed them out
        (mine / name).write_text(text)
        manifest["files"][name] = hashlib.sha256(text.encode()).hexdigest()
    (mine / ".lab.json").write_text(json.dumps({**manifest, "lab": "1.0.0+0123456789ab"}))
    theirs = {"raft/raft.py": "my Raft\n", "raft/util.py": "mine\n", "notes.txt": "mine\n", "README.md": "my notes\n"}
    for name, text in theirs.items():
        (mine / name).write_text(text)
    assert main(["handout", str(mine), "--update"]) == 0
    said = capsys.readouterr().out
    assert f"{mine}: from lab 1.0.0+0123456789ab to 1." in said
    assert "brought up to date: labrpc/__init__.py\n" in said
    assert "removed: labrpc/gone.py\n" in said
    assert "left as they are, with the newer one in: README.md.new\n" in said
    assert {name: (mine / name).read_text() for name in theirs} == theirs
    assert not (mine / "labrpc/gone.py").exists()
    for name in ("labrpc/__init__.py", ".lab.json"):
        assert (mine / name).read_text() == (tree / name).read_text()
    assert (mine / "README.md.new").read_text() == (tree / "README.md").read_text()
    assert main(["handout", str(tmp_path), "--update"]) == 2
    assert "--update wants a folder that was made by handout" in capsys.readouterr().err
