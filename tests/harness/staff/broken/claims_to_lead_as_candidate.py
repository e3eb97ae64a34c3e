"""Says in GetState that it leads while it is only a candidate.

Two states seem to be enough: follower, or not. A candidate without a quorum then claims to lead.

Part: 2A
Caught by: TestReElection2A: expected no leader among connected servers, but N claims to be leader
Caught by: TestManyElections2A: term N has N (>N) leaders
Rate: 95%
"""

import raft.raft as base
from raft.raft import Role


class Raft(base.Raft):
    def GetState(self):
        with self.mu:
            return self.currentTerm, self.role is not Role.FOLLOWER


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
