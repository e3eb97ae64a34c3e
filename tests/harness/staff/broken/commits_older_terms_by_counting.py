"""Commits entries of older terms by counting replicas.

The condition log[N].term == currentTerm in Figure 2 looks like a detail; section 5.4.2 and Figure 8 tell why it is
there. The loss takes a leader that commits an old entry and crashes before its own first entry is anywhere.
TestFigure82C tries for that a thousand times in a run, and in 300 runs of virtual time it did not happen once. The
paper's rules see the LeaderCommit itself, in nearly every trial of 2C.

Part: 2C
Caught by: nothing
"""

import raft.raft as base


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
