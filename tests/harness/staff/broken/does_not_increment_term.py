"""Starts an election in the term that it is in.

The first rule for candidates is overlooked: increment currentTerm (Figure 2). The first election works, in term 0,
and all votes of that term are given away in it.

Part: 2A
Caught by: TestInitialElection2A: term is N, but should be at least N
Caught by: TestReElection2A: expected one leader, got none
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def startElection(self):
        self.currentTerm -= 1  # the shipped one adds 1
        super().startElection()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
