"""Snapshot does nothing.

The service hands over a snapshot, and the log grows on (section 7).

Part: 2D
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def Snapshot(self, index, snapshot):
        pass


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
