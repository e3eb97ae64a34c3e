"""Does not save its log.

It saves the two numbers that elections need, and the log is left for later. What was committed is gone when all
restart (Figure 2: persistent state).

Part: 2C
Caught by: TestPersist12C: apply error: commit index=N server=N N != server=N N
Caught by: TestPersist22C: apply error: commit index=N server=N N != server=N N
Caught by: TestPersist32C: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.setFrom(self.lastIncludedIndex + 1, [])  # as if it had not been saved


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
