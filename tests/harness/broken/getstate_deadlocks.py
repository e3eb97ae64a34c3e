"""GetState takes the lock twice.

A method that takes the lock calls another one that takes it too. A Go mutex, and a threading.Lock, then wait for
themselves; the first check of the test never returns.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import Role


class Raft(base.Raft):
    def GetState(self):
        with self.mu:
            return self.currentTerm, self.isLeader()

    def isLeader(self):
        with self.mu:
            return self.role is Role.LEADER


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
