"""After a restart the log is taken to begin at index 1.

lastIncludedIndex is not saved with the state, so that all indexes are off by it (section 7).

Part: 2D
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.lastIncludedIndex = self.commitIndex = self.lastApplied = 0


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
