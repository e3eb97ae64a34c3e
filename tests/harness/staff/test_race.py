"""`--race`: what it finds in Rafts, what it leaves alone, and what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import REPOSITORY, VARIANT, Lab
from labrun import solution
from labrun.settings import RACE_SHARE
from labrun.virtual import VirtualTrial
from labsim.races import Race
from raft.config import LabFailure

SEEDS = 20
STYLES = sorted((REPOSITORY / "tests/harness/staff/styles").glob("*.py"))


def races(what: Path, test: str, seed: int, *, must_pass: bool = False) -> list[Race]:
    """The races in one trial of a lab test. The test itself may well fail."""
    part = test[-2:].lower()
    file = REPOSITORY / f"tests/test_{part}.py"
    trial = VirtualTrial(solution.find(str(what), Path()), file, test, seed, lambda line: None, race_share=RACE_SHARE)
    try:
        trial.run()
    except LabFailure:
        if must_pass:
            raise
    return trial.races


# Each is a Raft with one race, in the lines that say so. The lab test has threads enough to show it.
RACY = {
    "GetState without the lock": (
        "TestInitialElection2A",
        """
    def GetState(self):
        return self.currentTerm, self.role is Role.LEADER  # racy
""",
    ),
    "a flag for Kill": (
        "TestInitialElection2A",
        """
    stopped = False

    def Kill(self):
        self.stopped = True  # racy
        super().Kill()

    def readPersist(self):
        super().readPersist()
        self.go("watcher", self.watch)

    def watch(self):
        while not self.stopped:  # racy
            time.sleep(0.01)
""",
    ),
    "votes counted in a closure": (
        "TestInitialElection2A",
        """
    def startElection(self):
        self.role = Role.CANDIDATE
        self.currentTerm += 1
        self.votedFor = self.me
        self.persist()
        self.resetElectionTimer()
        last = self.lastIndex()
        args = RequestVoteArgs(self.currentTerm, self.me, last, self.term(last))
        votes = 1

        def ask(peer):
            nonlocal votes
            reply = RequestVoteReply()
            if self.peers[peer].Call("Raft.RequestVote", args, reply) and reply.VoteGranted:
                votes += 1  # racy
                with self.mu:
                    if self.role is Role.CANDIDATE and self.currentTerm == args.Term:
                        self.votes = votes
                        self.becomeLeaderIfElected()

        for peer in self.others:
            self.go("candidate", ask, peer)
""",
    ),
    "nextIndex written when replies arrive": (
        "TestConcurrentStarts2B",
        """
    def Start(self, command):
        with self.mu:
            if self.role is not Role.LEADER:
                return -1, self.currentTerm, False
            self.setFrom(self.lastIndex() + 1, [LogEntry(self.currentTerm, command)])
            self.persist()
            self.broadcast()
            return self.lastIndex(), self.currentTerm, True

    def entriesSender(self, peer):
        prev = self.nextIndex[peer] - 1
        args = AppendEntriesArgs(
            self.currentTerm, self.me, prev, self.term(prev), self.entriesFrom(prev + 1), self.commitIndex
        )

        def send():
            reply = AppendEntriesReply()
            if not self.peers[peer].Call("Raft.AppendEntries", args, reply):
                return False
            if reply.Success:
                self.nextIndex[peer] = prev + len(args.Entries) + 1  # racy
            with self.mu:
                if reply.Success and self.stillLeading(reply.Term, args.Term):
                    self.matchIndex[peer] = max(self.matchIndex[peer], prev + len(args.Entries))
                    self.advanceCommitIndex()
            return reply.Success

        return send
""",
    ),
    "an entry appended outside the lock": (
        "TestConcurrentStarts2B",
        """
    def Start(self, command):
        with self.mu:
            if self.role is not Role.LEADER:
                return -1, self.currentTerm, False
            term, index = self.currentTerm, self.lastIndex() + 1
            self.savedLog.setFrom(len(self.log), [LogEntry(term, command)])
        self.log.append(LogEntry(term, command))  # racy
        return index, term, True
""",
    ),
    "the lock let go between check and act": (
        "TestManyElections2A",
        """
    def RequestVote(self, args, reply):
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            grant = args.Term == self.currentTerm and self.votedFor in (None, args.CandidateId)
        if grant:
            reply.VoteGranted = True
            self.votedFor = args.CandidateId  # racy, too, but seldom seen
            self.resetElectionTimer()  # racy
