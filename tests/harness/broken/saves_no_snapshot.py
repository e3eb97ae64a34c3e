"""The state is saved without the snapshot.

After a crash the log begins behind entries that nobody has any more.

Part: 2D
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def persist(self, snapshot=None):
        super().persist(None if snapshot is None else b"")


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
