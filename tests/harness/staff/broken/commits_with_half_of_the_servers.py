"""Takes half of the servers, rounded down, for a majority.

`count >= len(peers) // 2` is right for the followers alone, and the leader is counted too. In a cluster of five, two
are enough to commit (Figure 2, leaders, last rule).

Part: 2B
Caught by: TestFailNoAgree2B: N committed but no majority
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def advanceCommitIndex(self):
        self.matchIndex[self.me] = self.lastIndex()
        for index in range(self.commitIndex + 1, self.lastIndex() + 1):
            replicas = sum(match >= index for match in self.matchIndex)
            if replicas >= len(self.peers) // 2 and self.term(index) == self.currentTerm:
                self.commitIndex = index
        self.applying.notify()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
