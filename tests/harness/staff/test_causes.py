"""Likely causes: each has a Raft that shows it, and none says of a trial what has not happened in it."""

from __future__ import annotations

import json
import re
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import REPOSITORY, VARIANT, Lab
from labrun import solution
from labrun.evidence import causes_of
from labrun.paper import Watch
from labrun.record import message_of
from labrun.virtual import VirtualTrial
from labwatch.source import Source
from mistakes import MISTAKES, Mistake
from watched import BROKEN


class Explained(NamedTuple):
    message: str
    causes: tuple[str, ...]


def explained(raft: Path, test: str, seeds: int = 6) -> Explained:
    """The first failure of a solution in virtual time, and what is said of it."""
    what = solution.find(str(raft), Path())
    for seed in range(seeds):
        file = REPOSITORY / f"tests/test_{test[-2:].lower()}.py"
        trial = VirtualTrial(what, file, test, seed, lambda line: None, journal=True)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            try:
                trial.run()
                continue
            except Exception as e:
                message = message_of(e)
        assert trial.journal is not None
        assert not trial.journal.failures
        rules = Watch.afterwards(trial.journal, test, virtual=True)
        broken = rules.broken if rules else []
        found = causes_of(trial.journal, what, sites=trial.sites, own_locks=trial.own_locks, seen=seen, broken=broken)
        return Explained(message, found)
    raise AssertionError(f"{raft.name} passes {test}")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)


# --- ten typical mistakes ------------------------------------------------------------------------------------------

SAID = {
    "the paper's election timeouts, which heartbeats do not reset": "does AppendEntries ({}) reset the election timer?",
    "the lock is held during the Call for a vote": "calls Raft.RequestVote at {}, in Raft.askForVote, and holds mu of server",
    "the ticker asks GetState, which takes the lock that the ticker holds": "which it holds itself: it came there from {}, in Raft.ticker",
    "the vote is put into a field that the reply does not have": "voteGranted is set at {}, and RequestVoteReply declares no such field",
    "every answer counts as a vote": "with 1 of 3 votes, its own included",
    "Start forgets to say whether this server leads": "Start ({}) of server",
    "one reply object for all heartbeats": "the reply of the Call at {} is no new one",
    "followers never learn what is committed": "does AppendEntries ({}) take LeaderCommit over?",
    "what a follower gets is not saved": "has saved nothing since it came",
    "what was saved is never read": "no line reads what it had saved",
}  # fmt: skip
"""What is said of each; {} is the file and the line of the mistake."""