""",
    ),
    "two locks for one field": (
        "TestInitialElection2A",
        """
    def __init__(self, *args):
        super().__init__(*args)
        self.stateLock = threading.Lock()

    def GetState(self):
        with self.stateLock:
            return self.currentTerm, self.role is Role.LEADER  # racy
""",
    ),
    "a Timer without the lock": (
        "TestInitialElection2A",
        """
    def ticker(self):
        self.again()
        super().ticker()

    def again(self):
        if self.role is Role.LEADER:  # racy
            self.dueForHeartbeat = True
        if not self.killed():
            threading.Timer(0.05, self.again).start()
""",
    ),
    "arguments made after the lock was let go": (
        "TestManyElections2A",
        """
    def startElection(self):
        super().startElection()
        self.go("late", self.late)

    def late(self):
        with self.mu:
            candidate = self.role is Role.CANDIDATE
        if candidate:
            RequestVoteArgs(self.currentTerm, self.me)  # racy
""",
    ),
    "a property without the lock": (
        "TestInitialElection2A",
        """
    @property
    def isLeader(self):
        return self.role is Role.LEADER  # racy

    def GetState(self):
        with self.mu:
            term = self.currentTerm
        return term, self.isLeader
""",
    ),
    "the log itself in a message": (
        "TestConcurrentStarts2B",
        """
    def entriesSender(self, peer):
        send = super().entriesSender(peer)
        args = AppendEntriesArgs(self.currentTerm, self.me, -1, 0, self.log)

        def late():
            self.peers[peer].Call("Raft.AppendEntries", args, AppendEntriesReply())  # racy
            return send()

        return late
""",
    ),
    "one reply for all": (
        "TestInitialElection2A",
        """
    reply = RequestVoteReply()

    def askForVote(self, peer, args):
        reply = self.reply
        if self.peers[peer].Call("Raft.RequestVote", args, reply):  # racy
            with self.mu:
                if reply.VoteGranted and self.role is Role.CANDIDATE and self.currentTerm == args.Term:  # racy, in few seeds
                    self.votes += 1
                    self.becomeLeaderIfElected()
""",
    ),
}


@pytest.mark.parametrize("bug", RACY)
@pytest.mark.filterwarnings("ignore")
def test_a_racy_raft_is_found_out_at_the_right_lines(tmp_path: Path, bug: str) -> None:
    test, body = RACY[bug]
    source = VARIANT.format(top="", body=body)
    (tmp_path / "raft.py").write_text(source)
    marked = {i + 1 for i, line in enumerate(source.splitlines()) if line.endswith("# racy")}
    allowed = {i + 1 for i, line in enumerate(source.splitlines()) if "# racy" in line}
    found: set[int] = set()
    for seed in range(SEEDS):
        for race in races(tmp_path, test, seed):
            lines = {_line_in(tmp_path, place) for access in (race.first, race.second) for place in access.stack}
            assert lines & allowed, f"{race}\n\nis none of those that the program has"
            found |= lines & marked
        if found == marked:
            break
    assert found == marked


def _line_in(folder: Path, place: str) -> int:
    file, _, rest = place.partition(":")
    return int(rest.split()[0]) if Path(file).parent == folder else 0


@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("test", ["TestManyElections2A", "TestUnreliableChurn2C", "TestSnapshotInstallUnCrash2D"])
def test_a_correct_raft_of_any_style_has_none(style: Path, test: str) -> None:
    for seed in range(3) if test.endswith("2A") else [1]:
        assert races(style, test, seed, must_pass=True) == []


@pytest.mark.parametrize(
    "test", ["TestManyElections2A", "TestBackup2B", "TestPersist22C", "TestSnapshotInstallUnCrash2D"]
)
def test_the_shipped_raft_has_none(test: str) -> None:
    for seed in range(2):
        assert races(REPOSITORY / "raft/raft.py", test, seed, must_pass=True) == []


def test_a_report_has_all_that_is_needed(lab: Lab) -> None:
    lab.variant(
        """
    def GetState(self):
        return self.currentTerm, self.leads

    @property
    def leads(self):
        return self.role is Role.LEADER
