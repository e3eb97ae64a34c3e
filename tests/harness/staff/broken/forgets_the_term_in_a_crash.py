"""Does not save currentTerm.

Only the log seems to be worth saving. A server that restarts begins at term 0 again, votes again in terms in which it
has voted, and follows leaders that are long deposed (Figure 2: persistent state).

Part: 2C
Caught by: TestPersist22C: apply error: commit index=N server=N N != server=N N
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.currentTerm = 0  # as if it had not been saved


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
