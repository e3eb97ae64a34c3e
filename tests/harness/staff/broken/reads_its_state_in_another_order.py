"""Reads votedFor and currentTerm in another order than it saves them.

labgob writes one value after the other, and no names. With -1 for nobody both are ints, so nothing complains: the
server comes back in a term of long ago, and votes again in those between.

Part: 2C
Caught by: TestPersist22C: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.currentTerm, self.votedFor = -1 if self.votedFor is None else self.votedFor, self.currentTerm


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
