"""Sends the whole log in every AppendEntries.

nextIndex is left at 1, which is correct, as the receiver skips what it has, and costs more bytes with each command.

Part: 2B
Caught by: TestRPCBytes2B: too many RPC bytes; got N, expected N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def entriesSender(self, peer):
        self.nextIndex[peer] = self.lastIncludedIndex + 1
        return super().entriesSender(peer)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
