"""Nothing is saved.

persist() is still the comment of the skeleton.

Part: 2C
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def persist(self, snapshot=None):
        pass


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
