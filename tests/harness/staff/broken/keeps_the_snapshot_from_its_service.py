"""Installs a snapshot, and does not pass it on to its service.

The log is trimmed, the state is saved, and the service seems to know its own snapshots. This one is the leader's: the
service goes on with a gap (section 7: reset state machine using snapshot contents).

Part: 2D
Caught by: TestSnapshotInstall2D: apply error: server N apply out of order, expected index N, got N
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def InstallSnapshot(self, args, reply):
        super().InstallSnapshot(args, reply)
        with self.mu:
            if self.snapshotToApply:
                self.lastApplied = self.snapshotToApply.SnapshotIndex
                self.snapshotToApply = None


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
