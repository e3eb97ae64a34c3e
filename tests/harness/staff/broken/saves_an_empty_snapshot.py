"""Writes an empty snapshot over the one it has whenever it saves its state.

SaveStateAndSnapshot wants both, and most callers of persist have no snapshot at hand. After a crash the log begins
behind a snapshot that is gone.

Part: 2D
Caught by: TestSnapshotInit2D: apply error: server N apply out of order, expected index N, got N
Caught by: TestSnapshotInstall2D: apply error: snapshot decode error
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def persist(self, snapshot=None):
        super().persist(snapshot or b"")


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
