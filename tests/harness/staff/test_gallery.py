"""The gallery of broken Rafts: each says what it is, and is caught as it says."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import pytest

from conftest import REPOSITORY
from labgrade.__main__ import main
from labgrade.gallery import Bug, GalleryError, _is_missed, bugs
from labrun import solution
from labrun.record import Record, message_of
from labrun.virtual import VirtualTrial

SEEDS = 6
MOST_SEEDS = 40  # for what is seldom seen
GALLERY = bugs()


def test_the_gallery_is_large_enough() -> None:
    assert sum(bug.part == "2A" and bool(bug.caught_by) for bug in GALLERY) >= 16
    assert sum(bug.part != "2A" and bool(bug.caught_by) for bug in GALLERY) >= 12


@pytest.mark.parametrize("bug", GALLERY, ids=lambda bug: bug.name)
def test_every_test_that_is_named_exists(bug: Bug) -> None:
    for test, _ in bug.caught_by:
        assert f"def {test}(" in (REPOSITORY / f"tests/test_{test[-2:].lower()}.py").read_text()
        assert test.endswith(bug.part)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bug", [bug for bug in GALLERY if bug.caught_by], ids=lambda bug: bug.name)
def test_a_broken_raft_is_caught_as_it_says(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """In virtual time, so the same seeds always fail alike."""
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    file = REPOSITORY / f"tests/test_{bug.part.lower()}.py"
    needed = max(1, int(bug.rate * SEEDS))
    caught = 0
    for seed in range(SEEDS if bug.rate >= 0.5 else MOST_SEEDS):
        trial = VirtualTrial(solution.find(str(bug.path), Path()), file, bug.test, seed, lambda line: None)
        try:
            trial.run()
        except BaseException as e:
            caught += bug.is_caught(message_of(e))
        if caught == needed:
            return
    pytest.fail(f"caught {caught} times, not {needed}")


GOOD = '''"""It is broken.

Why it is.

Part: 2B
Caught by: TestBackup2B: apply error
Rate: 40%
"""
'''


@pytest.mark.parametrize("source", ["import raft\n", '"""Only a title."""\n', "def (:\n", "\0"])
def test_a_plain_python_file_among_them_is_named(tmp_path: Path, source: str) -> None:
    (tmp_path / "stray.py").write_text(source)
    with pytest.raises(GalleryError, match=r"stray\.py: (its docstring has no line|it is no Python file)"):
        bugs(tmp_path)


def record(bug: Bug, trial: int, message: str) -> Record:
    nodeid = f"test_2b.py::{bug.test}[trial{trial}]"
    outcome: Literal["passed", "failed"] = "failed" if message else "passed"
    return Record(
        nodeid=nodeid, test=bug.test, trial=trial, seed=trial, mode="virtual", outcome=outcome, message=message
    )


@pytest.mark.parametrize(
    ("caught", "trials", "missed"), [(1, 4, False), (0, 4, False), (10, 60, True), (20, 60, False)]
)
def test_so_few_failures_must_be_improbable_for_a_bug_to_be_missed(caught: int, trials: int, missed: bool) -> None:
    bug = Bug("b", Path(), "", "2B", (("TestBackup2B", "apply error"),), 0.4)
    records = [record(bug, k, "apply error: x" if k < caught else "") for k in range(trials)]
    assert _is_missed(bug, records) is missed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-m", "3A"], "-m '3A' selects none of the parts 2A, 2B, 2C, 2D"),
        (["-m", "2A or ("], "-m '2A or ('"),
        (
            ["-m", "not 2A", "--only", "needs_all_votes"],
            "there is no needs_all_votes in the gallery of part 2B and 2C and 2D",
        ),
    ],
)
def test_the_command_refuses_what_it_cannot_show(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert main(["gallery", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_file_is_read_and_not_executed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(GOOD + "raise SystemExit\n")
    assert bugs(tmp_path) == [
        Bug("broken", tmp_path / "broken.py", "It is broken.", "2B", (("TestBackup2B", "apply error"),), 0.4)
    ]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Part: 2B\n", "", "has no line 'Part: 2A'"),
        ("Part: 2B", "Part: 3A", "has no line 'Part: 2A'"),
        ("Caught by: TestBackup2B: apply error\n", "", "wants 'Caught by: TEST: MESSAGE', or 'Caught by: nothing'"),
        ("Caught by: TestBackup2B: apply error", "Caught by: nothing", "wants 'Rate: N%' if, and only if"),
        ("Rate: 40%", "", "wants 'Rate: N%' if, and only if"),
    ],
)
def test_a_file_that_does_not_say_what_it_should_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    (tmp_path / "broken.py").write_text(GOOD.replace(old, new))
    with pytest.raises(GalleryError, match=complaint) as error:
        bugs(tmp_path)
    assert "broken.py" in str(error.value)
