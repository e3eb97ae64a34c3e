"""--hunt: stories that break a solution, made short, and told as a lab test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from conftest import REPOSITORY, Lab
from labgrade.__main__ import main
from labrun import solution
from labrun.hunt import search
from labrun.hunt.drawing import KINDS, draw
from labrun.hunt.running import How, run
from labrun.hunt.search import Hunt
from labrun.hunt.shortening import shorter
from labrun.hunt.stories import COMMANDS, Step, Story
from labrun.settings import PARTS, Amount

BROKEN = REPOSITORY / "tests/harness/staff/broken"


def how(part: str, file: Path = REPOSITORY / "raft/raft.py") -> How:
    return How(solution.find(str(file), REPOSITORY), part)


def hunted(lab: Lab, *args: object) -> tuple[pytest.RunResult, dict[str, Any]]:
    """The result, and the record of the hunt."""
    command = [sys.executable, "-m", "pytest", *map(str, args), "--report", "out"]
    result = lab.pytester.run(*command, timeout=100)
    (line, *_) = (lab.pytester.path / "out/records.jsonl").read_text().splitlines()
    return result, json.loads(line)


# --- what it finds, and how it says it ---


def test_what_the_lab_never_sees_is_found_and_its_story_fails_in_a_file_of_its_own(lab: Lab) -> None:
    bug = BROKEN / "forgets_its_vote_in_a_crash.py"
    _, record = hunted(lab, "-m", "2C", "--hunt", "2000x", "--raft", bug, "--seed", 2)
    assert (record["outcome"], record["cause"]) == ("failed", "paper")
    empty = lab.pytester.mkdir("empty")
    (empty / "test_story.py").write_text(record["story"])
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "test_story.py", "--raft", bug, "--report", "out"],
        cwd=empty,
        capture_output=True,
        text=True,
    )
    pasted = json.loads((empty / "out/records.jsonl").read_text())
    assert again.returncode == pytest.ExitCode.TESTS_FAILED
    assert (pasted["cause"], pasted["message"]) == ("paper", record["message"])


def test_a_failure_shows_the_story_and_the_command_and_is_tried_first_the_next_time(lab: Lab) -> None:
    raft = lab.solution((BROKEN / "half_the_votes_are_enough.py").read_text(), "my.py")
    common = ("-m", "2A", "--hunt", "500x", "--raft", "my.py", "--seed", "1")
    result, record = hunted(lab, *common)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"Hunt \(2A\): leader election \.\.\.",
            r"  \d+ stories in \d+\.\d s, \d+ a second; \d+\.\d s of processor time; \d+ states",
            r"--- FAIL: TestHunt2A \(\d+\.\d\ds\)",
            r"in story \d+, after \d+\.\d s of processor time; made shorter from \d+ steps to \d+, in \d+ runs",
            r".*the story; in a file test_story.py it fails with: pytest test_story.py --raft my.py",
            r'@getattr\(pytest.mark, "2A"\)',
            r"@pytest.mark.hunt\(seed=\d+\)",
            r"def TestHunt2A\(make_config\):",
            r"    with make_config\(\d\) as cfg:",
            r".*the test so far",
            r".*repeat with",
            r"pytest -m 2A --hunt \d+x --raft my.py --seed 1",
        ],
        consecutive=False,
    )
    assert record["story"].count("cfg.") <= 12

    raft.write_text(raft.read_text() + "\n")
    (lab.pytester.path / "out/results.json").unlink()
    second = lab.pytester.run(sys.executable, "-m", "pytest", *common[:-1], "2")
    second.stdout.fnmatch_lines(["  the story that failed in the last hunt fails again", "  0 stories in *"])

    raft.write_text((REPOSITORY / "raft/raft.py").read_text())
    mended = lab.pytester.run(sys.executable, "-m", "pytest", "-m", "2A", "--hunt", "3x", "--raft", "my.py")
    mended.assert_outcomes(passed=1)
    mended.stdout.fnmatch_lines(["  the story that failed in the last hunt passes now", "  3 stories in *"])


def test_each_worker_hunts_with_a_seed_of_its_own(lab: Lab) -> None:
    result = lab.pytester.run(
        sys.executable, "-m", "pytest", "-m", "2A", "--hunt", "2x", "--seed", "5", "-n", "2", "--report", "out"
    )
    result.assert_outcomes(passed=2)
    lines = map(json.loads, (lab.pytester.path / "out/records.jsonl").read_text().splitlines())
    assert sorted((line["test"], line["trial"], line["seed"]) for line in lines) == [
        ("TestHunt2A", 0, 5),
        ("TestHunt2A", 1, 6),
    ]


def test_a_race_is_found_and_its_story_fails_by_itself(lab: Lab) -> None:
    lab.variant("    def GetState(self):\n        return self.currentTerm, self.role is Role.LEADER\n")
    _, record = hunted(lab, "-m", "2A", "--hunt", "100x", "--race", "--raft", "raft.py", "--seed", 1)
    assert record["cause"] == "race"
    assert ", race=0.02)" in record["story"]
    empty = lab.pytester.mkdir("empty")
    (empty / "test_story.py").write_text(record["story"])
    again = lab.pytester.run(sys.executable, "-m", "pytest", "empty/test_story.py", "--raft", "raft.py")
    again.assert_outcomes(failed=1)
    assert record["message"] in again.stdout.str()


def test_what_cannot_be_loaded_is_said_at_once(lab: Lab) -> None:
    lab.solution("import nothing_like_this\n")
    result, record = hunted(lab, "-m", "2A", "--hunt", "--raft", "raft.py")
    assert record["cause"] == "import"
    result.stdout.fnmatch_lines(["  0 stories in *", "*No module named 'nothing_like_this'*"])


def test_the_story_of_a_hunt_is_refused_where_it_could_not_fail(lab: Lab) -> None:
    story = "import pytest\n\n@pytest.mark.hunt(seed={})\ndef TestHunt2A(make_config):\n    make_config(3)\n"
    for seed, option, message in (
        ("7", "--isolate", "a story that a hunt has found fails in virtual time with its seed: leave out --isolate"),
        ("'7'", "--sim", "@pytest.mark.hunt takes seed=7, and perhaps race=0.02 or schedule=*"),
    ):
        lab.run_quick(option, source=story.format(seed)).stdout.fnmatch_lines([f"*{message}"])


# --- for graders ---


@pytest.mark.timeout(400)
def test_a_grading_hunts_what_passes_and_only_a_policy_that_says_so_takes_points_for_it(tmp_path: Path) -> None:
    right = (REPOSITORY / "tests/harness/staff/styles/ticker.py").read_text()
    votes_twice = right.replace("self.votedFor, reply.VoteGranted = args.CandidateId, True", "reply.VoteGranted = True")
    assert votes_twice != right
    (tmp_path / "votes_twice.py").write_text(votes_twice)
    policy, out = tmp_path / "policy.toml", tmp_path / "out"
    grading = ["--policy", str(policy), "--sim", "--trials", "1", "--confirm", "0", "--seed", "1", "--sandbox", "none"]
    for cost, score in ((0.1, 27.0), (0.0, 30.0)):
        policy.write_text(f"[tool.labgrade]\nhunt = 150\nhunt_cost = {cost}\n")
        assert main(["grade", str(tmp_path / "votes_twice.py"), "--out", str(out), *grading]) == 0
        (grade,) = json.loads((out / "grades.json").read_text())["submissions"]
        (found,) = grade["hunted"]
        assert (grade["score"], found["part"], found["cause"], found["cost"]) == (score, "2A", "paper", 30 * cost)
        assert [line for line in grade["look"] if line.startswith("2A: a hunt found: server ")]
    assert "def TestHunt2A(make_config):" in found["story"]
    assert found["story"].splitlines()[-1] in (out / "votes_twice/feedback.txt").read_text()


# --- the same again ---


def test_the_same_seed_gives_the_same_stories_and_the_same_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_RUNS", 20)
    first, second = (Hunt(how("2A", BROKEN / "forgets_vote.py"), 3, Amount(stories=500)) for _ in range(2))
    found, again = first.run(), second.run()
    assert found is not None
    assert again is not None
    assert found.outcome == again.outcome
    assert (first.stories, found.runs, first.states) == (second.stories, again.runs, second.states)


# --- what a right Raft survives ---


@pytest.mark.parametrize("part", PARTS)
def test_a_right_raft_survives_what_is_drawn(part: str) -> None:
    hunt = Hunt(how(part), 1, Amount(stories=20))
    assert hunt.run() is None
    assert hunt.stories == 20


WAITS = """
import _plain
from _plain import make

