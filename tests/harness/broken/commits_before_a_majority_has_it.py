"""A leader commits what it has itself.

Start advances commitIndex at once; that the entry is replicated is taken for granted (section 5.3).

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def Start(self, command):
        index, term, isLeader = super().Start(command)
        if isLeader:
            with self.mu:
                self.commitIndex = max(self.commitIndex, index)
                self.applying.notify()
        return index, term, isLeader


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
