"""Answers in fields whose names begin with an underscore.

Python's habit for what is nobody else's business. As Go's lower-case fields, they are never sent: every vote arrives
as a refusal, and LabgobWarning says why.

Part: 2A
Caught by: TestInitialElection2A: expected one leader, got none
Rate: 95%
"""

from dataclasses import dataclass

import raft.raft as base
from raft.raft import RequestVoteReply, Role


@dataclass
class VoteReply:
    _term: int = 0
    _granted: bool = False


class Raft(base.Raft):
    def askForVote(self, peer, args):
        reply = VoteReply()
        if not self.peers[peer].Call("Raft.RequestVote", args, reply):
            return
        with self.mu:
            self.followNewerTerm(reply._term)
            if reply._granted and self.role is Role.CANDIDATE and self.currentTerm == args.Term:
                self.votes += 1
                self.becomeLeaderIfElected()

    def RequestVote(self, args, reply):
        answer = RequestVoteReply()
        super().RequestVote(args, answer)
        reply._term, reply._granted = answer.Term, answer.VoteGranted


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
