"""A grading goes on: with late and changed submissions, more trials, after damage; and one submission's trouble is its own."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from labgrade import batch, block, intake
from labgrade.__main__ import main
from labgrade.protocol import Run
from sandboxed import needs_sandbox
from test_labgrade import SITTING, grades_of

STYLES = REPOSITORY / "tests/harness/staff/styles"

pytestmark = needs_sandbox
GOOD = (STYLES / "ticker.py").read_text()
BAD = "def Make(*a):\n    return Raft()\n" + SITTING
HOW = ["--sim", "--trials", "2", "--seed", "3", "--confirm", "0", "-n", "2"]


class Class:
    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder / "in", folder / "out"
        self.folder.mkdir()

    def hand_in(self, name: str, source: str) -> str:
        (self.folder / name).write_text(source)
        return str(self.folder / name)

    def grade(self, *arguments: str, how: list[str] = HOW) -> int:
        return main(["grade", *arguments, *how, "--out", str(self.out)])

    def runs(self, name: str) -> list[str]:
        return sorted(run.name for run in (self.out / name / "runs").iterdir())

    def passed(self, name: str) -> list[tuple[int, int]]:
        return [(test["passed"], test["trials"]) for test in grades_of(self.out)[name]["tests"]]


@pytest.fixture
def course(tmp_path: Path) -> Class:
    return Class(tmp_path)


def test_late_and_changed_submissions_and_more_trials_run_what_has_no_record(
    course: Class, capsys: pytest.CaptureFixture[str]
) -> None:
    ann, bob = course.hand_in("ann.py", GOOD), course.hand_in("bob.py", BAD)
    assert course.grade(ann, bob) == 0
    assert course.runs("ann") == ["0001"]
    late = course.hand_in("cleo.py", GOOD)
    assert course.grade(late) == 0  # the others keep their results
    assert course.passed("ann") == course.passed("cleo") == [(2, 2)] * 3
    assert course.passed("bob") == [(0, 2)] * 3
    course.hand_in("bob.py", GOOD + "# mended\n")
    capsys.readouterr()
    assert course.grade(ann, bob, late) == 0
    assert f"bob has changed (it); its earlier results are in {course.out}/bob/earlier-1" in capsys.readouterr().out
    assert course.passed("bob") == [(2, 2)] * 3
    assert (course.out / "bob/earlier-1/results.json").exists()
    assert course.runs("ann") == course.runs("cleo") == course.runs("bob") == ["0001"]
    more = ["--sim", "--trials", "3", "--seed", "3", "--confirm", "0"]
    assert course.grade(ann, bob, late, "--only", "ann", how=more) == 0
    assert course.passed("ann") == [(3, 3)] * 3
    assert course.runs("ann") == ["0001", "0002"]
    assert course.runs("bob") == ["0001"]
    second = [json.loads(line) for line in (course.out / "ann/runs/0002/box/report/records.jsonl").open()]
    assert [(r["trial"], r["seed"]) for r in second] == [(2, 5)] * 3


def test_a_submission_keeps_its_name_when_one_of_the_same_name_comes(course: Class) -> None:
    for folder in ("ann", "bob"):
        (course.folder / folder).mkdir()
    ann, bob = course.hand_in("ann/raft.py", GOOD), course.hand_in("bob/raft.py", BAD)
    assert course.grade(ann) == 0
    assert set(grades_of(course.out)) == {"raft"}
    assert course.grade(ann, bob) == 0
    assert set(grades_of(course.out)) == {"raft", "bob-raft"}
    assert course.runs("raft") == ["0001"]


def test_only_names_one_that_is_there(course: Class, capsys: pytest.CaptureFixture[str]) -> None:
    assert course.grade(course.hand_in("ann.py", GOOD), "--only", "nobody") == 2
    assert "--only nobody: the submissions are ann" in capsys.readouterr().err


def test_two_gradings_do_not_share_a_folder(course: Class, capsys: pytest.CaptureFixture[str]) -> None:
    ann = course.hand_in("ann.py", "no Raft")
    assert course.grade(ann) == 0
    with (course.out / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert course.grade(ann) == 2
    assert f"another grading runs in {course.out}: wait for its end" in capsys.readouterr().err
    assert course.grade(ann) == 0


def test_damaged_records_are_run_again_and_a_damaged_grading_says_so(
    course: Class, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = course.hand_in("ann.py", GOOD)
    assert course.grade(ann) == 0
    grades = (course.out / "grades.csv").read_bytes()
    records = course.out / "ann/runs/0001/box/report/records.jsonl"
    whole = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join([*whole[:3], b'{"nodeid": \xff\x00\n', b"[]\n", whole[4], whole[5][:50]]))
    assert course.grade(ann) == 0
    assert (course.out / "grades.csv").read_bytes() == grades
    assert course.runs("ann") == ["0001", "0002"]
    (course.out / "grading.json").write_text("{")
    assert course.grade(ann) == 2
    assert "grading.json is damaged: give another --out" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_costs_nobody_anything(
    course: Class, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    ann = course.hand_in("ann.py", GOOD)

    def full(self: Run, *args: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "prepare", full)
        assert course.grade(ann) == 2
    assert (
        f"somewhere: {os.strerror(number)}. Nothing is lost: mend that, and the same command" in capsys.readouterr().err
    )
    assert course.grade(ann) == 0
    assert course.passed("ann") == [(2, 2)] * 3


def test_trouble_at_any_stage_is_one_submissions_own(course: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = [course.hand_in(f"{name}.py", GOOD) for name in ("ann", "bob")]
    take = intake.take

    def take_but_bob(submission: intake.Submission, to: Path) -> intake.Submission:
        if submission.name == "bob":
            raise ValueError("odd \udcff thing")
        return take(submission, to)

    with monkeypatch.context() as patch:
        patch.setattr(block.intake, "take", take_but_bob)
        assert course.grade(*everybody) == 0
    assert course.passed("ann") == [(2, 2)] * 3
    bob = grades_of(course.out)["bob"]
    assert (bob["score"], bob["reason"]) == (0, "it could not be graded: ValueError: odd \\udcff thing")
    assert "take_but_bob" in (course.out / "bob/trouble.log").read_text()
    assert json.loads((course.out / "bob/results.json").read_text())["output"] == bob["reason"]
    assert course.grade(*everybody) == 0  # it is tried again
    assert grades_of(course.out)["bob"]["score"] == 30


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("myraft.py", GOOD)


def handout(path: Path) -> None:
    (path / "raft").mkdir(parents=True)
    (path / "labrpc").mkdir()
    (path / "labrpc/__init__.py").write_text("raise SystemExit\n")
    (path / "raft/raft.py").write_text(GOOD)


def linked(path: Path) -> None:
    path.mkdir()
    (path / "raft.py").symlink_to("/nowhere/raft.py")


def with_fifo(path: Path) -> None:
    path.mkdir()
    (path / "raft.py").write_text(GOOD)
    os.mkfifo(path / "pipe")


def upward(path: Path) -> None:
    with tarfile.open(path, "w") as whole:
        whole.add(STYLES / "ticker.py", "../raft.py")


def source(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def with_seven(what: str) -> Callable[[Path], object]:
    """It sits there, and in the test that has seven servers does something else."""
    return source(
        f"import ctypes, os\ndef Make(peers, me, persister, applyCh):\n    if len(peers) == 7:\n        {what}\n"
        "    return Raft()\n" + SITTING
    )


ODD: dict[str, tuple[Callable[[Path], object], float, str]] = {  # how it is made, its score, and the reason of a zero
    "zip.zip": (zipped, 30, ""),
    "handout": (handout, 30, ""),
    "queue.py": (source(GOOD), 30, ""),
    "fifo": (with_fifo, 30, ""),
    "dangling": (linked, 0, "holds no Python file"),
    "upward.tar": (upward, 0, "which leads out of it"),
    "essay.txt": (source("My Raft is good."), 0, "neither a Python file nor a folder"),
    "surrogate.py": (source("def Make(*a):\n    raise ValueError('odd \\udcff')\n"), 0, "ValueError: odd \\udcff"),
    "=cmd|calc.py": (source("def Make(*a):\n    raise ValueError('=1+1')\n"), 0, "=1+1"),
    "formula.py": (source("class E(Exception):\n    cause = 'lab'\ndef Make(*a):\n    raise E('=1+1')\n"), 0, "=1+1"),
    "long.py": (source("def Make(*a):\n    raise ValueError('x' * 10_000_000)\n"), 0, "xxxx ..."),
    "sleeper.py": (with_seven("ctypes.CDLL(None).sleep(1000)"), 0, "made no progress for 20 s of real time"),
    "forks.py": (
        source(
            "def Make(*a):\n    import ctypes, sys\n    if not sys.modules['posix'].fork():\n"
            "        ctypes.CDLL(None).sleep(1000)\n    return Raft()\n" + SITTING
        ),
        0,
        "expected one leader, got none",
    ),
    "exits.py": (with_seven("os.kill(os.getpid(), 9)"), 0, "was ended by signal 9 (SIGKILL)"),
    "hangs.py": (with_seven("sum(range(10**13))"), 0, "made no progress for 4 s"),
}


def test_a_class_of_odd_things_is_graded_to_the_end_and_stopped_to_the_same(
    course: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "BACKSTOP", 5)
    for name, (make, _, _) in ODD.items():
        make(course.folder / name)
    everybody = sorted(map(str, course.folder.iterdir()))
    how = ["--sim", "--trials", "1", "--seed", "3", "--confirm", "0", "--timeout", "4", "--give-up", "1", "-n", "2"]

    def stop(self: batch.Batch, engine: batch.Engine, progress: Callable[[], None], *how: Any) -> None:
        def stop_soon() -> None:
            if sum(g.tally["trials"].known() > 0 for g in self.graded) >= 4:
                raise KeyboardInterrupt

        go_on(self, engine, stop_soon, *how)

    go_on = batch.Batch.run
    with monkeypatch.context() as patch:
        patch.setattr(batch.Batch, "run", stop)
        assert course.grade(*everybody, how=how) == 130
    assert not (course.out / "grades.csv").exists()
    assert course.grade(*everybody, how=how) == 0
    grades = grades_of(course.out)
    assert len(grades) == len(ODD)
    names = {Path(grade["path"]).name: grade["name"] for grade in grades.values()}
    rows = {row["submission"]: row for row in csv.DictReader((course.out / "grades.csv").open(encoding="utf-8-sig"))}
    for file, (_, score, reason) in ODD.items():
        grade = grades[names[file]]
        assert grade["score"] == score, file
        failures = [failure["message"] for test in grade["tests"] for failure in test["failures"]]
        told = json.loads((course.out / grade["name"] / "results.json").read_text())
        assert told["score"] == score
        row = rows[grade["name"]]
        assert float(row["score"]) == score
        if reason:
            assert any(reason in message for message in failures), f"{file}: {failures}"
            assert reason in told["output"] + "".join(test["output"] for test in told["tests"]), file
            assert row["first failure"], file
        assert not any(str(cell).startswith(("=", "+", "-", "@")) for cell in row.values()), row
        assert all(len(message) <= 2000 for message in failures)
    assert (course.out / "grades.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    undisturbed = course.out.with_name("undisturbed")
    assert main(["grade", *everybody, *how, "--out", str(undisturbed)]) == 0
    again = grades_of(undisturbed)
    assert {n: g["score"] for n, g in again.items()} == {n: g["score"] for n, g in grades.items()}


def test_explain_says_what_a_student_is_to_be_told(course: Class, capsys: pytest.CaptureFixture[str]) -> None:
    bob, essay = course.hand_in("bob.py", BAD), course.hand_in("essay.txt", "My Raft is good.")
    assert course.grade(bob, essay) == 0
    capsys.readouterr()
    assert main(["explain", str(course.out), "bob"]) == 0
    said = capsys.readouterr().out
    assert "bob: 0 of 30 points\nmode sim, seeds from 3 on\ngraded: bob.py\njudged by lab 1." in said
    (digest,) = re.findall(r"the digest of the submission begins with ([0-9a-f]{12})$", said, re.MULTILINE)
    records = [json.loads(line) for line in (course.out / "bob/runs/0001/box/report/records.jsonl").open()]
    assert all(record["lab"] in said and record["solution"] for record in records)
    assert json.loads((course.out / "bob/submission.json").read_text())["digest"].startswith(digest)
    assert "TestReElection2A: 0 of 10 points\n  0 of 2 trials passed, and all must\n" in said
    assert (
        "expected one leader, got none\n      likely cause: no server ever sent RequestVote in 5.0 s; no line of the "
        "solution calls it\n      with seeds 3, 4\n      repeat with: pytest -m 2A -k TestReElection2A" in said
    )
    assert main(["explain", str(course.out), "bob", "TestReElection2A"]) == 0
    said = capsys.readouterr().out
    assert "----- logs/TestReElection2A-seed3.log\nTestReElection2A, seed 3: expected one leader" in said
    assert "TestManyElections2A" not in said
    assert main(["explain", str(course.out), "essay"]) == 0
    assert "essay.txt is neither a Python file nor a folder" in capsys.readouterr().out
    for arguments, complaint in (
        (["nobody"], "there is no submission nobody in"),
        (["bob", "TestX"], "there is no test TestX among TestInitialElection2A"),
    ):
        assert main(["explain", str(course.out), *arguments]) == 2
        assert complaint in capsys.readouterr().err
