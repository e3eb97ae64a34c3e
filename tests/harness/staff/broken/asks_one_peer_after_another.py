"""Asks its peers for their votes one after another.

A loop of Calls is the first thing that comes to mind. A server that was cut off lets a Call wait for up to seven
seconds; those behind it in the loop are asked when the election is long over (section 5.1: RPCs are issued in
parallel).

Part: 2A
Caught by: TestManyElections2A: expected one leader, got none
Caught by: TestReElection2A: expected one leader, got none
Rate: 90%
"""

import raft.raft as base
from raft.raft import RequestVoteArgs


class Raft(base.Raft):
    def startElection(self):
        others, self.others = self.others, []  # the shipped one asks nobody
        super().startElection()
        self.others = others
        last = self.lastIndex()
        self.go("candidate", self.askAll, RequestVoteArgs(self.currentTerm, self.me, last, self.term(last)))

    def askAll(self, args):
        for peer in self.others:
            self.askForVote(peer, args)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
