"""Begins to apply at index 1 after a crash, although a snapshot stands for what comes first.

lastApplied is volatile in Figure 2, and begins at 0. With a snapshot it begins at lastIncludedIndex, and so does
commitIndex (section 7).

Part: 2D
Caught by: TestSnapshotInit2D: apply error: server N apply out of order, expected index N, got N
Caught by: TestSnapshotAllCrash2D: apply error: server N apply out of order, expected index N, got N
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.lastApplied = 0


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
