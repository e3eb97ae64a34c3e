"""Sets a field of the reply that its dataclass does not declare.

Granted is written for VoteGranted, and Python lets any object have any attribute. It is not sent: every vote arrives
as a refusal, and LabgobWarning says why.

Part: 2A
Caught by: TestInitialElection2A: expected one leader, got none
Rate: 95%
"""

import raft.raft as base
from raft.raft import RequestVoteReply


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        answer = RequestVoteReply()
        super().RequestVote(args, answer)
        reply.Term = answer.Term
        reply.Granted = answer.VoteGranted


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
