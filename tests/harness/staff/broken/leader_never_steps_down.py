"""Stays leader when it hears of a newer term.

The newer term is looked for where followers and candidates need it, and the leader is forgotten (section 5.1; Figure
2, all servers). A leader that was cut off comes back, and goes on claiming to lead its old term; checkOneLeader
accepts that, so only a lack of a quorum shows it.

Part: 2A
Caught by: TestReElection2A: expected no leader among connected servers, but N claims to be leader
Rate: 20%
"""

import raft.raft as base
from raft.raft import Role


class Raft(base.Raft):
    def followNewerTerm(self, term):
        if self.role is not Role.LEADER:
            super().followNewerTerm(term)

    def stepDown(self):
        if self.role is not Role.LEADER:
            super().stepDown()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
