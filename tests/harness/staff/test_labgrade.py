"""`python -m labgrade`: a class with hostile submissions, stopped and started again."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from labgrade.__main__ import main
from sandboxed import needs_sandbox, trouble

STYLES = REPOSITORY / "tests/harness/staff/styles"

pytestmark = needs_sandbox

SITTING = """
class Raft:
    def GetState(self):
        return 0, False

    def Start(self, command):
        return -1, 0, False

    def Kill(self):
        pass
"""

HOSTILE = {  # source, and what its grade says
    "exits": (
        "import os, threading, time\n"
        "def Make(*a):\n    threading.Timer(1, os._exit, [0]).start()\n    return Raft()\n" + SITTING,
        "the solution called os._exit(0), which would end the whole run",
    ),
    "aborts": (
        "import os\ndef Make(*a):\n    os.abort()\n",
        "the submission's process was ended by signal 6 (SIGABRT)",
    ),
    "exits_at_import": (
        "import sys\nsys.exit(0)\ndef Make(*a):\n    pass\n",
        "cannot load the solution exits_at_import.py: SystemExit at import",
    ),
    "no_python": ("def Make(:\n", "no_python.py is no Python that this version runs, line 1: invalid syntax"),
    "floods": (
        "import threading, time\n"
        "def flood():\n    while True:\n        print('x' * 1_000_000)\n        time.sleep(1)\n"
        "def Make(*a):\n    threading.Thread(target=flood, daemon=True).start()\n    return Raft()\n" + SITTING,
        "expected one leader, got none",
    ),
    "thousands_of_threads": (
        "import threading, time\n"
        "def Make(peers, me, persister, applyCh):\n"
        "    for _ in range(0 if me else 2000):\n        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
        "    return Raft()\n" + SITTING,
        "expected one leader, got none",
    ),
    "spins": (
        "import threading\n"
        "def spin():\n    while True:\n        pass\n"
        "def Make(*a):\n    threading.Thread(target=spin, daemon=True).start()\n    return Raft()\n" + SITTING,
        "Spin: Thread-1 (spin) has run for 3 s of real time at spins.py:",
    ),
    "computes_for_ever": ("def Make(*a):\n    sum(range(10**13))\n", "the submission's process made no progress for"),
    "starts_processes": (
        "import sys\n"
        "def Make(*a):\n"
        "    try:\n        sys.modules['posix'].fork()\n    except BaseException:\n        pass\n"
        "    return Raft()\n" + SITTING,
        "expected one leader, got none | took more than 956 MB of memory",  # they double with each server
    ),
    "changes_the_harness": (
        "from raft.config import Config\n"
        "Config.checkOneLeader = Config.checkTerms = lambda self: 1\n"
        "def Make(*a):\n    return Raft()\n" + SITTING,
        "the solution changed raft.config.Config.checkOneLeader, raft.config.Config.checkTerms",
    ),
    "deletes": (
        "import os\ndef Make(*a):\n    os.remove(__file__)\n    os.remove('/etc/hostname')\n",
        "OSError: [Errno 30] Read-only file system",
    ),
    "writes_elsewhere": (
        "def Make(*a):\n    open('/tmp/labgrade-was-here', 'w')\n    return Raft()\n" + SITTING,
        "expected one leader, got none",
    ),
    "eats_memory": (
        "def Make(*a):\n    eaten = []\n    while True:\n        eaten.append(b'x' * 10_000_000)\n",
        "MemoryError: the limit is 700 MB",
    ),
    "prints_a_summary": (
        "def Make(*a):\n    print('3 passed in 0.01s')\n    raise SystemExit(0)\n",
        "SystemExit: 0",
    ),
    "uses_the_shipped_raft": (
        "from raft.raft import Make\n",
        "the submission used the shipped Raft: it imports raft.raft",
    ),
    "forges_results": (
        "import glob, sys\n"
        "report = [a for a in sys.argv if a.startswith('--report=')][0].partition('=')[2]\n"
        "def Make(*a):\n    open(report + '/results.json', 'w').write('{}')\n    return Raft()\n" + SITTING,
        "expected one leader, got none",
    ),
}


def test_a_class_is_graded_however_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two good students beside many bad ones. In one test, as it is one grading that takes a minute."""
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice/raft.py").write_text((STYLES / "ticker.py").read_text())
    (tmp_path / "bob.py").write_text((STYLES / "pool.py").read_text())
    for name, (source, _) in HOSTILE.items():
        (tmp_path / f"{name}.py").write_text(source)
    submissions = sorted(map(str, tmp_path.iterdir()))
    out = tmp_path / "out"
    how = [
        "--sim",
        "--trials",
        "2",
        "--seed",
        "7",
        "--give-up",
        "1",
        "--memory",
        "700",
        "--timeout",
        "8",
        "-n",
        "2",
        "--confirm",
        "0",
    ]
    assert main(["grade", *submissions, "--out", str(out), *how]) == 0
    good_submissions_have_all_points(out)
    for name in HOSTILE:
        a_hostile_submission_is_contained(out, name)
    the_table_is_for_spreadsheets(out)
    each_submission_has_results_for_gradescope(out)
    what_costs_too_much_is_given_up(out)


