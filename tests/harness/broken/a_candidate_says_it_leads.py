"""GetState takes a candidate for a leader.

It answers whether the server is no follower. Where there is no majority, a candidate stays one for ever.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import Role


class Raft(base.Raft):
    def GetState(self):
        with self.mu:
            return self.currentTerm, self.role is not Role.FOLLOWER


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
