"""Saves its trimmed log, and not the snapshot that it got from the leader.

Snapshots of its own are saved in Snapshot; one that is installed seems to belong to the service. A server that
restarts has an older snapshot than its log begins with (section 7). The test has to crash it before it makes the next
one.

Part: 2D
Caught by: TestSnapshotInstallUnCrash2D: apply error: server N apply out of order, expected index N, got N
Caught by: TestSnapshotInstallCrash2D: apply error: server N apply out of order, expected index N, got N
Rate: 10%
"""

import raft.raft as base


class Raft(base.Raft):
    def persist(self, snapshot=None):
        itsOwn = self.lastIncludedIndex <= self.lastApplied
        super().persist(snapshot if itsOwn else None)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
