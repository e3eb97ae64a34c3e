"""Believes after a crash that all entries of its saved log are applied.

lastApplied is not among what Figure 2 saves, so it is guessed from the log. The service of part 2C keeps what it has
seen over a crash, so the gap is not noticed there; that of 2D begins at its snapshot.

Part: 2D
Caught by: TestSnapshotInstallCrash2D: apply error: server N apply out of order, expected index N, got N
Rate: 80%
"""

import raft.raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.commitIndex = self.lastApplied = self.lastIndex()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