def grades_of(out: Path) -> dict[str, Any]:
    return {grade["name"]: grade for grade in json.loads((out / "grades.json").read_text())["submissions"]}


def good_submissions_have_all_points(out: Path) -> None:
    for name in ("alice", "bob"):
        grade = grades_of(out)[name]
        assert (grade["score"], grade["max_score"]) == (30, 30)
        assert [(test["passed"], test["trials"]) for test in grade["tests"]] == [(2, 2)] * 3


def a_hostile_submission_is_contained(out: Path, name: str) -> None:
    grade = grades_of(out)[name]
    assert grade["score"] == 0, name
    assert [(test["passed"], test["trials"]) for test in grade["tests"]] == [(0, 2)] * 3, name
    messages = [failure["message"] for test in grade["tests"] for failure in test["failures"]]
    told = HOSTILE[name][1].split(" | ")
    assert any(text in message for message in messages for text in told), f"{name}: {messages}"
    assert not Path("/tmp/labgrade-was-here").exists()


def the_table_is_for_spreadsheets(out: Path) -> None:
    rows = {row["submission"]: row for row in csv.DictReader((out / "grades.csv").open(encoding="utf-8-sig"))}
    assert len(rows) == len(HOSTILE) + 2
    assert rows["alice"]["score"] == rows["alice"]["max_score"] == "30"
    assert (rows["alice"]["TestReElection2A passed"], rows["alice"]["TestReElection2A trials"]) == ("2", "2")
    assert (rows["spins"]["TestReElection2A passed"], rows["spins"]["TestReElection2A trials"]) == ("0", "2")
    assert rows["spins"]["first failure"].startswith("Spin: ")


def each_submission_has_results_for_gradescope(out: Path) -> None:
    found = json.loads((out / "alice/results.json").read_text())
    assert found["score"] == 30
    names = [test["name"] for test in found["tests"]]
    assert names == ["TestInitialElection2A", "TestReElection2A", "TestManyElections2A"]
    for test in found["tests"]:
        assert (test["score"], test["max_score"], test["status"], test["visibility"]) == (10, 10, "passed", "visible")
    bad = json.loads((out / "floods/results.json").read_text())["tests"][0]
    assert (bad["score"], bad["status"]) == (0, "failed")
    assert "expected one leader, got none" in bad["output"]
    assert "repeat with: pytest -m 2A -k TestInitialElection2A --raft floods.py --sim --paper --seed 7" in bad["output"]
    (log,) = (out / "floods/logs").glob("TestInitialElection2A-*.log")
    assert "characters left out" in log.read_text()


def what_costs_too_much_is_given_up(out: Path) -> None:
    for test in grades_of(out)["spins"]["tests"]:
        messages = [failure["message"] for failure in test["failures"]]
        assert messages[1].startswith("not run: 1 trials in a row had ended with: Spin: ")


# -- beginning again -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_class(tmp_path: Path) -> list[str]:
    (tmp_path / "carol.py").write_text((STYLES / "events.py").read_text())
    (tmp_path / "dave.py").write_text(HOSTILE["aborts"][0])
    return [str(tmp_path / "carol.py"), str(tmp_path / "dave.py")]


