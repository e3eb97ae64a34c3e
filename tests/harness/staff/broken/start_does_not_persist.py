"""Does not save the entry that Start adds.

The handlers save before they answer, and Start answers no RPC. But the leader counts itself in the majority: it
commits an entry, crashes, and comes back without it.

Part: 2C
Caught by: TestPersist32C: apply error: commit index=N server=N N != server=N N
Rate: 90%
"""

import raft.raft as base
from raft.raft import LogEntry, Role


class Raft(base.Raft):
    def Start(self, command):
        with self.mu:
            if self.role is not Role.LEADER:
                return -1, self.currentTerm, False
            self.setFrom(self.lastIndex() + 1, [LogEntry(self.currentTerm, command)])
            for peer in self.others:
                if not self.sender[peer]:
                    self.sender[peer] = self.go(f"replicator to {peer}", self.replicate, peer)
            return self.lastIndex(), self.currentTerm, True


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
