"""What the paper forbids, in a grading: off, a column and something to look at, or a failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labgrade.__main__ import main
from watched import BROKEN

PLAIN = (BROKEN / "_plain.py").read_text() + "\n\ndef Make(*args):\n    return make(Raft, *args)\n"


@pytest.fixture
def submissions(tmp_path: Path) -> list[str]:
    """A right Raft; one that votes twice, which the lab does not see; and one with a name that is not the paper's."""
    votes_twice = PLAIN.replace("self.votedFor in (-1, args.CandidateId) and ", "")
    other_name = PLAIN.replace("CandidateId", "Asker")
    assert len({PLAIN, votes_twice, other_name}) == 3
    for name, source in (("right", PLAIN), ("twice", votes_twice), ("names", other_name)):
        (tmp_path / f"{name}.py").write_text(source)
    return [str(tmp_path / f"{name}.py") for name in ("right", "twice", "names")]


def graded(submissions: list[str], out: Path, *how: str) -> dict[str, Any]:
    command = ["grade", *submissions, "--out", str(out), "--sim", "--trials", "3", "--seed", "1", "--confirm", "0"]
    assert main([*command, "--sandbox", "none", *how]) == 0
    whole = json.loads((out / "grades.json").read_text())
    return {submission["name"]: submission for submission in whole["submissions"]}


def test_by_default_it_is_a_column_and_something_to_look_at(
    submissions: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grades = graded(submissions, tmp_path / "out")
    assert [grade["score"] for grade in grades.values()] == [30.0, 30.0, 30.0]
    assert grades["right"]["look"] == []
    assert "voted for" in grades["twice"]["look"][0]
    assert "RequestVote, rule 2)" in grades["twice"]["look"][0]
    assert any("no field like CandidateId in RequestVoteArgs" in what for what in grades["names"]["look"])
    assert [sum(t["broken"] for t in grades[name]["tests"]) > 0 for name in grades] == [False, False, True]
    lines = capsys.readouterr().out.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("submission"))
    header, names, right, twice = (line.split() for line in lines[begin : begin + 4])
    assert (header[-1], names[-1], right[-1], twice[-1]) == ("paper", "unchecked", "ok", "broken")
    table = (tmp_path / "out/grades.csv").read_text("utf-8-sig").splitlines()
    column = table[0].split(",").index("paper")
    assert [line.split(",")[column].partition(" ")[2] for line in table[1:] if line.startswith("twice")] == ["broken"]


def test_as_a_failure_it_takes_the_tests_points_and_off_it_is_not_looked_for(
    submissions: list[str], tmp_path: Path
) -> None:
    fail = graded(submissions[:2], tmp_path / "fail", "--paper", "fail")
    assert fail["right"]["score"] == 30.0
    assert fail["twice"]["score"] < 30.0
    assert any(f["cause"] == "paper" for t in fail["twice"]["tests"] for f in t["failures"])
    off = graded(submissions[1:2], tmp_path / "off", "--paper", "off")
    assert (off["twice"]["score"], off["twice"]["look"]) == (30.0, [])
    assert "paper" not in (tmp_path / "off/grades.csv").read_text("utf-8-sig").splitlines()[0]
