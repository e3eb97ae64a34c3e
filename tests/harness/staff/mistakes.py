"""Ten mistakes as students make them, each a change or two of the plainest right Raft (`broken/_plain.py`).

They were written down before anything that explains failures was, to judge it: `at` marks the line that is wrong, or the
head of the method in which one is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLAIN = Path(__file__).parent / "broken/_plain.py"

MAKE = """

def Make(peers, me, persister, applyCh):
    return make(Raft, peers, me, persister, applyCh)
"""


@dataclass(frozen=True)
class Mistake:
    name: str
    test: str  # of the lab, that fails by it
    changes: tuple[tuple[str, str], ...]  # what stood there once, and what was written in its place
    at: str  # a text that stands in one line of the result only

    @property
    def source(self) -> str:
        text = PLAIN.read_text() + MAKE
        for old, new in self.changes:
            assert text.count(old) == 1, f"{self.name}: {old!r} stands there {text.count(old)} times"
            text = text.replace(old, new)
        return text

    @property
    def line(self) -> int:
        lines = [number for number, line in enumerate(self.source.splitlines(), 1) if self.at in line]
        assert len(lines) == 1, f"{self.name}: {self.at!r} stands in lines {lines}"
        return lines[0]


MISTAKES = (
    Mistake(
        "the paper's election timeouts, which heartbeats do not reset",
        "TestFigure8Unreliable2C",
        (
            ("random.uniform(0.4, 0.8)", "random.uniform(0.15, 0.3)"),
            (
                '            self.state = "follower"\n            self.resetElectionTimer()\n',
                '            self.state = "follower"\n',
            ),
        ),
        at="def AppendEntries(",
    ),
    Mistake(
        "the lock is held during the Call for a vote",
        "TestReElection2A",
        ((
            """        reply = RequestVoteReply()
        if not self.peers[peer].Call("Raft.RequestVote", args, reply):
            return
        with self.mu:
""",
            """        reply = RequestVoteReply()
        with self.mu:
            if not self.peers[peer].Call("Raft.RequestVote", args, reply):
                return
""",
        ),),
        at='Call("Raft.RequestVote"',
    ),
    Mistake(
        "the ticker asks GetState, which takes the lock that the ticker holds",
        "TestInitialElection2A",
        ((
            """                if self.state == "leader" and now >= self.heartbeatDue:""",
            """                _, isLeader = self.GetState()
                if isLeader and now >= self.heartbeatDue:""",
        ),),
        at="_, isLeader = self.GetState()",
    ),
    Mistake(
        "the vote is put into a field that the reply does not have",
        "TestInitialElection2A",
        ((
            "self.votedFor, reply.VoteGranted = args.CandidateId, True",
            "self.votedFor, reply.voteGranted = args.CandidateId, True",
        ),),
        at="reply.voteGranted",
    ),
    Mistake(
        "every answer counts as a vote",
        "TestRejoin2B",
        ((
            """if reply.VoteGranted and self.state == "candidate" and self.currentTerm == args.Term:""",
            """if self.state == "candidate":""",
        ),),
        at='if self.state == "candidate":',
    ),
    Mistake(
        "Start forgets to say whether this server leads",
        "TestBasicAgree2B",
        (("return len(self.log) - 1, self.currentTerm, True", "return len(self.log) - 1, self.currentTerm"),),
        at="def Start(",
    ),
    Mistake(
        "one reply object for all heartbeats",
        "TestFailAgree2B",
        (
            ("        self.resetElectionTimer()\n\n    def go(", "        self.reply = AppendEntriesReply()\n        self.resetElectionTimer()\n\n    def go("),
            ("        return AppendEntriesReply()\n", "        return self.reply\n"),
        ),
        at='Call("Raft.AppendEntries"',
    ),
    Mistake(
        "followers never learn what is committed",
        "TestBasicAgree2B",
        ((
            """            if args.LeaderCommit > self.commitIndex:
                self.commitIndex = min(args.LeaderCommit, prev + len(args.Entries))
""",
            "",
        ),),
        at="def AppendEntries(",
    ),
    Mistake(
        "what a follower gets is not saved",
        "TestPersist12C",
        ((
            """            self.append(prev, args.Entries)
            self.persist()
""",
            """            self.append(prev, args.Entries)
""",
        ),),
        at="def AppendEntries(",
    ),
    Mistake(
        "what was saved is never read",
        "TestPersist12C",
        ((
            """        if data := persister.ReadRaftState():
            d = labgob.NewDecoder(io.BytesIO(data))
            self.currentTerm, self.votedFor, self.log = d.Decode(int), d.Decode(int), d.Decode(list[LogEntry])
""",
            "",
        ),),
        at="def __init__(",
    ),
)  # fmt: skip
