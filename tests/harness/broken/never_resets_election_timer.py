"""Nothing puts an election off.

The timer is set when an election begins, but neither a heartbeat nor a vote sets it again (Figure 2, Followers). A
good leader is deposed twice a second.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import Role


class Raft(base.Raft):
    def resetElectionTimer(self):
        if self.role is Role.CANDIDATE:
            super().resetElectionTimer()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
