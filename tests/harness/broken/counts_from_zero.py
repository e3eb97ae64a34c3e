"""The first entry has index 0.

Lists begin at 0, the log of the paper begins at 1 (Figure 2, State).

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def Start(self, command):
        index, term, isLeader = super().Start(command)
        return (index - 1 if isLeader else -1), term, isLeader


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