def test_a_grading_that_was_killed_goes_on_to_the_same_end(tmp_path: Path, small_class: list[str]) -> None:
    how = ["--sim", "--trials", "30", "--seed", "3", "--confirm", "0", "-n", "2"]
    command = [sys.executable, "-m", "labgrade", "grade", *small_class, *how, "--out", str(tmp_path / "killed")]
    grading = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "killed").glob("carol/runs/*/box/report/results.json"))) == 0:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(grading.pid, signal.SIGKILL)
    grading.wait()
    time.sleep(0.5)
    assert not (tmp_path / "killed/grades.csv").exists()
    assert main(["grade", *small_class, *how[:-2], "-n", "1", "--out", str(tmp_path / "killed")]) == 0
    assert main(["grade", *small_class, *how, "--out", str(tmp_path / "undisturbed")]) == 0
    for name in ("grades.csv", "carol/results.json", "dave/results.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "undisturbed" / name).read_text()
    before = list((tmp_path / "killed").glob("*/runs/*"))
    assert main(["grade", *small_class, *how, "--out", str(tmp_path / "killed")]) == 0
    assert list((tmp_path / "killed").glob("*/runs/*")) == before  # there was nothing left to run


def test_a_score_does_not_depend_on_the_neighbours(tmp_path: Path, small_class: list[str]) -> None:
    how = ["--sim", "--trials", "3", "--seed", "3", "--confirm", "0"]
    assert main(["grade", *small_class, *how, "-n", "2", "--out", str(tmp_path / "together")]) == 0
    assert main(["grade", small_class[0], *how, "-n", "1", "--out", str(tmp_path / "alone")]) == 0
    together, alone = (
        [json.loads(line) for line in file.open()]
        for out in ("together", "alone")
        for file in (tmp_path / out).glob("carol/runs/0001/box/report/records.jsonl")
    )
    assert len(alone) == 9
    for record in together + alone:
        del record["elapsed"]
    assert together == alone


def test_another_grading_is_not_mixed_in(
    tmp_path: Path, small_class: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    how = [small_class[1], "--sim", "--trials", "1", "--confirm", "0", "--out", str(tmp_path / "out")]
    assert main(["grade", *how, "--seed", "3"]) == 0
    assert main(["grade", *how, "--seed", "4"]) == 2
    assert "has the results of another grading (seed was 3, not 4)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["carol.py", "--out", "out", "-m", "3A"], "-m '3A' selects no tests"),
        (["carol.py", "--out", "out", "--points", "TestX=3"], "there is no test TestX among TestInitialElection2A"),
        (["carol.py", "--out", "."], "is not empty, and holds no grading"),
    ],
)
def test_mistakes_end_in_one_clear_message(
    small_class: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["grade", *arguments, "--sim"]) == 2
    assert complaint in capsys.readouterr().err


def test_points_and_the_rule_are_the_courses(tmp_path: Path) -> None:
    (tmp_path / "erin.py").write_text(
        (STYLES / "ticker.py").read_text().replace("def GetState(self):", "def GetState(self):\n        lucky()")
        + "\nimport random\n\ndef lucky():\n    if random.random() < 0.01:\n        raise ValueError('bad luck')\n"
    )
    scores = {}
    for rule in ("all", "share"):
        how = [
            "--sim",
            "--trials",
            "8",
            "--seed",
            "1",
            "--confirm",
            "0",
            "--rule",
            rule,
            "--points",
            "TestReElection2A=50",
        ]
        assert main(["grade", str(tmp_path / "erin.py"), *how, "--out", str(tmp_path / rule)]) == 0
        scores[rule] = grades_of(tmp_path / rule)["erin"]
    assert scores["all"]["max_score"] == scores["share"]["max_score"] == 70
    for strict, share in zip(scores["all"]["tests"], scores["share"]["tests"], strict=True):
        assert strict["passed"] == share["passed"]
        assert strict["score"] == (strict["max_score"] if strict["passed"] == 8 else 0)
        assert share["score"] == round(share["max_score"] * share["passed"] / 8, 2)
    assert scores["all"]["score"] < scores["share"]["score"]


@pytest.mark.skipif(bool(trouble("user")), reason=trouble("user"))
def test_a_class_is_graded_with_users_of_their_own_too(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text((STYLES / "ticker.py").read_text())
    (tmp_path / "sits.py").write_text("def Make(*a):\n    return Raft()\n" + SITTING)
    tmp_path.chmod(0o755)
    command = ["grade", *map(str, tmp_path.glob("*.py")), "--out", str(tmp_path / "out"), "--sandbox", "user"]
    main([*command, "--sim", "--trials", "2", "--confirm", "1", "--points", "TestManyElections2A=0"])
    assert {name: grade["score"] for name, grade in grades_of(tmp_path / "out").items()} == {"good": 20, "sits": 0}
