"""Saves the trimmed log, and not the snapshot that stands for the rest.

persist is called at the end of Snapshot as everywhere else. Leader and restarted server then have neither the entries
nor the snapshot.

Part: 2D
Caught by: TestSnapshotInit2D: apply error: server N apply out of order, expected index N, got N
Caught by: TestSnapshotInit2D: apply error: snapshot decode error
Caught by: TestSnapshotInstall2D: apply error: snapshot decode error
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def persist(self, snapshot=None):
        super().persist()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
