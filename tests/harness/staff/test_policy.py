"""The policy of a grading: every key, what it refuses, what it is worth, and how students are told."""

from __future__ import annotations

import fcntl
import re
import shutil
from pathlib import Path

import pytest

from labgrade import policy
from labgrade.__main__ import main
from labgrade.policy import Grading, GradingError, in_words, read
from labrun.record import Record
from labrun.scoring import Scoring
from sandboxed import needs_sandbox
from test_grading_goes_on import BAD, GOOD, Class
from test_labgrade import grades_of


def written(folder: Path, text: str) -> Path:
    file = folder / "policy.toml"
    file.write_text(f"[tool.labgrade]\n{text}\n")
    return file


def test_its_docstring_shows_every_key_and_is_a_policy(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("")
    example = (policy.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    (tmp_path / "policy.toml").write_text(example)
    grading = read(tmp_path / "policy.toml")
    assert (grading.parts, grading.points, grading.late_penalty) == ("2A or 2B", {"TestReElection2A": 20}, 0.2)
    assert grading.tests == [str(tmp_path / "test_mine.py")]
    shown = {line.split("=")[0].strip() for line in example.splitlines()[1:]}
    assert shown == set(policy.OF_FILE) - {"seed"}


def test_the_command_line_wins(tmp_path: Path) -> None:
    grading = read(written(tmp_path, "trials = 50\nconfirm = 2"), trials=7, confirm=None)
    assert (grading.trials, grading.confirm) == (7, 2)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("trails = 5", "has no trails: is it trials?"),
        ("colour = 5", "has no colour; it may have parts, trials, confirm"),
        ("trusted = true", "has no trusted"),
        ('trials = "many"', "trials is a whole number, not 'many'"),
        ("trials = 0", "trials is at least 1, not 0"),
        ("confirm = -1", "confirm is not negative, not -1"),
        ("late_penalty = 20", "late_penalty is from 0 to 1, not 20"),
        ('mode = "fast"', "mode is 'real' or 'sim' or 'race', not 'fast'"),
        ('points = {TestX2A = "all"}', "points is a table, such as {TestX2A = 20}, not {'TestX2A': 'all'}"),
        ("points = {TestX2A = -1}", "points is not negative, not {'TestX2A': -1"),
        ('tests = "test_mine.py"', "tests is a list of file names, not 'test_mine.py'"),
        ('tests = ["nowhere.py"]', "nowhere.py is no file test_*.py"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(GradingError, match=re.escape(complaint)):
        read(written(tmp_path, line))


def test_students_are_told_how_they_are_graded() -> None:
    grading = Grading(mode="race", trials=50, warning_cost=0.1, late_penalty=0.2, points={"TestReElection2A": 20})
    said = in_words(grading, ["TestInitialElection2A", "TestReElection2A"])
    for part in (
        "runs 50 times in virtual time with the race detector (`--race`); if all of these pass, then 3 times with each",
        "has its points when all of its trials pass, and none when one fails.",
        "or a thread that outlives Kill) loses 10% of its points.",
        "late loses 20% of its points.",
        "120 s of processor time, and a process 1024 MB",
        "| TestInitialElection2A | 10 |\n| TestReElection2A | 20 |",
    ):
        assert part in said


def records(*passed: bool, warnings: tuple[str, ...] = ()) -> list[Record]:
    return [
        Record(
            nodeid="",
            test="TestX2A",
            trial=k,
            seed=k,
            mode="virtual",
            outcome="passed" if p else "failed",
            warnings=warnings,
        )
        for k, p in enumerate(passed)
    ]


@pytest.mark.parametrize(
    ("scoring", "trials", "isolated", "share"),
    [
        (Scoring(2, 1), records(True, True), records(True), 1),
        (Scoring(2, 1), records(True, False), records(True), 0),
        (Scoring(2, 1), records(True, True), records(False), 0),
        (Scoring(2, 1), records(True, True), [], 0),
        (Scoring(2, 0), records(True, True), [], 1),
        (Scoring(4, 0, "share"), records(True, True, True, False), [], 0.75),
        (Scoring(4, 2, "share"), records(True, True, True, False), records(True, False), 0.5),
        (Scoring(4, 0, "share"), records(True), [], 0.25),
        (Scoring(4, 2, "share", not_run="leave out"), records(True), records(True), 1),
        (Scoring(4, 2, not_run="leave out"), records(True), records(True), 1),
        (Scoring(4, 2, not_run="leave out"), records(True, False), records(True), 0),
        (Scoring(4, 2, not_run="leave out"), records(True), [], 0),
        (Scoring(1, 1, warning_cost=0.3), records(True, warnings=("leak",)), records(True), 0.7),
        (Scoring(1, 1, warning_cost=0.3), records(False, warnings=("leak",)), [], 0),
    ],
)
def test_what_records_are_worth(scoring: Scoring, trials: list[Record], isolated: list[Record], share: float) -> None:
    assert scoring.share(trials, isolated) == pytest.approx(share)


@needs_sandbox
def test_a_late_submission_loses_its_share_and_status_says_how_far_a_grading_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    course = Class(tmp_path)
    course.hand_in("ann.py", GOOD)
    course.hand_in("bob.py", BAD)
    (course.folder / "own").mkdir()
    file = written(course.folder / "own", 'mode = "sim"\ntrials = 2\nconfirm = 0\nlate_penalty = 0.2')
    grade = [
        "grade",
        f"{course.folder}/ann.py",
        f"{course.folder}/bob.py",
        "--out",
        str(course.out),
        "--policy",
        str(file),
    ]
    assert main([*grade, "--seed", "3", "--late", "ann"]) == 0
    ann = grades_of(course.out)["ann"]
    assert (ann["score"], ann["penalty"], ann["late"]) == (24, 6, True)
    assert main([*grade, "--late", "nobody"]) == 2
    assert "--late nobody: the submissions are ann, bob" in capsys.readouterr().err
    assert main(["explain", str(course.out), "ann"]) == 0
    assert "ann: 24 of 30 points\nmode sim, seeds from 3 on\nlate: 6 points are lost" in capsys.readouterr().out
    assert main(["status", str(course.out)]) == 0
    assert "12 of 12 trials, 6 passed, 6 failed; 2 of 2 submissions are done" in capsys.readouterr().out
    shutil.rmtree(course.out / "bob/runs")
    with (course.out / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["status", str(course.out)]) == 0
    said = capsys.readouterr().out
    assert "3 isolated" not in said
    assert "running\n6 of 12 trials, 6 passed, 0 failed; 1 of 2 submissions are done" in said
    assert "bob            0/6       0" in said
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "is there a grading in" in capsys.readouterr().err
