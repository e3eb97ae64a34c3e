"""currentTerm and votedFor are saved, the log is not.

Figure 2 has three persistent variables, and the log looks as if it could be had from the others.

Part: 2C
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.setFrom(1, [])


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