class Raft(_plain.Raft):
    asked = 0  # how many Calls of its last election are under way

    def startElection(self):
        if not self.asked:
            self.asked = len(self.peers) - 1
            super().startElection()

    def askForVote(self, peer, args):
        super().askForVote(peer, args)
        with self.mu:
            self.asked -= 1

def Make(*args):
    return make(Raft, *args)
"""


def test_a_right_raft_survives_when_its_calls_hang(tmp_path: Path) -> None:
    """One that starts no election before all Calls of the last one have ended may need the 7 s that a Call can take."""
    (tmp_path / "_plain.py").write_text((BROKEN / "_plain.py").read_text())
    (tmp_path / "raft.py").write_text(WAITS)
    story = Story("2A", 3, (Step("cut"), Step("cut"), Step("cut", pause=1000)))  # so that all are candidates
    outcomes = [run(how("2A", tmp_path / "raft.py"), story, seed) for seed in range(20)]
    assert {outcome.kind for outcome in outcomes} == {None}
    assert any(outcome.patient for outcome in outcomes), "none of them needed the time"


@pytest.mark.parametrize("part", PARTS)
def test_stories_keep_to_what_their_part_allows(part: str) -> None:
    drawn = [draw(Random(seed), part) for seed in range(300)]
    kinds = {step.kind for story in drawn for step in story.steps}
    assert kinds == set(KINDS[part])
    assert ("crash" in kinds, "burst" in kinds) == (part in ("2C", "2D"), part != "2A")
    assert {story.servers for story in drawn} == {3, 5, 7}
    assert max(len(story.steps) for story in drawn) <= 81


def test_commands_are_unique_and_few() -> None:
    story = Story("2B", 3, (Step("wait", pause=1000), *[Step("burst_everywhere", much=4)] * 20))
    lines = [line for line in run(how("2B"), story, 1).lines if "Start" in line]
    ranges = [line.partition("range(")[2].partition(")")[0].split(", ") for line in lines if "range(" in line]
    commands = [x for first, end in ranges for x in range(int(first), int(end))]
    commands += [int(line.partition("Start(")[2][:3]) for line in lines if "range(" not in line]
    assert len(commands) == len(set(commands)) <= COMMANDS["2B"]


def test_shorter_stories_are_shorter() -> None:
    story = draw(Random(4), "2C")
    tried = list(shorter(story))
    assert Story("2C", story.servers, ()) in tried
    assert story not in tried
    assert len(tried) == len(set(tried))
    assert all(len(other.steps) <= len(story.steps) and other.servers <= story.servers for other in tried)