"""
    )
    result = lab.run("-m", "2A", "--race", "--raft", "raft.py", "-k", "Initial", "--seed", "5")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"lab: --raft raft.py --seed 5, virtual time with the race detector",
            r"  \.\.\. Passed --",  # for the lab's own checks have passed
            r"--- FAIL: TestInitialElection2A",
            r"    data race on Raft\.\w+: (read|write) in Raft\.\w+, line \d+ / (read|write) in Raft\.\w+, line \d+",
            r"-+ data races -+",
            r"DATA RACE on Raft\.\w+ of server \d",
            r"-+ repeat with -+",
            r"pytest -m 2A -k TestInitialElection2A --raft raft.py --race --seed 5",
        ],
        consecutive=False,
    )
    text = result.stdout.str()
    race = text[text.index("DATA RACE on Raft.role") :].split("\n\n")[0]
    assert (
        "  unordered with the read by MainThread, holding no lock:" in race
        or "  read by MainThread, holding no lock:" in race
    )
    assert (
        "    raft.py:15 in Raft.leads\n      return self.role is Role.LEADER\n    called at raft.py:11 in Raft.GetState"
        in race
    )
    assert "holding mu:" in race
    assert "was started at" in race
    assert "Take the lock for the access in Raft.leads, too." in race


def test_races_and_a_failure_of_the_lab_are_both_shown(lab: Lab) -> None:
    lab.variant("    def GetState(self):\n        return self.currentTerm, False\n")
    result = lab.run("-m", "2A", "--race", "--raft", "raft.py", "-k", "Initial", "--seed", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * expected one leader, got none*", "DATA RACE on Raft.currentTerm of server *"])


def test_trials_group_the_same_race(lab: Lab) -> None:
    lab.variant("    def GetState(self):\n        return self.currentTerm, super().GetState()[1]\n")
    result = lab.run(
        "-m", "2A", "--race", "--raft", "raft.py", "-k", "Initial", "--trials", "6", "--seed", "1", "-n", "2"
    )
    result.assert_outcomes(failed=6)
    result.stdout.re_match_lines(
        [
            r"TestInitialElection2A: data race on Raft.currentTerm: .*Raft.GetState, line \d+.*",
            r"    \d of 6 trials; seeds [\d, ]+",
            r"    repeat with: pytest -m 2A -k TestInitialElection2A --raft raft.py --race --seed \d",
        ]
    )


@pytest.mark.parametrize("share", ["2", "x", "-1"])
def test_a_share_is_a_probability(lab: Lab, share: str) -> None:
    result = lab.run_quick(f"--race-share={share}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --race-share takes a number from 0 to 1, not {share!r}"])


def test_a_race_repeats_with_its_options(lab: Lab) -> None:
    lab.variant("    def GetState(self):\n        return self.currentTerm, super().GetState()[1]\n")
    command = ["-m", "2A", "-k", "Initial", "--raft", "raft.py", "--race", "--race-share", "0.5", "--schedule", "pct"]
    result = lab.run(*command, "--seed", "3")
    result.stdout.fnmatch_lines(
        ["pytest -m 2A -k TestInitialElection2A --raft raft.py --race --race-share 0.5 --schedule pct --seed 3"]
    )
    reports = [
        lab.run(*command, "--seed", "3").stdout.str().split("data races")[1].split("repeat with")[0] for _ in "12"
    ]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("test", ["TestManyElections2A", "TestFigure8Unreliable2C", "TestSnapshotInstallUnCrash2D"])
def test_the_harness_has_none_either(monkeypatch: pytest.MonkeyPatch, test: str) -> None:
    """But for labgob, where what functools.cache hands over from thread to thread is ordered in C, unseen.

    So are the single steps of the network's list of idle workers and of those who wait, which need no lock of ours, and
    what is in a worker that somebody takes from there.
    """
    in_one_step = {"Network._idle", "Network._waiting", "_Worker._task", "_Worker._given"}
    harness = tuple(str(REPOSITORY / folder) for folder in ("labrpc", "raft", "tests"))
    monkeypatch.setattr(VirtualTrial, "_is_solutions", lambda self, path: path.startswith(harness))
    found = races(REPOSITORY / "raft/raft.py", test, 1, must_pass=True)
    assert {race.variable for race in found} <= in_one_step