LINE_IS_NEAR = {"every answer counts as a vote", "what was saved is never read"}
"""Those of which another line is named: that of the Call whose answers are counted; Make, which has the persister."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_typical_mistake_is_named_with_its_line(tmp_path: Path, mistake: Mistake) -> None:
    raft = tmp_path / "myraft.py"
    raft.write_text(mistake.source)
    found = explained(raft, mistake.test, seeds=12)
    said = SAID[mistake.name].format(f"myraft.py:{mistake.line}")
    assert any(said in cause for cause in found.causes), found
    if mistake.name not in LINE_IS_NEAR:
        assert any(f"myraft.py:{mistake.line}" in cause for cause in found.causes), found


def test_eight_of_ten_are_named_with_their_very_line() -> None:
    assert len(MISTAKES) == len(SAID) == 10
    assert len(LINE_IS_NEAR) <= 2


# --- the gallery ---------------------------------------------------------------------------------------------------

OF_THE_GALLERY = {
    "asks_one_peer_after_another": ("TestManyElections2A", "calls one peer after another"),
    "calls_while_holding_the_lock": ("TestReElection2A", "calls_while_holding_the_lock.py:20, in Raft.askForVote, and holds mu of"),
    "claims_to_lead_as_candidate": ("TestReElection2A", "what does GetState (claims_to_lead_as_candidate.py:16) take for a leader?"),
    "does_not_count_own_vote": ("TestReElection2A", "and said at"),
    "does_not_increment_term": ("TestInitialElection2A", "asked for votes in term 0"),
    "election_timeout_too_long": ("TestReElection2A", "none of them asked for votes: is the election timeout too long?"),
    "getstate_deadlocks": ("TestInitialElection2A", "which it holds itself"),
    "leader_never_steps_down": ("TestReElection2A", "take over a newer term?"),
    "leader_obeys_its_own_heartbeat": ("TestInitialElection2A", "to itself"),
    "replies_in_an_undeclared_field": ("TestInitialElection2A", "answers to RequestVote granted a vote, from"),
    "sends_private_fields": ("TestInitialElection2A", "of VoteReply begins with _, so it is not sent"),
    "votes_only_once_ever": ("TestReElection2A", "answers to RequestVote granted a vote, from"),
    "applies_out_of_order": ("TestBackup2B", "on applyCh after index"),
    "heartbeats_too_rare": ("TestBackup2B", "election timeouts must be several times longer"),
    "followers_save_nothing": ("TestPersist12C", "the paper forbids this: "),
    "forgets_the_term_in_a_crash": ("TestPersist22C", "before it was restarted at"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bug", OF_THE_GALLERY)
def test_a_bug_of_the_gallery_has_its_cause(bug: str) -> None:
    test, said = OF_THE_GALLERY[bug]
    found = explained(BROKEN / f"{bug}.py", test)
    assert any(said in cause for cause in found.causes), found


# --- what no file of the gallery shows -----------------------------------------------------------------------------

VARIANTS = {
    "no ticker": ("    def ticker(self):\n        pass\n", "TestInitialElection2A", r"no server ever sent RequestVote in \d"),
    "the same timeouts": (
        "    def resetElectionTimer(self):\n        self.electionDue = time.monotonic() + 0.4 - time.monotonic() % 0.2\n",
        "TestManyElections2A",
        r"in \d+ of \d+ terms two or more servers asked for votes and nobody led",
    ),
    "no applier": ("    def applier(self):\n        pass\n", "TestBasicAgree2B", r"nobody put anything on applyCh, though LeaderCommit was 1"),
    "never commits": ("    def advanceCommitIndex(self):\n        pass\n", "TestBasicAgree2B", r"and it never sent a LeaderCommit above 0"),
    "saves nothing": ("    def persist(self, *rest):\n        pass\n", "TestPersist12C", r"no server has ever saved anything"),
    "GetState says too little": ("    def GetState(self):\n        return self.currentTerm\n", "TestInitialElection2A", r"GetState \(myraft.py:\d+\) of server 0 did not return"),
    "acquire and release": (
        "    def askForVote(self, peer, args):\n        reply = RequestVoteReply()\n        self.mu.acquire()\n"
        "        try:\n            self.peers[peer].Call('Raft.RequestVote', args, reply)\n        finally:\n            self.mu.release()\n",
        "TestInitialElection2A",
        r"myraft.py:\d+, in Raft.askForVote, and holds mu of server \d",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_of_the_shipped_raft_has_its_cause(tmp_path: Path, variant: str) -> None:
    body, test, said = VARIANTS[variant]
    raft = tmp_path / "myraft.py"
    raft.write_text(VARIANT.format(top="", body=body))
    found = explained(raft, test)
    assert any(re.search(said, cause) for cause in found.causes), found


@pytest.mark.filterwarnings("ignore")
def test_a_lock_that_was_released_by_hand_is_not_said_to_be_held(tmp_path: Path) -> None:
    raft = tmp_path / "myraft.py"
    body = (
        "    def askForVote(self, peer, args):\n        with self.mu:\n            self.mu.release()\n"
        "            self.peers[peer].Call('Raft.RequestVote', args, RequestVoteReply())\n            self.mu.acquire()\n"
    )
    raft.write_text(VARIANT.format(top="", body=body))
    assert not any("holds" in cause for cause in explained(raft, "TestInitialElection2A").causes)


@pytest.mark.filterwarnings("ignore")
def test_files_that_the_solution_does_not_import_are_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("def f(persister):\n    return persister.ReadRaftState()\n")
    raft = tmp_path / "myraft.py"
    raft.write_text(next(m for m in MISTAKES if m.name == "what was saved is never read").source)
    assert any("no line reads" in cause for cause in explained(raft, "TestPersist12C").causes)


def test_a_file_that_cannot_be_parsed_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"def f(:\0")
    (tmp_path / "b.py").write_text("def Start(self):\n    self.mu.x = self.y\n")
    source = Source([tmp_path / "a.py", tmp_path / "b.py", tmp_path / "none.py"])
    assert str(source.head("Start")) == "b.py:1"
    assert [line.function for line in (*source.sets("x"), *source.reads("y"))] == ["Start", "Start"]
    assert source.head("GetState") is None


# --- where they are shown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [("--sim",), ("--sim", "--trials", "2"), ()], ids=" ".join)
def test_they_stand_below_the_failure_and_in_its_record(lab: Lab, how: tuple[str, ...]) -> None:
    lab.variant("    def ticker(self):\n        pass\n")
    result = lab.run("-m", "2A", "-k", "Initial", "--raft", "raft.py", *how, "--report", "out")
    said = "no server ever sent RequestVote in *"
    result.stdout.fnmatch_lines(["*- likely causes -*", said])
    if "--trials" not in how:
        result.stdout.fnmatch_lines(
            ["--- FAIL: TestInitialElection2A*", "*expected one leader*", f"    likely cause: {said}"]
        )
    records = json.loads((lab.pytester.path / "out/results.json").read_text())["trials"]
    assert all(record["causes"][0].startswith("no server ever sent RequestVote") for record in records)


def test_a_trial_that_passes_has_none(lab: Lab) -> None:
    lab.run("-m", "2A", "-k", "Initial", "--sim", "--report", "out").assert_outcomes(passed=1)
    (record,) = json.loads((lab.pytester.path / "out/results.json").read_text())["trials"]
    assert record["causes"] == []
