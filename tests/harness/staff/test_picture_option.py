"""`--picture` and the pictures of a report, as people get them: which trials have one, where, and what opens it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY, Lab
from labrun.record import from_line

BROKEN = REPOSITORY / "tests/harness/staff/broken/needs_all_votes.py"
FAILS = ("-m", "2A", "-k", "Initial or ReElect", "--seed", "1", "--raft", BROKEN)  # the second of the two
PASSES = ("-m", "2A", "-k", "Initial or ReElect", "--seed", "1")


NOBODY_LEADS = """
class Raft:
    def GetState(self):
        return 0, False
    def Start(self, command):
        return -1, 0, False
    def Kill(self):
        pass

def Make(peers, me, persister, applyCh):
    return Raft()
"""


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the person's browser is: a program that notes what it was asked to open. The file of its notes."""
    notes, program = tmp_path / "opened", tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >>{notes}\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program))
    return notes


@pytest.mark.parametrize("how", [["--sim"], ["--sim", "-n", "2"]], ids=" ".join)
def test_the_picture_of_the_test_that_failed_is_opened_and_its_path_is_told(
    lab: Lab, browser: Path, how: list[str]
) -> None:
    result = lab.run(*FAILS, *how, "--picture")
    (opened,) = browser.read_text().splitlines()
    picture = Path(opened.removeprefix("file://"))
    assert picture.name == "TestReElection2A-seed1.html"
    assert "Content-Security-Policy" in picture.read_text()
    result.stdout.fnmatch_lines(["*- picture -*", str(picture), "*- repeat with -*", f"picture: {picture}"])


def test_where_nothing_fails_that_of_the_first_test_is_opened(lab: Lab, browser: Path) -> None:
    result = lab.run(*PASSES, "--sim", "--picture", "-p", "no:cacheprovider")
    (opened,) = browser.read_text().splitlines()
    assert opened.endswith("/TestInitialElection2A-seed1.html")
    assert Path(opened.removeprefix("file://")).parent.glob("*ReElection*")
    assert result.ret == 0


def test_without_a_display_it_says_where_the_picture_is(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    lab.run(*PASSES, "--sim", "--picture").stdout.fnmatch_lines(
        ["picture: */TestInitialElection2A-seed1.html (there is no browser here*"]
    )


def test_a_test_that_made_no_servers_has_none(lab: Lab, browser: Path) -> None:
    lab.run(
        "-m", "2A", "-k", "Initial", "--raft", lab.solution("raise ImportError('no')"), "--picture"
    ).stdout.fnmatch_lines(["no picture: *"])
    assert not browser.exists()


@pytest.mark.parametrize("how", [["--sim"], ["--isolate"]], ids=" ".join)
def test_a_report_has_the_pictures_of_failures_and_records_name_them(lab: Lab, how: list[str]) -> None:
    result = lab.run(*FAILS, *how, "--report", "out")
    records = {
        record.test: record
        for record in map(from_line, (lab.pytester.path / "out/records.jsonl").read_bytes().splitlines())
    }
    assert records["TestInitialElection2A"].picture is None
    assert records["TestReElection2A"].picture == "pictures/TestReElection2A-seed1.html"
    picture = lab.pytester.path / "out/pictures/TestReElection2A-seed1.html"
    assert picture.exists()
    result.stdout.fnmatch_lines([str(picture)])


def test_of_many_failures_of_a_kind_the_first_have_a_picture(lab: Lab) -> None:
    lab.run(*FAILS, "--sim", "--trials", "5", "--report", "out")
    assert len(list((lab.pytester.path / "out/pictures").iterdir())) == 3


def test_a_picture_that_cannot_be_written_is_told_and_nothing_else_is_lost(lab: Lab) -> None:
    (lab.pytester.path / "out").mkdir()
    (lab.pytester.path / "out/pictures").write_text("in the way")
    result = lab.run(*FAILS, "--sim", "--report", "out")
    result.stdout.fnmatch_lines(["*- no picture -*", "it cannot be written: *"])
    assert len((lab.pytester.path / "out/records.jsonl").read_bytes().splitlines()) == 2


def test_a_grading_keeps_a_picture_of_each_kind_of_failure_and_links_to_it(lab: Lab) -> None:
    raft = lab.solution(NOBODY_LEADS, "alice.py")
    args = ("grade", raft, "--out", "grades", "-m", "2A", "--sim", "--trials", 2, "--confirm", 0, "--sandbox", "none")
    lab.pytester.run(sys.executable, "-m", "labgrade", *map(str, args), timeout=100)
    folder = lab.pytester.path / "grades/alice"
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert [name.partition("-")[0] for name in names] == [
        "TestInitialElection2A",
        "TestManyElections2A",
        "TestReElection2A",
    ]
    feedback = (folder / "feedback.html").read_text()
    assert all(f'href="pictures/{name}"' in feedback for name in names)
    assert "Content-Security-Policy" in (folder / "pictures" / names[0]).read_text()
