"""Saves the snapshot, and keeps the log that it stands for.

To remove entries shifts every index of the program, so it is put off. The saved state grows without end.

Part: 2D
Caught by: TestSnapshotBasic2D: Log size too large
Caught by: TestSnapshotInstall2D: Log size too large
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def Snapshot(self, index, snapshot):
        with self.mu:
            self.persist(snapshot)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
