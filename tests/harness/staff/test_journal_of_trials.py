"""The journal of a trial, in the three ways of running: kept from the start, or by a repetition of what has failed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY, VARIANT, Lab
from labrun import solution
from labrun.isolated.run import IsolatedRun
from labrun.real import RealTrial
from labrun.record import from_line
from labrun.version import digest_of
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
        lambda raft, *rest: RealTrial(raft, REPOSITORY / "tests/test_2a.py", *rest),
        pytest.param(IsolatedRun, marks=pytest.mark.skipif(os.name != "posix", reason="POSIX processes")),
    ],
    ids=["real threads", "isolated"],
)
def test_in_real_time_it_is_always_kept(trial: Callable[..., RealTrial | IsolatedRun]) -> None:
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


TALKS = """
from raft import raft as base
from raft.raft import *

class Raft(base.Raft):
    def RequestVote(self, args, reply):
        print("asked", self.me, end="")
        print(" by", args.CandidateId, "\\nin two lines")
        raise ValueError("unlucky")

def Make(peers, me, persister, applyCh):
    print("made")
    rf = Raft(peers, me, persister, applyCh)
    threading.Thread(target=print, args=["by nobody"]).start()
    rf.boot()
    return rf
"""


@pytest.mark.parametrize("how", [["--sim"], [], ["--isolate"]], ids=["virtual", "real threads", "isolated"])
def test_what_is_printed_stands_there_line_by_line_and_so_do_deaths_and_the_failure(lab: Lab, how: list[str]) -> None:
    lab.solution(TALKS)
    result = lab.run("-m", "2A", "-k", "Initial", "--raft", "raft.py", "--seed", "1", "--report", "out", *how)
    result.assert_outcomes(failed=1)
    header, *events = journal_in(lab, "out/logs/TestInitialElection2A-seed1.jsonl")
    printed = [(event.get("server"), event["text"]) for event in events if event["kind"] == "printed"]
    assert {(i, "made") for i in range(3)} <= set(printed)
    assert ((0 if how == ["--isolate"] else None), "by nobody") in printed
    asked = next(event for event in events if event["kind"] == "began")["server"]
    lines = [text for server, text in printed if server == asked and text not in ("made", "by nobody")]
    assert lines[0].startswith(f"asked {asked} by ")
    assert lines[1] == "in two lines"
    result.stdout.fnmatch_lines(["*in two lines*"])  # it is shown as ever
    died = next(event for event in events if event["kind"] == "died")
    assert (died["server"] in range(3), died["what"]) == (True, "ValueError: unlucky")
    assert died["where"].startswith("in ")
    failed = next(event for event in events if event["kind"] == "failed")
    assert failed["background"]
    assert failed["text"].startswith("thread 'RPC handler Raft.RequestVote' died: ValueError: unlucky: ")
    assert header["message"] == "thread 'RPC handler Raft.RequestVote' died: ValueError: unlucky"


def journal_in(lab: Lab, name: str) -> list[dict[str, Any]]:
    return list(map(json.loads, (lab.pytester.path / name).read_text().splitlines()))


def test_a_report_has_the_journals_of_the_first_failures_of_a_kind(lab: Lab) -> None:
    raft = BROKEN / "half_the_votes_are_enough.py"
    lab.run("-m", "2A", "-k", "ReElect", "--raft", raft, "--sim", "--seed", "1", "--trials", "5", "--report", "out")
    names = [f"logs/TestReElection2A-seed{seed}.jsonl" for seed in range(1, 4)]
    records = list(map(from_line, (lab.pytester.path / "out/records.jsonl").read_bytes().splitlines()))
    assert [record.journal for record in records] == [*names, None, None]
    assert sorted(lab.pytester.path.glob("out/logs/*.jsonl")) == [lab.pytester.path / "out" / name for name in names]
    header, *events = journal_in(lab, f"out/{names[1]}")
    broken, said = header.pop("broken"), events[-1]["n"]
    assert header.pop("causes") == list(records[1].causes)
    assert header == {
        "schema": 1,
        "events": said,
        "dropped": 0,
        "test": "TestReElection2A",
        "seed": 2,
        "mode": "virtual",
        "solution": str(raft),
        "digest": digest_of(raft),
        "cause": "lab",
        "message": header["message"],
        "facts": header["facts"],
        "repeat": records[1].repeat,
        "races": [],
    }
    assert "claims to be leader" in header["message"]
    assert header["facts"].startswith(header["message"])
    first, second = (next(e for e in events if e["n"] == n) for n in broken[0]["events"])
    assert (broken[0]["rule"], first["kind"], second["kind"]) == ("two leaders", "sent", "sent")
    assert broken[0]["t"] == pytest.approx(second["t"], abs=1e-6)
    failed = [event["text"] for event in events if event["kind"] == "failed"]
    assert [text.partition(":")[0] for text in failed] == [header["message"]]


def test_each_failure_of_a_single_run_has_one_and_a_pass_has_none(lab: Lab) -> None:
    lab.run("-m", "2A", "--raft", BROKEN / "half_the_votes_are_enough.py", "--sim", "--seed", "1", "--report", "out")
    records = map(from_line, (lab.pytester.path / "out/records.jsonl").read_bytes().splitlines())
    assert {record.passed: bool(record.journal) for record in records} == {True: False, False: True}


def test_a_race_stands_in_the_header_with_its_time(lab: Lab) -> None:
    lab.variant(
        "    def GetState(self):\n        return self.currentTerm, self.role is Role.LEADER\n",
    )
    lab.run("-m", "2A", "-k", "Initial", "--raft", "raft.py", "--race", "--seed", "1", "--report", "out")
    header, *events = journal_in(lab, "out/logs/TestInitialElection2A-seed1.jsonl")
    assert "GetState" in header["races"][0]["summary"]
    assert 0 < header["races"][0]["t"] < events[-1]["t"]


def test_a_repetition_is_not_seen(lab: Lab) -> None:
    lab.variant("    def GetState(self):\n        print('who', 'asks?')\n        raise ValueError\n")
    args = ("-m", "2A", "-k", "Initial", "--sim", "--raft", "raft.py", "-s")
    shown = lab.run(*args, "--trials", "3", "--report", "out").stdout.str()
    assert shown.count("who asks?") == 3
    assert [e["text"] for e in journal_in(lab, next_journal(lab)) if e.get("kind") == "printed"] == ["who asks?"]


def next_journal(lab: Lab) -> str:
    return str(next(lab.pytester.path.glob("out/logs/*.jsonl")))


def test_nobody_is_asked_at_a_breakpoint_of_a_repetition(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stops: list[int] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stops.append(1))
    raft = tmp_path / "raft.py"
    raft.write_text(
        VARIANT.format(top="", body="    def GetState(self):\n        breakpoint()\n        return 0, False\n")
    )
    trial = virtual(raft)
    with pytest.raises(Exception, match="expected one leader") as failed:
        trial.run()
    before = len(stops)
    assert before > 0
    assert trial.repeat_with_journal(failed.value) == ""
    assert len(stops) == before


@pytest.mark.parametrize("how", [["--sim"], []], ids=["virtual", "real threads"])
def test_a_broken_rule_in_a_single_run_is_a_warning_below_its_test(lab: Lab, how: list[str]) -> None:
    lab.variant(
        "    passedOn = False\n"
        "    def AppendEntries(self, args, reply):\n"
        "        super().AppendEntries(args, reply)\n"
        "        if not self.passedOn:  # so two servers send in one term, whatever the threads do\n"
        "            self.passedOn = True\n"
        "            self.peers[(self.me + 1) % len(self.peers)].Call('Raft.AppendEntries', args, type(reply)())\n"
    )
    result = lab.run("-m", "2A", "-k", "Initial", "--raft", "raft.py", "--report", "out", *how)
    result.assert_outcomes(passed=1)
    warning = "the paper forbids this: servers * and * both sent as leader of term *, at * (section 5.2, *"
    result.stdout.fnmatch_lines(["  ... Passed*", f"  warning: {warning}"])
    (record,) = map(from_line, (lab.pytester.path / "out/records.jsonl").read_bytes().splitlines())
    assert record.warnings[0].startswith("the paper forbids this: servers ")


def test_of_many_trials_that_pass_none_is_judged(lab: Lab) -> None:
    args = ("-m", "2A", "-k", "Many", "--raft", BROKEN / "forgets_vote.py", "--seed", "1", "--sim")
    assert "the paper forbids" in lab.run(*args).stdout.str()
    assert "the paper forbids" not in lab.run(*args, "--trials", "2").stdout.str()


def test_the_first_broken_rule_of_a_failing_trial_stands_above_its_data(lab: Lab) -> None:
    raft = BROKEN / "half_the_votes_are_enough.py"
    result = lab.run("-m", "2A", "-k", "ReElect", "--raft", raft, "--sim", "--seed", "1", "--trials", "2")
    result.stdout.fnmatch_lines(["*- the paper's rules -*", "broken: servers * both sent as leader of term *"])


@pytest.mark.parametrize("how", [["--sim"], ["--sim", "--trials", "2", "-n", "1"], []], ids=" ".join)
def test_columns_are_shown_of_a_failing_test_when_asked_for_and_stand_in_the_report(lab: Lab, how: list[str]) -> None:
    raft = BROKEN / "half_the_votes_are_enough.py"
    args = ("-m", "2A", "-k", "ReElect", "--raft", raft, "--seed", "1", *how)
    result = lab.run(*args, "--columns", "--report", "out")
    result.stdout.fnmatch_lines(
        [
            "*- what happened -*",
            "     time  server 0  *",
            "*CUT OFF*",
            "*FAILED: expected no leader *",
            "pytest -m 2A *",
        ]
    )
    result.stdout.no_fnmatch_line("*\033*")
    title, repeat, empty, *lines = (lab.pytester.path / "out/logs/TestReElection2A-seed1.txt").read_text().splitlines()
    assert title.startswith("TestReElection2A, seed 1: expected no leader")
    assert (repeat.startswith("repeat with: pytest -m 2A -k TestReElection2A"), empty) == (True, "")
    assert "server 0" in lines[0]
    assert any("PAPER: servers" in line for line in lines)


def test_columns_are_coloured_on_a_terminal_alone_and_nobody_sees_them_unasked(lab: Lab) -> None:
    args = ("-m", "2A", "-k", "ReElect", "--sim", "--raft", BROKEN / "half_the_votes_are_enough.py", "--seed", "1")
    shown = lab.run(*args, "--columns", "--color=yes", "--report", "out").stdout.str()
    assert "\033[1;32mLEADER\033[0m of term 1" in shown
    assert "\033" not in (lab.pytester.path / "out/logs/TestReElection2A-seed1.log").read_text()
    assert "what happened" not in lab.run(*args).stdout.str()


def test_a_journal_that_cannot_be_written_is_no_reason_to_lose_the_run(lab: Lab) -> None:
    lab.pytester.makeconftest(
        "import labrun.plugin\n"
        "def full(*args): raise OSError(28, 'No space left on device')\n"
        "def odd(*args, **kwargs): raise ZeroDivisionError\n"
        "labrun.plugin.write_journal, labrun.plugin.columns = full, odd\n"
    )
    raft = BROKEN / "half_the_votes_are_enough.py"
    args = ("-m", "2A", "-k", "ReElect", "--raft", raft, "--sim", "--columns", "--report", "out")
    result = lab.run("-p", "conftest", *args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- no journal -*",
            "it cannot be written: *No space left on device",
            "*- what happened -*",
            "it could not be made, which is a defect of ours; please report it: ZeroDivisionError()",
        ]
    )
