"""A follower saves its log with the next election, not with the entries.

persist() is called where the term changes, and forgotten in AppendEntries and Start; what the follower has
acknowledged is gone after a crash.

Part: 2C
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def setFrom(self, index, entries):
        super().setFrom(index, entries)
        self.unsaved = True

    def persist(self, snapshot=None):
        if not getattr(self, "unsaved", False):
            super().persist(snapshot)
        self.unsaved = False


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
