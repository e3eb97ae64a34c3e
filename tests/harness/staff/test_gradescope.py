"""The autograder's zip in a folder tree as Gradescope's specification has it, without network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from labgrade.__main__ import main
from labgrade.autograder import MEMORY, SECONDS
from test_grading_goes_on import GOOD
from test_labgrade import SITTING

BROKEN = "def Make(*a):\n    return Raft()\n" + SITTING.replace("return 0, False", "return 0, True")  # all of them lead
HANGS = (
    "def Make(peers, me, persister, applyCh):\n    if len(peers) == 7:\n        sum(range(10**13))\n    return Raft()\n"
    + SITTING
)
HOSTILE = """
import glob, json, os, signal

def Make(peers, me, persister, applyCh):
    root = os.environ.get("AUTOGRADER_ROOT", ROOT)
    forged = json.dumps({"score": 1000})
    for file in [f"{root}/results/results.json", *glob.glob("/tmp/labgrade-*/*/results.json")]:
        try:
            open(file, "w").write(forged)
        except OSError:
            pass
    for process in range(2, 40000):
        try:
            os.kill(process, signal.SIGKILL)
        except OSError:
            pass
    return Raft()
"""


class Gradescope:
    """What it does with an autograder: /autograder is `root`."""

    def __init__(self, root: Path, autograder: Path) -> None:
        self.root = root
        for name in ("source", "submission", "results"):
            (root / name).mkdir(parents=True)
        with zipfile.ZipFile(autograder) as whole:
            whole.extractall(root / "source")
            modes = {info.filename: info.external_attr >> 16 for info in whole.infolist()}
        assert {"setup.sh", "run_autograder"} <= modes.keys()
        assert modes["run_autograder"] & 0o111
        shutil.copyfile(root / "source/run_autograder", root / "run_autograder")
        (root / "run_autograder").chmod(0o755)
        self.run("bash", "source/setup.sh", timeout=300)

    def run(self, *command: str, timeout: float, **environment: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "COV"))}
        environment = {**kept, "AUTOGRADER_ROOT": str(self.root), **environment}
        with (self.root / "results/stdout").open("w+") as stdout:
            options: dict[str, Any] = {"stdout": stdout, "stderr": subprocess.STDOUT, "timeout": timeout}
            done = subprocess.run(command, cwd=self.root, env=environment, check=False, **options)
            stdout.seek(0)
            said = stdout.read()
        assert done.returncode == 0, said
        return said

    def grade(self, source: str, seconds: int, late: bool = False) -> dict[str, Any]:
        shutil.rmtree(self.root / "submission")
        (self.root / "submission").mkdir()
        (self.root / "submission/raft.py").write_text(source)
        metadata = {
            "id": 123456,
            "created_at": "2018-07-01T14:22:32.365935-07:00",
            "assignment": {
                "due_date": "2018-07-01T14:00:00.000000-07:00" if late else "2018-07-31T23:00:00.000000-07:00"
            },
            "users": [{"email": "student@example.com", "id": 1234, "name": "Student User"}],
        }
        (self.root / "submission_metadata.json").write_text(json.dumps(metadata))
        command = ["./run_autograder"]
        if shutil.which("unshare") and os.geteuid() == 0:
            command = ["unshare", "--net", *command]
        self.run(*command, timeout=seconds, AUTOGRADER_SECONDS=str(seconds))
        return dict(json.loads((self.root / "results/results.json").read_text()))


@pytest.fixture(scope="module")
def gradescope(tmp_path_factory: pytest.TempPathFactory) -> Gradescope:
    folder = tmp_path_factory.mktemp("gradescope")
    for path in (folder, *folder.parents):  # whoever runs a submission may be another user
        if path.owner() == "root" and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o001)
    (folder / "policy.toml").write_text(
        '[tool.labgrade]\nmode = "sim"\ntrials = 3\nconfirm = 1\nlate_penalty = 0.5\npoints = {TestReElection2A = 25}\n'
    )
    assert main(["gradescope", str(folder / "autograder.zip"), "--policy", str(folder / "policy.toml")]) == 0
    return Gradescope(folder / "autograder", folder / "autograder.zip")


def by_name(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {test["name"]: test for test in results["tests"]}


@pytest.mark.timeout(400)
def test_a_good_submission_has_its_points_and_a_late_one_half_of_them(gradescope: Gradescope) -> None:
    results = gradescope.grade(GOOD, seconds=120, late=True)
    assert (results["score"], results["stdout_visibility"], results["visibility"]) == (22.5, "hidden", "visible")
    assert "late: 22.5 points are lost" in results["output"]
    assert 0 < results["execution_time"] <= 120
    assert results["extra_data"]["lab"].startswith("1.")
    scores = {name: (t["score"], t["max_score"], t["status"]) for name, t in by_name(results).items()}
    assert scores == {
        "TestInitialElection2A": (10, 10, "passed"),
        "TestReElection2A": (25, 25, "passed"),
        "TestManyElections2A": (10, 10, "passed"),
    }
    for test in results["tests"]:
        assert "isolated" not in test["output"]
        assert "with each server in a process of its own, 1 of 1" in test["output"]
        assert test["output_format"] == "text"


@pytest.mark.timeout(300)
def test_a_broken_submission_is_told_why(gradescope: Gradescope) -> None:
    results = gradescope.grade(BROKEN, seconds=120)
    assert results["score"] == 0
    test = by_name(results)["TestReElection2A"]
    assert (test["score"], test["status"], test["tags"]) == (0, "failed", ["lab"])
    assert "term 0 has 3 (>1) leaders" in test["output"]
    assert "repeat with: pytest -m 2A -k TestReElection2A" in test["output"]


@pytest.mark.timeout(300)
def test_a_submission_that_hangs_ends_in_time_with_the_results_of_its_other_tests(gradescope: Gradescope) -> None:
    seconds = 60
    results = gradescope.grade(HANGS, seconds)
    assert results["score"] == 0
    assert results["execution_time"] < seconds
    tests = by_name(results)
    assert "expected one leader, got none" in tests["TestReElection2A"]["output"]
    hangs = tests["TestManyElections2A"]
    assert "made no progress for" in hangs["output"] or hangs["tags"] == ["not_run"]  # on a busy machine


@pytest.mark.timeout(300)
def test_a_hostile_submission_reaches_neither_its_results_nor_the_grader(gradescope: Gradescope) -> None:
    results = gradescope.grade(f"ROOT = {str(gradescope.root)!r}\n{HOSTILE}{SITTING}", seconds=90)
    assert results["score"] == 0
    assert {test["status"] for test in results["tests"]} == {"failed"}


def test_the_defaults_are_gradescopes() -> None:
    assert (SECONDS, MEMORY) == (600, 768)
