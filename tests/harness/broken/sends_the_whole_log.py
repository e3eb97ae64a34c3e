"""Every AppendEntries carries the whole log.

It is correct, and simple: nextIndex stays at 1.

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def entriesSender(self, peer):
        self.nextIndex[peer] = 1
        return super().entriesSender(peer)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
