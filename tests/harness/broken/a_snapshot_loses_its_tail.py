"""With a snapshot the whole log is thrown away.

The entries behind the snapshot's index, committed or not, go with those before it (section 7).

Part: 2D
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def discardUpTo(self, index, term):
        super().discardUpTo(index, term)
        self.setFrom(index + 1, [])


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
