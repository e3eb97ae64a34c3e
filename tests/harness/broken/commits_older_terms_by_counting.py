"""A leader commits entries of earlier terms by counting.

The condition log[N].term == currentTerm is left out (Figure 2, Leaders; Figure 8 shows why it is there). It takes the
schedule of Figure 8, with the right two crashes, to lose something by that; the lab's tests of that name seldom come
upon it.

Part: 2C
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def advanceCommitIndex(self):
        self.matchIndex[self.me] = self.lastIndex()
        majority = sorted(self.matchIndex)[(len(self.peers) - 1) // 2]
        if majority > self.commitIndex:
            self.commitIndex = majority
            self.applying.notify()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
