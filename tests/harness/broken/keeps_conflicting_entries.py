"""A follower appends, but never replaces.

Entries that conflict with new ones stay (Figure 2, AppendEntries, step 3); logs then differ at indexes that are
committed.

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def setFrom(self, index, entries):
        have = self.lastIndex() + 1 - index
        super().setFrom(max(index, self.lastIndex() + 1), entries[max(0, have) :])


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
