"""The journal of a trial, in the three ways of running: kept from the start, or by a repetition of what has failed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from labrun import solution
from labrun.isolated.run import IsolatedRun
from labrun.real import RealTrial
from labrun.virtual import VirtualTrial
from labwatch import Journal
from labwatch.journal import KINDS, as_json
from raft.config import Config

BROKEN = REPOSITORY / "tests/harness/staff/broken"
RAFT = REPOSITORY / "raft/raft.py"


def of(file: Path) -> solution.Solution:
    return solution.find(str(file), Path())


def virtual(raft: Path, test: str = "TestReElection2A", **how: Any) -> VirtualTrial:
    file = REPOSITORY / f"tests/test_{test[-2:].lower()}.py"
    return VirtualTrial(of(raft), file, test, 1, lambda line: None, **how)


def lines(journal: Journal | None) -> list[dict[str, Any]]:
    assert journal is not None
    return list(map(as_json, journal.events))


def elects(make_config: Callable[..., Config]) -> None:
    with make_config(3) as cfg:
        cfg.begin("Test (2A): somebody leads")
        cfg.checkOneLeader()
        cfg.end()


@pytest.mark.parametrize(
    "trial",
    [
        RealTrial,
        pytest.param(IsolatedRun, marks=pytest.mark.skipif(os.name != "posix", reason="POSIX processes")),
    ],
    ids=["real threads", "isolated"],
)
def test_in_real_time_it_is_always_kept(trial: type[RealTrial] | type[IsolatedRun]) -> None:
    running = trial(of(RAFT), "TestElects2A", 1, lambda line: None)
    assert running.journal is None
    running.run(elects)
    assert running.journal is not None
    assert not running.journal.dropped
    kinds = {KINDS[type(event)] for event in running.journal.events}
    assert {
        "begin",
        "start",
        "connect",
        "sent",
        "began",
        "delivered",
        "saved",
        "asked",
        "said",
        "noted",
        "end",
    } <= kinds
    times = [event.time for event in running.journal.events]
    assert times == sorted(times)


def test_in_virtual_time_nobody_is_told_of_anything_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Journal] = []
    monkeypatch.setattr("labrun.virtual.Journal", lambda *args: made.append(Journal(*args)) or made[-1])
    trial = virtual(RAFT, "TestInitialElection2A")
    trial.run()
    assert (trial.journal, made) == (None, [])
    trial = virtual(RAFT, "TestInitialElection2A", journal=True)
    trial.run()
    assert lines(trial.journal)


@pytest.mark.parametrize("paper", [False, True])
def test_a_failing_virtual_trial_is_repeated_with_it_and_it_is_that_of_the_same_run(paper: bool) -> None:
    raft = BROKEN / "half_the_votes_are_enough.py"
    first, kept = virtual(raft, paper=paper), virtual(raft, journal=True)
    with pytest.raises(Exception, match="claims to be leader") as failed:
        first.run()
    with pytest.raises(Exception, match="claims to be leader"):
        kept.run()
    assert first.journal is None
    assert first.repeat_with_journal(failed.value) == ""
    assert lines(first.journal) == lines(kept.journal)


def test_a_repetition_that_goes_otherwise_gives_no_journal_and_says_so(tmp_path: Path) -> None:
    """Here the solution counts how often it was loaded; one that does not can only show a defect of the harness."""
    raft = tmp_path / "raft.py"
    raft.write_text(
        f"import os\nfrom raft.raft import Make\nn = len(os.listdir({str(tmp_path)!r}))\n"
        f"open({str(tmp_path)!r} + f'/{{n}}', 'w')\n"
        "def Make(*args, make=Make):\n    raise ValueError(f'time {n}')\n"
    )
    trial = virtual(raft)
    with pytest.raises(Exception, match="time 1") as failed:
        trial.run()
    difference = trial.repeat_with_journal(failed.value)
    assert difference.startswith("the first run ended with died: ValueError: time 1, after ")
    assert ", the second with died: ValueError: time 2, after " in difference
    assert trial.journal is None
