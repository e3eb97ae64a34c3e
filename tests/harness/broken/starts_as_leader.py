"""Every server begins as a leader.

The role is an enumeration of which the first member is the leader, and the zero value is never replaced.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import Role


class Raft(base.Raft):
    def boot(self):
        self.role = Role.LEADER
        super().boot()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
