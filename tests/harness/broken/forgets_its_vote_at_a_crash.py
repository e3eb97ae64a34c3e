"""votedFor is not saved.

A server that voted, crashed and came back votes again in the same term (Figure 2, Persistent state). It takes a crash
between two requests of one term; the lab's crashes are hundreds of milliseconds apart, as are the terms.

Part: 2C
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.votedFor = None


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
